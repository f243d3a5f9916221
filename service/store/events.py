"""What happened to a job, in order, for people and programs that follow it."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple, cast

from sqlalchemy import Table, insert, select, update
from sqlalchemy.orm import Session

from service.store import webhooks
from service.store.bulk import insert_all
from service.store.clock import now
from service.store.tables import Event, Job


class Kind(StrEnum):
    """What an event tells."""

    SUBMITTED = "submitted"
    NOTICE = "notice"  # something accepted whose effect the client should know
    HELD = "held"  # a worker does not take the job now, since its disk has no room for what the job would write
    STARTED = "started"  # an attempt began
    STEP_STARTED = "step_started"
    DATA_LOADED = "data_loaded"  # how many rows, how many tokens are trained on, what was cut
    DATA_PACKED = "data_packed"  # how many examples in how many blocks, and how much of those is padding
    MODEL_LOADED = "model_loaded"  # how many parameters, how many of them train
    RESUMED = "resumed"  # from which checkpoint
    CHECKPOINT_SAVED = "checkpoint_saved"
    MEASURED = "measured"
    ALERT = "alert"  # a checkpoint is not as it should be: what was tested, at which threshold, and what it suggests
    GUARDED = "guarded"  # what the job's own guards made of that: stop, pause, keep_best
    EXPORTED = "exported"  # a model was written: where, how large, and what its certificate says
    PUSHED = "pushed"  # an export is in a hub's repository, in one commit
    STEP_FINISHED = "step_finished"
    FILES_REMOVED = "files_removed"  # checkpoints that are kept no longer, or all that an ended job made
    CANCEL_REQUESTED = "cancel_requested"
    PAUSE_REQUESTED = "pause_requested"
    PAUSE_WITHDRAWN = "pause_withdrawn"  # its client said resume before the worker had paused it
    PAUSED = "paused"
    RESUME_REQUESTED = "resume_requested"  # a paused job is queued again
    RETRIED = "retried"  # its client had a job that failed or was cancelled queued again
    CHANGED = "changed"  # its client gave it another priority, name or labels
    RETRY_SCHEDULED = "retry_scheduled"  # it failed of what may pass, and will be tried again; when is told
    BATCH_HALVED = "batch_halved"  # the memory was not enough, and the job goes on with smaller batches
    RELEASED = "released"  # the worker gave the job back, to go on elsewhere or later
    LEASE_LOST = "lease_lost"  # the worker was not heard of in time
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


_EVENTS = cast(Table, Event.__table__)


class Told(NamedTuple):
    """What an event says."""

    kind: str
    message: str
    data: dict[str, Any]


def begin(session: Session, at: float, made: Sequence[tuple[str, Sequence[Told]]]) -> None:
    """The first events of jobs that are made at this moment in this transaction: of each its id, and what is told."""
    rows = [
        {"job_id": job_id, "number": number, **told._asdict(), "kind": str(told.kind)}
        for job_id, first in made
        for number, told in enumerate(first, 1)
    ]
    insert_all(session, _EVENTS, rows, at=at, attempt=0)


def add(session: Session, job_id: str, kind: str, message: str, data: dict[str, Any] | None = None) -> None:
    """Appends an event. The counter's UPDATE holds the job's row, so numbers are given out in the order of commits."""
    counted = (
        update(Job)
        .where(Job.id == job_id)
        .values(event_count=Job.event_count + 1, version=Job.version + 1, changed_at=now())
        .returning(Job.event_count, Job.attempt, Job.owner)
        .execution_options(synchronize_session=False)
    )
    number, attempt, owner = session.execute(counted).one()
    session.execute(
        insert(Event).values(
            job_id=job_id, number=number, at=now(), attempt=attempt, kind=str(kind), message=message, data=data or {}
        )
    )
    webhooks.announce_event(session, owner, job_id, str(kind), message, data or {})


def before(session: Session, job_id: str, number: int | None, limit: int) -> Sequence[Event]:
    """The events before `number`, or all, newest first."""
    wanted = select(Event).where(Event.job_id == job_id)
    if number is not None:
        wanted = wanted.where(Event.number < number)
    return session.scalars(wanted.order_by(Event.number.desc()).limit(limit)).all()


def loaded(session: Session, job_ids: Sequence[str]) -> Sequence[Event]:
    """What those jobs' steps told of their data, oldest first."""
    wanted = select(Event).where(Event.job_id.in_(job_ids), Event.kind == Kind.DATA_LOADED)
    return session.scalars(wanted.order_by(Event.job_id, Event.number)).all()


def after(session: Session, job_id: str, number: int, limit: int) -> Sequence[Event]:
    """The events behind `number`, oldest first."""
    wanted = select(Event).where(Event.job_id == job_id, Event.number > number).order_by(Event.number).limit(limit)
    return session.scalars(wanted).all()
