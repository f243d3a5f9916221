"""What a worker does with a job: claims it under a lease, keeps the lease alive, ends it; and takes back what others lost.

Every write of a worker goes through the fence: `id = :id AND attempt = :attempt AND worker = :worker AND state = 'running'`. No
row back means that the lease is lost and another attempt may hold the job: the worker stops and writes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, func, insert, select, update
from sqlalchemy.orm import Session, aliased

from service.specs.reasons import Reason
from service.store import events
from service.store.clock import now
from service.store.errors import LeaseLost
from service.store.events import Kind
from service.store.jobs import forget_hold, locked, move, note_progress
from service.store.states import State
from service.store.tables import Attempt, Job


@dataclass(frozen=True)
class Claim:
    """An attempt's hold on a job: the fence that each of its writes must pass."""

    job_id: str
    attempt: int
    worker: str


@dataclass(frozen=True)
class Rescued:
    """A job whose worker was lost, and what became of it."""

    job_id: str
    queue: str
    state: State


def ready(session: Session, queues: Sequence[str], limit: int = 100) -> Sequence[str]:
    """The jobs that could be claimed, the best first: priority, then the owner with the fewest running, then age."""
    return session.scalars(_ready(queues).limit(limit)).all()


def claim(session: Session, queues: Sequence[str], worker: str, lease_seconds: float, only: str | None = None) -> Claim | None:
    """The best job that is ready, or the one that is named, if it is ready still. None when there is none."""
    wanted = _ready(queues) if only is None else _ready(queues).where(Job.id == only)
    job_id = session.scalar(wanted.limit(1).with_for_update(of=Job, skip_locked=True))
    if job_id is None:
        return None
    moved = move(
        session,
        job_id,
        State.RUNNING,
        Job.cancel_requested_at.is_(None),
        attempt=Job.attempt + 1,
        worker=worker,
        lease_until=now() + lease_seconds,
        started_at=func.coalesce(Job.started_at, now()),
    )
    if moved is None:
        return None
    forget_hold(session, moved)
    held = Claim(job_id, moved.attempt, worker)
    session.execute(insert(Attempt).values(job_id=job_id, number=held.attempt, worker=worker, started_at=now()))
    events.add(session, job_id, Kind.STARTED, f"Attempt {held.attempt} began on {worker}.", {"worker": worker})
    return held


def _ready(queues: Sequence[str]) -> Select[str]:
    running = aliased(Job)
    running_of_owner = select(func.count()).where(running.owner == Job.owner, running.state == State.RUNNING).scalar_subquery()
    return (
        select(Job.id)
        .where(Job.state == State.QUEUED, Job.queue.in_(queues), Job.cancel_requested_at.is_(None))
        .order_by(Job.priority.desc(), running_of_owner, Job.created_at, Job.id)
    )


def hold(session: Session, job_id: str, worker: str, why: str) -> None:
    """Says of a job that waits why a worker does not take it: once as an event, and as it changes among its progress."""
    job = locked(session, Job.id == job_id, Job.state == State.QUEUED)
    if job is None or (job.progress or {}).get("held") == why:
        return
    if "held" not in (job.progress or {}):
        events.add(session, job_id, Kind.HELD, why, {"worker": worker})
    note_progress(session, job_id, {**(job.progress or {}), "held": why})


