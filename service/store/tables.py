"""The tables. Times are seconds since 1970 by the database's clock; documents are JSON, kept whole."""

from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Document = JSON().with_variant(JSONB(), "postgresql")


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {float: Double, dict[str, Any]: Document, list[Any]: Document, str: Text}


class Job(Base):
    """A job: its spec whole, a column for what is queried, and the lease of its present attempt."""

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    owner: Mapped[str]
    name: Mapped[str | None]
    labels: Mapped[dict[str, Any]]
    document: Mapped[dict[str, Any]]  # as it came
    resolved: Mapped[dict[str, Any]]  # as it runs
    notices: Mapped[list[Any]]

    # Written by jobs.move alone: nothing else may change it.
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(String(40))
    sentence: Mapped[str | None]
    details: Mapped[dict[str, Any] | None] = mapped_column(Document)

    queue: Mapped[str] = mapped_column(String(64))
    priority: Mapped[int]
    max_lost: Mapped[int]
    max_retries: Mapped[int] = mapped_column(default=3, server_default="3")
    max_seconds: Mapped[float | None]  # of running, over all attempts
    deadline: Mapped[float | None]
    artifacts_ttl_seconds: Mapped[float | None]

    spec_version: Mapped[int] = mapped_column(server_default="1")  # of the language that `resolved` is written in
    gpus: Mapped[int] = mapped_column(server_default="-1")  # how many it asks for; -1: one where the worker has one
    gpu_permille: Mapped[int] = mapped_column(server_default="1000")  # of a GPU's memory: sums of thousandths are exact
    gpu_gb: Mapped[int] = mapped_column(server_default="0")  # that it needs of a GPU at the least; 0: not known
    extras: Mapped[str] = mapped_column(String(120), default="", server_default=text("''"))  # its worker must have them: a,b

    attempt: Mapped[int] = mapped_column(default=0)  # the fencing token
    worker: Mapped[str | None]
    lease_until: Mapped[float | None]
    lost: Mapped[int] = mapped_column(default=0)
    retries: Mapped[int] = mapped_column(default=0, server_default="0")
    not_before: Mapped[float | None]  # no attempt begins sooner
    running_since: Mapped[float | None]
    ran_seconds: Mapped[float] = mapped_column(default=0.0, server_default="0")  # of the attempts before the present one
    cancel_requested_at: Mapped[float | None]
    pause_requested_at: Mapped[float | None]
    bell_rung_at: Mapped[float | None]
    progress: Mapped[dict[str, Any] | None] = mapped_column(Document)

    created_at: Mapped[float]
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]
    expires_at: Mapped[float | None]  # when what an ended job made is removed
    changed_at: Mapped[float]
    version: Mapped[int] = mapped_column(default=1)
    event_count: Mapped[int] = mapped_column(default=0)
    request_id: Mapped[str | None]  # of the request that made it
    trace: Mapped[str | None] = mapped_column(String(64))  # that request's traceparent, where the operator keeps traces

    __table_args__ = (
        CheckConstraint("state IN ('queued', 'running', 'paused', 'succeeded', 'failed', 'cancelled')", name="state_is_known"),
        CheckConstraint("(state = 'running') = (worker IS NOT NULL)", name="running_has_worker"),
        CheckConstraint("(state = 'running') = (lease_until IS NOT NULL)", name="running_has_lease"),
        CheckConstraint("(state IN ('succeeded', 'failed', 'cancelled')) = (finished_at IS NOT NULL)", name="ended_has_time"),
        CheckConstraint("(state = 'failed') = (reason IS NOT NULL)", name="failed_has_reason"),
        Index("ix_jobs_created", "owner", "created_at", "id"),
        Index("ix_jobs_of_all", "created_at", "id"),
        # true of every row, so that only who says it too is served: SQLite would take this index before the partial ones below
        Index(
            "ix_jobs_state_of_all",
            "state",
            "created_at",
            "id",
            postgresql_where=text("created_at > 0"),
            sqlite_where=text("created_at > 0"),
        ),
        Index(
            "ix_jobs_waiting",
            "queue",
            "priority",
            "owner",
            "gpus",
            "gpu_permille",
            "gpu_gb",
            "spec_version",
            "extras",
            "created_at",
            "id",
            # no order, but whether the job is ready: thousands are counted without a look at their rows
            "not_before",
            "cancel_requested_at",
            "deadline",
            "max_seconds",
            "ran_seconds",
            "state",
            postgresql_where=text("state = 'queued'"),
            sqlite_where=text("state = 'queued'"),
        ),
        Index("ix_jobs_running", "owner", postgresql_where=text("state = 'running'"), sqlite_where=text("state = 'running'")),
        Index("ix_jobs_state", "owner", "state", "created_at", "id"),
        Index(
            "ix_jobs_finished",
            "finished_at",
            postgresql_where=text("finished_at IS NOT NULL"),
            sqlite_where=text("finished_at IS NOT NULL"),
        ),
        Index(
            "ix_jobs_bells",
            "bell_rung_at",
            "queue",
            postgresql_where=text("state = 'queued'"),
            sqlite_where=text("state = 'queued'"),
        ),
        Index(
            "ix_jobs_deadlines",
            "deadline",
            postgresql_where=text("deadline IS NOT NULL AND state IN ('queued', 'paused')"),
            sqlite_where=text("deadline IS NOT NULL AND state IN ('queued', 'paused')"),
        ),
        Index(
            "ix_jobs_limited",
            "max_seconds",
            postgresql_where=text("state = 'queued' AND max_seconds IS NOT NULL AND ran_seconds > 0"),
            sqlite_where=text("state = 'queued' AND max_seconds IS NOT NULL AND ran_seconds > 0"),
        ),
        Index(
            "ix_jobs_expiring",
            "expires_at",
            postgresql_where=text("expires_at IS NOT NULL"),
            sqlite_where=text("expires_at IS NOT NULL"),
        ),
        Index(
            "ix_jobs_leases", "lease_until", postgresql_where=text("state = 'running'"), sqlite_where=text("state = 'running'")
        ),
        Index(
            "ix_jobs_paused",
            "queue",
            "created_at",
            postgresql_where=text("state = 'paused'"),
            sqlite_where=text("state = 'paused'"),
        ),
    )


