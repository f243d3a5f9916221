"""Jobs: made, looked at, listed; and the one door between their states.

What a client wishes of a job is in wishes.py, what a worker does with one in leases.py.
"""

import json
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, cast

from pydantic import SecretStr
from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    bindparam,
    func,
    literal_column,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.orm import Session

from service.specs import extras
from service.specs.job import ResolvedJob
from service.specs.quota import UNLIMITED, Quota
from service.specs.read import ReadJob
from service.specs.refusals import Refusal, SpecRefused
from service.specs.resources import moment
from service.specs.tokens import hidden
from service.specs.tokens import tokens as tokens_of
from service.specs.version import SPEC_VERSION
from service.store import audit, counters, events, gpu_use, quotas, references, slots, tokens, webhooks
from service.store.audit import Trace
from service.store.bulk import insert_all
from service.store.clock import now
from service.store.counters import Tally
from service.store.errors import BadCursor, NotFound
from service.store.events import Kind
from service.store.ids import new_id
from service.store.labels import has as has_label
from service.store.labels import note as note_labels
from service.store.need import need_of
from service.store.owners import EVERYBODY, belongs
from service.store.states import ENDED, State, sources
from service.store.tables import Generation, Job, JobLabel

_JOBS = cast(Table, Job.__table__)

# What a client that follows its jobs asks again and again, made once for the same reason.
_IS_ITS = or_(bindparam("owner") == EVERYBODY, _JOBS.c.owner == bindparam("owner"))
_IS_LISTED = _JOBS.c.id.not_in(select(Generation.job_id))  # what is written for a reader goes with him, and is no news to anybody
_VERSION = select(_JOBS.c.version).where(_JOBS.c.id == bindparam("job_id"), _IS_ITS)
_NEWEST_OF_ALL = (
    select(_JOBS.c.id, _JOBS.c.version)
    .where(_IS_LISTED)
    .order_by(_JOBS.c.created_at.desc(), _JOBS.c.id.desc())
    .limit(bindparam("most"))
)
_NEWEST = _NEWEST_OF_ALL.where(_JOBS.c.owner == bindparam("owner"))


class New(NamedTuple):
    """A job that is to be made: as it came, as it was read, and the key that encrypts its tokens."""

    owner: str
    document: dict[str, Any]
    read: ReadJob
    key: SecretStr | None = None
    artifacts_ttl_seconds: float | None = None  # the operator's, for a job that has none of its own
    least_gpu_bytes: int = 0  # the memory without which a GPU is not worth trying; 0 where it is not known
    trace: Trace | None = None  # who asks, for the audit log
    traceparent: str | None = None  # what the spans of its work go on from
    default_quota: Quota = UNLIMITED


class Listed(NamedTuple):
    """A job of a list, in the version that it has now."""

    id: str
    version: int


def create(session: Session, owner: str, document: dict[str, Any], read: ReadJob, key: SecretStr | None = None) -> Job:
    """Stores a job as it came and as it will run, queued; its tokens apart, encrypted with the key, and nowhere else.

    The answer is no part of the session: it shows what was stored.
    """
    return create_all(session, [New(owner, document, read, key)])[0]


def create_all(session: Session, asked: Sequence[New]) -> list[Job]:
    """The same for several, in their order: however many they are, as few statements go to the database.

    Raises QuotaReached, and SpecRefused where what a job names was given up since it was read.
    """
    quotas.refuse_too_many(session, [(new.owner, new.default_quota) for new in asked])
    _refuse_gone(session, asked)
    at = session.scalar(select(now())) or 0.0
    moments = {"created_at": at, "changed_at": at, "bell_rung_at": at}
    rows = [_row(new) for new in asked]
    insert_all(session, _JOBS, rows, **moments)
    for new, row in zip(asked, rows, strict=True):
        row |= moments
        if new.key is not None:
            tokens.keep(session, row["id"], tokens_of(new.read.resolved), new.key)
    note_labels(session, at, [(row["id"], row["owner"], row["labels"]) for row in rows])
    references.note(session, [(row["id"], row["resolved"]) for row in rows])
    events.begin(session, at, [(row["id"], _told(row)) for row in rows])
    audit.note(session, [new.trace.of(row["id"]) for new, row in zip(asked, rows, strict=True) if new.trace is not None], at)
    return [Job(**row) for row in rows]