def renew(
    session: Session, held: Claim, lease_seconds: float, progress: dict[str, Any] | None = None, more: bool = False
) -> bool:
    """Prolongs the lease, notes progress, and answers whether the client wishes the job cancelled. Raises LeaseLost.

    The UPDATE locks the row, so whatever else the transaction writes (metrics, checkpoints) stands behind the fence too. `more`
    says that it writes something a client can see, which makes another version of the job.
    """
    values: dict[str, Any] = {"lease_until": now() + lease_seconds}
    if progress is not None:
        values["progress"] = progress
    if progress is not None or more:
        values |= {"version": Job.version + 1, "changed_at": now()}
    renewed = session.execute(
        update(Job)
        .where(*_fence(held))
        .values(**values)
        .returning(Job.cancel_requested_at)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if renewed is None:
        raise LeaseLost(f"Attempt {held.attempt} no longer holds {held.job_id}.")
    return renewed.cancel_requested_at is not None


def lease_until(session: Session, held: Claim) -> float:
    """To when the lease was last prolonged, with the job's row locked. Raises LeaseLost."""
    until = session.scalar(select(Job.lease_until).where(*_fence(held)).with_for_update())
    if until is None:
        raise LeaseLost(f"Attempt {held.attempt} no longer holds {held.job_id}.")
    return until


def succeed(session: Session, held: Claim) -> None:
    """The attempt did every step. A finish that comes before the wish to cancel is heard wins."""
    _end(session, held, State.SUCCEEDED, "All steps are done.")


def fail(session: Session, held: Claim, reason: Reason, sentence: str, details: dict[str, Any] | None = None) -> None:
    """The attempt cannot succeed, and says why and where."""
    _end(session, held, State.FAILED, sentence, reason, details)


def give_back(session: Session, held: Claim, why: str) -> State:
    """The attempt stops without an end: cancelled if that was wished, else queued again at no cost."""
    job = locked(session, *_fence(held))
    if job is None:
        raise LeaseLost(f"Attempt {held.attempt} no longer holds {held.job_id}.")
    if job.cancel_requested_at is not None:
        _end(session, held, State.CANCELLED, "Cancelled by its client.")
        return State.CANCELLED
    _close_attempt(session, held.job_id, held.attempt, "released", None, why)
    move(session, held.job_id, State.QUEUED, *_fence(held), worker=None, lease_until=None, bell_rung_at=None)
    events.add(session, held.job_id, Kind.RELEASED, why)
    return State.QUEUED


def lose(session: Session, held: Claim, reason: Reason, story: str) -> State:
    """The attempt broke off without a word: tried again, until max_lost is used up."""
    job = locked(session, *_fence(held))
    if job is None:
        raise LeaseLost(f"Attempt {held.attempt} no longer holds {held.job_id}.")
    return _lose(session, job, reason, story)


def rescue(session: Session, limit: int = 20) -> list[Rescued]:
    """Takes back jobs whose lease has run out. Any number of processes may do this at once."""
    expired = (
        select(Job).where(Job.state == State.RUNNING, Job.lease_until < now()).limit(limit).with_for_update(skip_locked=True)
    )
    rescued = []
    for job in session.scalars(expired).all():
        story = f"{job.worker} was not heard of within its lease."
        rescued.append(Rescued(job.id, job.queue, _lose(session, job, Reason.WORKER_LOST, story)))
    return rescued


def _lose(session: Session, job: Job, reason: Reason, story: str) -> State:
    """What becomes of a running job whose attempt is no more. The caller has its row locked."""
    held = Claim(job.id, job.attempt, job.worker or "")
    lost = job.lost + 1
    if job.cancel_requested_at is not None:
        _end(session, held, State.CANCELLED, "Cancelled by its client.", lost=lost)
        return State.CANCELLED
    if lost > job.max_lost:
        sentence = f"{story} That happened {lost} times; max_lost allows {job.max_lost}."
        _end(session, held, State.FAILED, sentence, reason, lost=lost)
        return State.FAILED
    _close_attempt(session, job.id, held.attempt, "lost", reason, story)
    move(session, job.id, State.QUEUED, *_fence(held), worker=None, lease_until=None, lost=lost, bell_rung_at=None)
    events.add(session, job.id, Kind.LEASE_LOST, f"{story} The job waits for another attempt.", {"worker": held.worker})
    return State.QUEUED


def unheard(session: Session, queues: Sequence[str], older_than_seconds: float) -> list[str]:
    """The queues in which a job waits whose bell was never rung, or so long ago that it may be lost. Marks them rung."""
    quiet = (Job.bell_rung_at.is_(None)) | (Job.bell_rung_at < now() - older_than_seconds)
    rung = session.scalars(
        update(Job)
        .where(Job.state == State.QUEUED, Job.queue.in_(queues), quiet)
        .values(bell_rung_at=now())
        .returning(Job.queue)
        .execution_options(synchronize_session=False)
    )
    return sorted(set(rung))


def _end(
    session: Session,
    held: Claim,
    state: State,
    sentence: str,
    reason: Reason | None = None,
    details: dict[str, Any] | None = None,
    **values: Any,
) -> None:
    moved = move(
        session, held.job_id, state, *_fence(held), worker=None, lease_until=None, reason=reason, sentence=sentence,
        details=details, **values,
    )  # fmt: skip
    if moved is None:
        raise LeaseLost(f"Attempt {held.attempt} no longer holds {held.job_id}.")
    _close_attempt(session, held.job_id, held.attempt, state, reason, sentence)
    data = {"reason": str(reason)} | (details or {}) if reason else {}
    events.add(session, held.job_id, Kind(state.value), sentence, data)


def _close_attempt(session: Session, job_id: str, number: int, outcome: str, reason: Reason | None, sentence: str) -> None:
    session.execute(
        update(Attempt)
        .where(Attempt.job_id == job_id, Attempt.number == number)
        .values(finished_at=now(), outcome=str(outcome), reason=reason, sentence=sentence)
        .execution_options(synchronize_session=False)
    )


def _fence(held: Claim) -> tuple[ColumnElement[bool], ...]:
    return (
        Job.id == held.job_id,
        Job.attempt == held.attempt,
        Job.worker == held.worker,
        Job.state == State.RUNNING,
    )