class JobLabel(Base):
    """A label of a job, for lists: with what they are in order of, so that few are found among many at once."""

    __tablename__ = "job_labels"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str]
    owner: Mapped[str]
    created_at: Mapped[float]

    __table_args__ = (
        Index("ix_job_labels_listed", "owner", "name", "value", "created_at", "job_id"),
        Index("ix_job_labels_of_all", "name", "value", "created_at", "job_id"),
    )


class JobReference(Base):
    """That a job's arguments name another job, or an uploaded file, or one that there was."""

    __tablename__ = "job_references"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    to_job: Mapped[str] = mapped_column(String(40), primary_key=True)

    __table_args__ = (Index("ix_job_references_to_job", "to_job"),)


class Worker(Base):
    """A host's worker, as it reported itself when it started. Whether it is there now is for its heartbeat to say."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    instance: Mapped[str] = mapped_column(String(40))  # of one process; the next of that name has another
    host: Mapped[str]
    pid: Mapped[int]
    machine: Mapped[str]  # of one boot and one space of process ids: a pid means something within it
    process_started_at: Mapped[float]  # seconds after that machine's boot: pids are used again
    software: Mapped[str]
    spec_versions: Mapped[list[Any]]  # the versions of the language of jobs that it reads
    queues: Mapped[list[Any]]
    # what is installed there beside what every worker has; None: it is of a version that did not say
    extras: Mapped[list[Any] | None] = mapped_column(Document)
    sharing: Mapped[bool]  # whether its operator lets jobs share a GPU
    lease_seconds: Mapped[float]  # unheard of for longer, it is lost
    started_at: Mapped[float]
    heartbeat_at: Mapped[float]
    stopped_at: Mapped[float | None]  # it ended by itself, and said so
    draining: Mapped[bool]  # takes no new jobs
    stop_jobs: Mapped[bool]  # gives back those that run, at a checkpoint
    reserved_for: Mapped[str | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"), unique=True)


class Slot(Base):
    """A place for a job at a worker: one of its GPUs, or a share of its CPUs."""

    __tablename__ = "slots"

    worker: Mapped[str] = mapped_column(ForeignKey("workers.name", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    device: Mapped[str | None]  # for CUDA_VISIBLE_DEVICES; None: CPUs
    gpu: Mapped[str | None]  # its UUID, as far as NVML told
    gpu_name: Mapped[str | None]
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    used_permille: Mapped[int]  # the sum of what is taken; written by slots.py alone
    readings: Mapped[dict[str, Any] | None] = mapped_column(Document)  # memory, temperature and use, as last read
    trouble: Mapped[str | None]  # why no job is put here now

    __table_args__ = (
        CheckConstraint("used_permille BETWEEN 0 AND 1000", name="never_more_than_all"),
        Index("ix_slots_gpu", "gpu", unique=True, postgresql_where=text("gpu IS NOT NULL"), sqlite_where=text("gpu IS NOT NULL")),
    )


class TakenSlot(Base):
    """A running job's hold on a slot, or on a part of it. Gone with the attempt, in the transaction that ends it."""

    __tablename__ = "taken_slots"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    worker: Mapped[str] = mapped_column(String(200), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    permille: Mapped[int]

    __table_args__ = (
        ForeignKeyConstraint(["worker", "position"], ["slots.worker", "slots.position"]),
        CheckConstraint("permille BETWEEN 1 AND 1000", name="is_a_part"),
        Index("ix_taken_slots_worker", "worker", "position"),
    )


class JobTokens(Base):
    """A job's tokens for hubs, by step, encrypted; nothing but the worker that holds the job opens them."""

    __tablename__ = "job_tokens"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    sealed: Mapped[str]


class Attempt(Base):
    """One worker's try at a job, from claim to outcome."""

    __tablename__ = "attempts"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    worker: Mapped[str]
    started_at: Mapped[float]
    finished_at: Mapped[float | None]
    outcome: Mapped[str | None] = mapped_column(String(16))  # the state it ended in, or released, or lost
    reason: Mapped[str | None] = mapped_column(String(40))
    sentence: Mapped[str | None]


class Event(Base):
    """Something that happened to a job. `number` counts a job's events without gaps, so a cursor misses none."""

    __tablename__ = "events"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[float]
    attempt: Mapped[int]
    kind: Mapped[str] = mapped_column(String(40))
    message: Mapped[str]
    data: Mapped[dict[str, Any]]


class StepResult(Base):
    """A step that is done, and what it made. A step without a row is still to do."""

    __tablename__ = "steps"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    position: Mapped[int]
    attempt: Mapped[int]
    output: Mapped[str]  # the folder that "@name" stands for, under the artifact root
    summary: Mapped[dict[str, Any]]
    finished_at: Mapped[float]


class Checkpoint(Base):
    """A complete checkpoint: its manifest was renamed into place before this row was written."""

    __tablename__ = "checkpoints"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[str] = mapped_column(String(64), primary_key=True)
    global_step: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int]
    path: Mapped[str]  # under the artifact root
    epoch: Mapped[float]
    train_loss: Mapped[float | None]
    size: Mapped[int] = mapped_column(BigInteger)
    manifest: Mapped[dict[str, Any]]
    created_at: Mapped[float]
    removed_at: Mapped[float | None]  # its files are gone, or about to go; a job never goes on from it