def _refuse_gone(session: Session, asked: Sequence[New]) -> None:
    missing = references.gone(session, [step for new in asked for step in new.read.resolved.steps])
    if missing:
        raise SpecRefused([Refusal((), f"The checkpoint {name} was given up a moment ago.") for name in missing])


def _row(new: New) -> dict[str, Any]:
    spec, resources = new.read.spec, new.read.spec.resources
    return {
        "id": new_id("job"),
        "owner": new.owner,
        "name": spec.name,
        "labels": dict(spec.labels),
        "document": hidden(new.document),
        "resolved": new.read.resolved.model_dump(mode="json"),
        "notices": [{"pointer": notice.pointer, "detail": notice.detail} for notice in new.read.notices],
        "state": str(State.QUEUED),
        "queue": resources.queue,
        "priority": resources.priority,
        "max_lost": resources.max_lost,
        "max_retries": resources.max_retries,
        "max_seconds": resources.max_seconds,
        "deadline": None if resources.deadline is None else moment(resources.deadline),
        "artifacts_ttl_seconds": resources.artifacts_ttl_seconds or new.artifacts_ttl_seconds,
        **need_of(resources, new.least_gpu_bytes).columns,
        "spec_version": SPEC_VERSION,
        "extras": ",".join(extras.of_job(new.read.resolved)),
        "attempt": 0,
        "lost": 0,
        "retries": 0,
        "ran_seconds": 0.0,
        "version": 1,
        "event_count": 1 + len(new.read.notices),
        "request_id": None if new.trace is None else new.trace.request_id,
        "trace": new.traceparent,
    }


def _told(row: dict[str, Any]) -> list[events.Told]:
    """A new job's first events."""
    queued = events.Told(Kind.SUBMITTED, f"Queued on {row['queue']} with priority {row['priority']}.", {})
    return [
        queued,
        *(events.Told(Kind.NOTICE, f"{one['pointer']}: {one['detail']}", {"pointer": one["pointer"]}) for one in row["notices"]),
    ]


def get(session: Session, owner: str, job_id: str) -> Job:
    job = session.scalar(select(Job).where(Job.id == job_id, belongs(Job.owner, owner)))
    if job is None:
        raise NotFound("job", job_id)
    return job


def version(session: Session | Connection, owner: str, job_id: str) -> int:
    """The job's version, which every change that a client can see raises. Raises NotFound."""
    found: int | None = session.scalar(_VERSION, {"job_id": job_id, "owner": owner})
    if found is None:
        raise NotFound("job", job_id)
    return found


def owned(session: Session, owner: str, job_ids: Collection[str]) -> set[str]:
    """Those of the jobs that are the owner's."""
    return set(session.scalars(select(Job.id).where(Job.id.in_(job_ids), belongs(Job.owner, owner))))


def step_names(session: Session, job_id: str) -> list[str]:
    """The names of the job's steps, in order."""
    return [step["name"] for step in resolved_document(session, job_id)["steps"]]


def of_ids(session: Session, job_ids: Sequence[str]) -> Sequence[Job]:
    """Those jobs, in any order."""
    return session.scalars(select(Job).where(Job.id.in_(job_ids))).all()


def resolved_document(session: Session, job_id: str) -> dict[str, Any]:
    """The job as it runs, for a worker that holds it."""
    resolved: dict[str, Any] = session.execute(select(Job.resolved).where(Job.id == job_id)).scalar_one()
    return resolved


def resolved(job: Job) -> ResolvedJob:
    """The job's steps, as they were resolved when it came."""
    return ResolvedJob.model_validate_json(json.dumps(job.resolved))


def listing(
    session: Session | Connection,
    owner: str,
    limit: int,
    after: str | None = None,
    state: State | None = None,
    labels: dict[str, str] | None = None,
    name: str | None = None,
) -> tuple[list[Listed], bool]:
    """A page of jobs, newest first, behind the job `after`; and whether there are more. Stable while jobs arrive. `name` is a
    part of theirs: no index has it, so where few match, many are looked at.

    A text that is written for a reader is a job, too, for as long as he reads, and is not among them.
    """
    if not labels and state is None and after is None and not name:
        newest, whose = (_NEWEST_OF_ALL, {}) if owner == EVERYBODY else (_NEWEST, {"owner": owner})
        found = session.execute(newest, {"most": limit + 1, **whose}).all()
    else:
        found = session.execute(_listing(session, owner, after, state, labels or {}, name).limit(limit + 1)).all()
    return [Listed(*row) for row in found[:limit]], len(found) > limit