class Measurement(Base):
    """The per-document sums of one checkpoint (or of the base, global_step −1) on one text: what intervals are made of."""

    __tablename__ = "measurements"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[str] = mapped_column(String(64), primary_key=True)
    global_step: Mapped[int] = mapped_column(primary_key=True)
    split: Mapped[str] = mapped_column(String(64), primary_key=True)
    documents: Mapped[dict[str, Any]]
    created_at: Mapped[float]


def _of_measurement() -> ForeignKeyConstraint:
    """What is said of a measurement goes with it."""
    place = ("job_id", "step", "global_step", "split")
    return ForeignKeyConstraint(place, [f"measurements.{name}" for name in place], ondelete="CASCADE")


class Metric(Base):
    """One measure of one checkpoint (or of the base, global_step −1) on one text."""

    __tablename__ = "metrics"

    job_id: Mapped[str] = mapped_column(primary_key=True)
    step: Mapped[str] = mapped_column(String(64), primary_key=True)
    global_step: Mapped[int] = mapped_column(primary_key=True)
    split: Mapped[str] = mapped_column(String(64), primary_key=True)
    measure: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[float | None]  # None where the model diverged: there is no such number
    unit: Mapped[str] = mapped_column(String(40))
    standard_error: Mapped[float | None]
    interval: Mapped[list[Any] | None] = mapped_column(Document)
    interval_reason: Mapped[str | None]
    n_documents: Mapped[int]
    n_tokens: Mapped[int]
    estimator: Mapped[str]
    versus_base: Mapped[dict[str, Any] | None] = mapped_column(Document)
    versus_best: Mapped[dict[str, Any] | None] = mapped_column(Document)
    versus_leader: Mapped[dict[str, Any] | None] = mapped_column(Document)  # than which none is better by this measure

    __table_args__ = (_of_measurement(),)


class AlertTest(Base):
    """One alert's test of one checkpoint on one text: what was found, and whether it fired."""

    __tablename__ = "alert_tests"

    job_id: Mapped[str] = mapped_column(primary_key=True)
    step: Mapped[str] = mapped_column(String(64), primary_key=True)
    global_step: Mapped[int] = mapped_column(primary_key=True)
    split: Mapped[str] = mapped_column(String(64), primary_key=True)
    alert: Mapped[str] = mapped_column(String(64), primary_key=True)
    fires: Mapped[bool | None]  # None where it could not be tested
    statistic: Mapped[float | None]
    bound: Mapped[float | None]
    threshold: Mapped[float]
    unit: Mapped[str] = mapped_column(String(40))
    k: Mapped[int]  # the step's k-th measured checkpoint
    alpha: Mapped[float]  # its part of the step's
    n_documents: Mapped[int]
    reason: Mapped[str | None]  # why it was not tested, or what else is to be known of it

    __table_args__ = (_of_measurement(),)


class Point(Base):
    """One point of a training series: loss, learning rate, gradient norm, tokens per second, ..."""

    __tablename__ = "series"
    __table_args__ = ({"sqlite_with_rowid": False},)  # kept in the order of the key, in which a series is read

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    global_step: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[float]


class Artifact(Base):
    """A file that a job made, by name."""

    __tablename__ = "artifacts"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(512), primary_key=True)
    attempt: Mapped[int]
    path: Mapped[str]  # under the artifact root
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[float]


class File(Base):
    """A file that a client uploaded, whole in the artifact store before this row was written."""

    __tablename__ = "files"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    owner: Mapped[str]
    purpose: Mapped[str] = mapped_column(String(64))
    name: Mapped[str]  # as its client calls it
    path: Mapped[str]  # under the artifact root
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    entry: Mapped[dict[str, Any] | None] = mapped_column(Document)  # as in dataset_info.json; None: no data set
    rows: Mapped[int | None]
    created_at: Mapped[float]
    expires_at: Mapped[float | None]

    __table_args__ = (
        Index("ix_files_listed", "owner", "created_at", "id"),
        Index(
            "ix_files_uncounted",
            "created_at",
            postgresql_where=text("rows IS NULL AND purpose = 'fine-tune'"),
            sqlite_where=text("rows IS NULL AND purpose = 'fine-tune'"),
        ),
        Index(
            "ix_files_expiring",
            "expires_at",
            postgresql_where=text("expires_at IS NOT NULL"),
            sqlite_where=text("expires_at IS NOT NULL"),
        ),
    )


class Upload(Base):
    """A file that comes in parts."""

    __tablename__ = "uploads"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    owner: Mapped[str]
    purpose: Mapped[str] = mapped_column(String(64))
    name: Mapped[str]
    mime_type: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)  # that it is to have
    file_seconds: Mapped[float | None]  # how long the file is to be kept; None: until it is deleted
    status: Mapped[str] = mapped_column(String(16))  # pending, completed, cancelled or expired
    file_id: Mapped[str | None] = mapped_column(String(40))
    created_at: Mapped[float]
    expires_at: Mapped[float]

    __table_args__ = (
        CheckConstraint("status IN ('pending', 'completed', 'cancelled', 'expired')", name="status_is_known"),
        Index(
            "ix_uploads_expiring",
            "expires_at",
            postgresql_where=text("status = 'pending'"),
            sqlite_where=text("status = 'pending'"),
        ),
    )


class UploadPart(Base):
    """A part of an upload, whole in the artifact store."""

    __tablename__ = "upload_parts"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    upload_id: Mapped[str] = mapped_column(ForeignKey("uploads.id", ondelete="CASCADE"))
    path: Mapped[str]  # under the artifact root
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[float]

    __table_args__ = (Index("ix_upload_parts_upload_id", "upload_id"),)