def _listing(
    session: Session | Connection, owner: str, after: str | None, state: State | None, labels: dict[str, str], name: str | None
) -> Select[str, int]:
    asked = [*labels.items()]
    wanted, order = _listed_by(owner, *asked[:1])
    wanted = wanted.where(_IS_LISTED)
    for key, value in asked[1:]:
        wanted = wanted.where(has_label(key, value))
    if state is not None:
        wanted = wanted.where(Job.state == state)
    if name:
        wanted = wanted.where(Job.name.icontains(name, autoescape=True))
    if after is not None:
        place = session.execute(select(Job.created_at, Job.id).where(Job.id == after, belongs(Job.owner, owner))).one_or_none()
        if place is None:
            raise BadCursor(f"after={after!r} is not a job of this list.")
        wanted = wanted.where(tuple_(*order) < tuple_(*place))
    return wanted.order_by(*(column.desc() for column in order))


def _listed_by(owner: str, label: tuple[str, str] | None = None) -> tuple[Select[str, int], tuple[Any, Any]]:
    """The owner's jobs, and what they are in order of: with a label its own rows, which an index has in that order."""
    if label is None:
        whose = (
            Job.created_at > literal_column("0") if owner == EVERYBODY else Job.owner == owner
        )  # as ix_jobs_state_of_all has it
        return select(Job.id, Job.version).where(whose), (Job.created_at, Job.id)
    labelled = select(Job.id, Job.version).join(JobLabel, JobLabel.job_id == Job.id)
    its_own = (belongs(JobLabel.owner, owner), JobLabel.name == label[0], JobLabel.value == label[1])
    return labelled.where(*its_own), (JobLabel.created_at, JobLabel.job_id)


def move(session: Session, job_id: str, to: State, *conditions: ColumnElement[bool], **values: Any) -> Job | None:
    """The one door between states: one UPDATE that checks the table of transitions and the conditions, and changes.

    None when the job is elsewhere by now. Whatever the move, a wish to pause is done with, and so is a wait before an attempt. A
    job that does not run holds no slot. Webhooks are told of an end in this transaction.
    """
    times: dict[str, Any] = {"finished_at": None, "expires_at": None, "pause_requested_at": None, "not_before": None}
    if to in ENDED:
        times |= {"finished_at": now(), "expires_at": now() + Job.artifacts_ttl_seconds}
    if to == State.RUNNING:
        times["running_since"] = now()
    else:
        times |= {"running_since": None, "ran_seconds": Job.ran_seconds + func.coalesce(now() - Job.running_since, 0.0)}
    moved = session.scalar(
        update(Job)
        .where(Job.id == job_id, Job.state.in_(sources(to)), *conditions)
        .values(**{"state": to, "version": Job.version + 1, "changed_at": now(), **times, **values})
        .returning(Job)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    if moved is not None and to != State.RUNNING:
        slots.free(session, job_id)
        gpu_use.settle(session, job_id)
    if moved is not None and to in ENDED:
        counters.add(session, Tally.JOBS_ENDED, str(to), moved.reason or "")
        webhooks.announce_end(session, moved)
    return moved


def locked(session: Session, *conditions: ColumnElement[bool]) -> Job | None:
    return session.scalar(select(Job).where(*conditions).with_for_update().execution_options(populate_existing=True))


def forget_hold(session: Session, job: Job) -> None:
    """What held the job is no matter any more."""
    if "held" in (job.progress or {}):
        note_progress(session, job.id, {name: value for name, value in (job.progress or {}).items() if name != "held"})


def note_progress(session: Session, job_id: str, progress: dict[str, Any]) -> None:
    session.execute(
        update(Job)
        .where(Job.id == job_id)
        .values(progress=progress or None, version=Job.version + 1, changed_at=now())
        .execution_options(synchronize_session=False)
    )