class Generation(Base):
    """A job that writes a text for a client who reads along; how long that one is taken to be there."""

    __tablename__ = "generations"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    reader_until: Mapped[float] = mapped_column(index=True)


class GeneratedPiece(Base):
    """A part of that text, in order."""

    __tablename__ = "generated_pieces"

    job_id: Mapped[str] = mapped_column(ForeignKey("generations.job_id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


class Removal(Base):
    """Files that nobody may ask for any more, in the transaction that said so; the next sweep removes them from the store."""

    __tablename__ = "removals"

    path: Mapped[str] = mapped_column(String(1024), primary_key=True)  # a file or a folder under the artifact root
    asked_at: Mapped[float]
    done_at: Mapped[float | None]  # the store has it no more; copies on hosts may be left for a while

    __table_args__ = (
        Index(
            "ix_removals_waiting",
            "asked_at",
            "path",
            postgresql_where=text("done_at IS NULL"),
            sqlite_where=text("done_at IS NULL"),
        ),
        Index(
            "ix_removals_done", "done_at", postgresql_where=text("done_at IS NOT NULL"), sqlite_where=text("done_at IS NOT NULL")
        ),
    )


class IdempotencyKey(Base):
    """What a key made: within a day the same key and request are told of it again. A job as it stands, or the first answer."""

    __tablename__ = "idempotency_keys"

    owner: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    body_sha256: Mapped[str] = mapped_column(String(64))
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    subject: Mapped[str | None]  # what was made that is no job, or was done to one
    answer: Mapped[dict[str, Any] | None] = mapped_column(Document)  # status, headers and body, where none is secret
    sealed: Mapped[str | None]  # the same, encrypted, where one is; neither: it was secret, and no secrets are kept
    created_at: Mapped[float]

    __table_args__ = (Index("ix_idempotency_keys_age", "created_at"),)


class Webhook(Base):
    """Where an owner's events are posted to. The secrets are encrypted; the one before is valid for a while after a rotation.

    A URL may hold a credential of the receiver's, so that whole it is encrypted, too.
    """

    __tablename__ = "webhooks"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    owner: Mapped[str]
    url: Mapped[str]  # as it is shown
    sealed_url: Mapped[str | None]  # None of one that was made before there was this column: `url` is the whole then
    events: Mapped[list[Any]]
    description: Mapped[str | None]
    sealed: Mapped[str]
    sealed_before: Mapped[str | None]
    before_until: Mapped[float | None]
    created_at: Mapped[float]
    disabled_at: Mapped[float | None]
    disabled_why: Mapped[str | None]

    __table_args__ = (Index("ix_webhooks_owner", "owner", "created_at", "id"),)


class WebhookDelivery(Base):
    """One event on its way to one webhook, written in the transaction of what it tells. It outlives its job."""

    __tablename__ = "webhook_deliveries"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)  # the message's, the same at every try
    webhook_id: Mapped[str] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    event: Mapped[str] = mapped_column(String(64))
    data: Mapped[dict[str, Any]]
    created_at: Mapped[float]
    next_at: Mapped[float | None]  # when it is tried next, or again, should who tries it now not be heard of; None: it is over
    until: Mapped[float]  # when it is given up
    tried: Mapped[int]  # how often; also the fence of whoever writes how a try went
    tries: Mapped[list[Any]]  # at, status, detail and seconds of the last ones
    delivered_at: Mapped[float | None]

    __table_args__ = (
        Index(
            "ix_webhook_deliveries_due",
            "next_at",
            postgresql_where=text("next_at IS NOT NULL"),
            sqlite_where=text("next_at IS NOT NULL"),
        ),
        Index("ix_webhook_deliveries_listed", "webhook_id", "created_at", "id"),
        Index("ix_webhook_deliveries_created", "created_at"),
    )


class ApiKey(Base):
    """A key that programs ask with. Kept is the SHA-256 of it: the key itself was shown once."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)  # stands in the key, too
    sha256: Mapped[str] = mapped_column(String(64))
    owner: Mapped[str]
    scopes: Mapped[list[Any]]
    name: Mapped[str | None]
    created_at: Mapped[float]
    expires_at: Mapped[float | None]
    last_used_at: Mapped[float | None]  # to the minute
    revoked_at: Mapped[float | None]

    __table_args__ = (Index("ix_api_keys_owner", "owner", "created_at", "id"),)


class BrowserSession(Base):
    """A browser that was signed in with a key. What its cookie says is random; kept is the SHA-256 of that."""

    __tablename__ = "sessions"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    key_id: Mapped[str | None] = mapped_column(String(40), ForeignKey("api_keys.id"))  # null: the operator's own
    proof: Mapped[str | None] = mapped_column(String(64))  # that it was the operator's: an HMAC, which another key does not give
    created_at: Mapped[float]
    expires_at: Mapped[float]

    __table_args__ = (Index("ix_sessions_expires_at", "expires_at"),)


class AuditEntry(Base):
    """Who changed what, when, from where. Rows are only added: the database's own triggers refuse the rest."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True)
    at: Mapped[float]
    owner: Mapped[str]  # of the key
    key: Mapped[str]  # its id; "operator" and "open" where it is none of these
    action: Mapped[str]  # the operation, as the OpenAPI document names it
    subject: Mapped[str]  # what it was done to
    client: Mapped[str]  # the address
    request_id: Mapped[str]

    __table_args__ = (Index("ix_audit_owner", "owner", "id"),)


class RefusedEntry(Base):
    """Requests that were refused: all that are alike on one day are one row, however many come."""

    __tablename__ = "refusals"

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True)
    day: Mapped[int]  # since 1970, UTC
    owner: Mapped[str]  # of the key; empty where it is none
    key: Mapped[str]
    action: Mapped[str]
    client: Mapped[str]  # the address; empty: of more addresses than a day has rows for
    status: Mapped[int]
    code: Mapped[str] = mapped_column(String(64))
    times: Mapped[int] = mapped_column(BigInteger)
    first_at: Mapped[float]
    last_at: Mapped[float]
    subject: Mapped[str]  # of the last
    request_id: Mapped[str]  # of the last

    __table_args__ = (
        Index("ix_refusals_alike", "day", "owner", "key", "action", "client", "status", "code", unique=True),
        Index("ix_refusals_owner", "owner", "id"),
    )


class Count(Base):
    """A part of a count: what is counted is the sum of its rows. Added to in the transaction of what it counts."""

    __tablename__ = "counts"

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True)
    what: Mapped[str] = mapped_column(String(64))
    label: Mapped[str] = mapped_column(String(64))
    second: Mapped[str] = mapped_column(String(64))
    n: Mapped[int] = mapped_column(BigInteger)


class QuotaRow(Base):
    """What an owner may have; None: what the settings say."""

    __tablename__ = "quotas"

    owner: Mapped[str] = mapped_column(primary_key=True)
    queued: Mapped[int | None]
    running: Mapped[int | None]
    gpu_hours: Mapped[float | None]  # in a calendar month, UTC
    changed_at: Mapped[float]


class GpuUse(Base):
    """What one attempt uses of GPUs: held while it runs, settled when it ends. It outlives its job."""

    __tablename__ = "gpu_use"

    job_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str]
    permille: Mapped[int]  # of a GPU, over all that it has
    began_at: Mapped[float]
    held_until: Mapped[float]  # what it may use is counted up to here while it runs
    ended_at: Mapped[float | None]

    __table_args__ = (Index("ix_gpu_use_owner", "owner", "ended_at"),)


class DatasetVersion(Base):
    """An uploaded file under the name of a data set, once for each content."""

    __tablename__ = "dataset_versions"

    owner: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    version: Mapped[str] = mapped_column(String(16), primary_key=True)  # made of the file's content and how its rows read
    file_id: Mapped[str] = mapped_column(ForeignKey("files.id", ondelete="CASCADE"))
    created_at: Mapped[float]

    __table_args__ = (
        Index("ix_dataset_versions_newest", "owner", "name", "created_at"),
        Index("ix_dataset_versions_file_id", "file_id"),
    )


class DatasetUpload(Base):
    """A data set that is being sent. How much of it has come is the size of its file."""

    __tablename__ = "dataset_uploads"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    owner: Mapped[str]
    name: Mapped[str] = mapped_column(String(64))
    file_name: Mapped[str]
    entry: Mapped[dict[str, Any]]  # as its sender says the rows read
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str | None] = mapped_column(String(64))  # as its sender says
    created_at: Mapped[float]

    __table_args__ = (Index("ix_dataset_uploads_age", "created_at"),)
