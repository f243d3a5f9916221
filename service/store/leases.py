"""What a worker does with a job: claims it under a lease, keeps the lease alive, ends it; and takes back what others lost.

Every write of a worker goes through the fence: `id = :id AND attempt = :attempt AND worker = :worker AND state = 'running'`. No
row back means that the lease is lost and another attempt may hold the job: the worker stops and writes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, exists, func, insert, select, update
from sqlalchemy.orm import Session

from service.specs.halving import halved
from service.specs.reasons import RETRYABLE, Reason
from service.store import counters, events, line
from service.store.clock import moment, now
from service.store.counters import Tally
from service.store.errors import LeaseLost
from service.store.events import Kind
from service.store.jobs import forget_hold, locked, move, note_progress
from service.store.limits import ASKED, limit_of, reached
from service.store.retries import RETRY_SECONDS, pause_before
from service.store.states import State
from service.store.tables import Attempt, Event, Job


class Wish(StrEnum):
    """What the holder of a job is to do, the strongest first."""

    CANCEL = "cancel"  # stop; the client wants no more of it
    LIMIT = "limit"  # save a checkpoint and stop: the job has had its time
    PAUSE = "pause"  # save a checkpoint and stop


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


def claim(session: Session, queues: Sequence[str], worker: str, lease_seconds: float, only: str | None = None) -> Claim | None:
    """The job that goes first, or the one that is named, if it is ready still. None when there is none.

    Slots are scheduling.py's to choose: this takes none.
    """
    if only is not None:
        return _begin(session, queues, worker, lease_seconds, only)
    in_order = (_begin(session, queues, worker, lease_seconds, waiting.id) for waiting in line.in_order(session, queues))
    return next((held for held in in_order if held is not None), None)


def _begin(session: Session, queues: Sequence[str], worker: str, lease_seconds: float, job_id: str) -> Claim | None:
    ready = select(Job.id).where(Job.id == job_id, Job.queue.in_(queues), line.is_ready(Job))
    if session.scalar(ready.with_for_update(skip_locked=True)) is None:
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
    if moved.attempt == 1:
        counters.add_wait(session, moved.queue, max(0.0, (moved.started_at or 0.0) - moved.created_at))
    events.add(session, job_id, Kind.STARTED, f"Attempt {held.attempt} began on {worker}.", {"worker": worker})
    return held


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
) -> Wish | None:
    """Prolongs the lease, notes progress, and answers what the holder is to do instead of going on. Raises LeaseLost.

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
        .returning(Job.cancel_requested_at, Job.pause_requested_at, *ASKED)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if renewed is None:
        raise LeaseLost(f"Attempt {held.attempt} no longer holds {held.job_id}.")
    cancelled_at, paused_at = renewed[:2]
    if cancelled_at is not None:
        return Wish.CANCEL
    if reached(*renewed[2:]) is not None:
        return Wish.LIMIT
    return Wish.PAUSE if paused_at is not None else None


def lease_until(session: Session, held: Claim) -> float:
    """To when the lease was last prolonged, with the job's row locked. Raises LeaseLost."""
    until = session.scalar(select(Job.lease_until).where(*_fence(held)).with_for_update())
    if until is None:
        raise LeaseLost(f"Attempt {held.attempt} no longer holds {held.job_id}.")
    return until


def ask_to_pause(session: Session, held: Claim) -> None:
    """The job's own wish, by a guard of its spec; a client's `resume` takes it back as it does another client's."""
    session.execute(
        update(Job)
        .where(*_fence(held), Job.cancel_requested_at.is_(None))
        .values(pause_requested_at=func.coalesce(Job.pause_requested_at, now()))
        .execution_options(synchronize_session=False)
    )


def succeed(session: Session, held: Claim) -> None:
    """The attempt did every step. A finish that comes before the wish to cancel is heard wins."""
    _end(session, held, State.SUCCEEDED, "All steps are done.")


def fail(
    session: Session,
    held: Claim,
    reason: Reason,
    sentence: str,
    details: dict[str, Any] | None = None,
    retry_seconds: float = RETRY_SECONDS,
) -> State:
    """The attempt cannot succeed, and says why and where. The job is tried again where that may help: later, for what may pass;
    once with half the batch, for memory, where the job says so.
    """
    job = _held(session, held)
    if reason == Reason.OUT_OF_MEMORY and job.resolved["resources"].get("on_out_of_memory") == "halve_batch":
        return _halve(session, job, held, sentence, details)
    if reason in RETRYABLE and job.retries < job.max_retries:
        wait_seconds = pause_before(job.retries, retry_seconds)
        at = float(session.execute(select(now())).scalar_one()) + wait_seconds
        told = f"{sentence} The job is tried again in {wait_seconds:.0f} s (retry {job.retries + 1} of {job.max_retries})."
        when = datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        data = {"reason": str(reason), "retry": job.retries + 1, "at": when, "wait_seconds": wait_seconds}
        event = (Kind.RETRY_SCHEDULED, told, data)
        return _leave(session, job, State.FAILED, sentence, event, reason, not_before=at, retries=job.retries + 1)
    _end(session, held, State.FAILED, sentence, reason, details)
    return State.FAILED


def give_back(session: Session, held: Claim, why: str) -> State:
    """The attempt stops without an end: as its client wishes and its limits say, else queued again at no cost."""
    return _leave(session, _held(session, held), "released", why, (Kind.RELEASED, why, {}))


def lose(session: Session, held: Claim, reason: Reason, story: str, retry_seconds: float = RETRY_SECONDS) -> State:
    """The attempt broke off without a word: tried again, until max_lost is used up."""
    return _lose(session, _held(session, held), reason, story, retry_seconds)


def rescue(session: Session, limit: int = 20, retry_seconds: float = RETRY_SECONDS) -> list[Rescued]:
    """Takes back jobs whose lease has run out. Any number of processes may do this at once."""
    expired = (
        select(Job).where(Job.state == State.RUNNING, Job.lease_until < moment()).limit(limit).with_for_update(skip_locked=True)
    )
    rescued = []
    for job in session.scalars(expired).all():
        story = f"{job.worker} was not heard of within its lease."
        rescued.append(Rescued(job.id, job.queue, _lose(session, job, Reason.WORKER_LOST, story, retry_seconds)))
    return rescued


def lose_all_of(session: Session, worker: str, story: str, retry_seconds: float = RETRY_SECONDS) -> list[Rescued]:
    """Takes back whatever a worker runs that is known to be gone, without waiting for its leases."""
    running = select(Job).where(Job.state == State.RUNNING, Job.worker == worker).with_for_update()
    found = session.scalars(running.execution_options(populate_existing=True)).all()
    return [Rescued(job.id, job.queue, _lose(session, job, Reason.WORKER_LOST, story, retry_seconds)) for job in found]


def _lose(session: Session, job: Job, reason: Reason, story: str, retry_seconds: float) -> State:
    """The first time it goes on at once: most often a host was started anew. What keeps happening is given more and more time."""
    if reason == Reason.WORKER_LOST:
        counters.add(session, Tally.LEASES_LOST)
    lost = job.lost + 1
    held = Claim(job.id, job.attempt, job.worker or "")
    if lost > job.max_lost and not _is_wished_away(session, job):
        sentence = f"{story} That happened {lost} times; max_lost allows {job.max_lost}."
        _end(session, held, State.FAILED, sentence, reason, lost=lost)
        return State.FAILED
    not_before = None if lost == 1 else now() + pause_before(lost - 2, retry_seconds)
    event = (Kind.LEASE_LOST, f"{story} The job waits for another attempt.", {"worker": held.worker})
    return _leave(session, job, "lost", story, event, reason, lost=lost, not_before=not_before)


def _leave(
    session: Session,
    job: Job,
    outcome: str,
    why: str,
    event: tuple[Kind, str, dict[str, Any]],
    reason: Reason | None = None,
    **values: Any,
) -> State:
    """Where a running job goes whose attempt is over and which has no end of its own. The caller has its row locked.

    Cancelled, failed, paused or queued: as its client wishes and its limits say, in this order.
    """
    held = Claim(job.id, job.attempt, job.worker or "")
    counts = {name: value for name, value in values.items() if name != "not_before"}
    if job.cancel_requested_at is not None:
        _end(session, held, State.CANCELLED, "Cancelled by its client.", **counts)
        return State.CANCELLED
    if limit := limit_of(session, job):
        _end(session, held, State.FAILED, limit[1], limit[0], **counts)
        return State.FAILED
    _close_attempt(session, job.id, held.attempt, outcome, reason, why)
    if job.pause_requested_at is not None:
        _move_away(session, held, State.PAUSED, **counts)
        events.add(session, job.id, Kind.PAUSED, "Paused; it goes on from its last checkpoint when its client says resume.")
        return State.PAUSED
    _move_away(session, held, State.QUEUED, **values)
    events.add(session, job.id, *event)
    return State.QUEUED


def _move_away(session: Session, held: Claim, to: State, **values: Any) -> None:
    move(session, held.job_id, to, *_fence(held), worker=None, lease_until=None, bell_rung_at=None, **values)


def _is_wished_away(session: Session, job: Job) -> bool:
    return job.cancel_requested_at is not None or job.pause_requested_at is not None or limit_of(session, job) is not None


def _halve(session: Session, job: Job, held: Claim, sentence: str, details: dict[str, Any] | None) -> State:
    """Once: what does not fit into half the memory is not a matter of the batch."""
    step = (job.progress or {}).get("step")
    made = halved(job.resolved, step)
    has_been = session.scalar(select(exists().where(Event.job_id == job.id, Event.kind == Kind.BATCH_HALVED)))
    if has_been or made is None:
        why = "Its batch was halved once already." if has_been else "Its batch cannot be made smaller."
        _end(session, held, State.FAILED, f"{sentence} {why}", Reason.OUT_OF_MEMORY, details)
        return State.FAILED
    told = f"The memory was not enough for step {made.step}. {made.sentence}"
    notice = {"pointer": made.pointer, "detail": f"The memory was not enough. {made.sentence}"}
    event = (Kind.BATCH_HALVED, told, made.numbers)
    values = {"resolved": made.resolved, "notices": [*job.notices, notice]}
    return _leave(session, job, State.FAILED, sentence, event, Reason.OUT_OF_MEMORY, **values)


def unheard(session: Session, queues: Sequence[str], older_than_seconds: float) -> list[str]:
    """The queues in which a job waits whose bell was never rung, or none was rung for so long that the last may be lost.

    A bell is a queue's: whoever hears it takes what goes first. So it is enough that one job's was rung lately, and those are
    marked that are rung for: jobs that came back, else the one whose bell was the last.
    """
    return sorted(queue for queue in set(queues) if _came_back(session, queue) or _is_quiet(session, queue, older_than_seconds))


def _came_back(session: Session, queue: str, limit: int = 100) -> bool:
    waits = select(Job.id).where(Job.queue == queue, line.is_ready(Job), Job.bell_rung_at.is_(None))
    unmarked = waits.order_by(Job.bell_rung_at).limit(limit).with_for_update(skip_locked=True)
    return _mark_rung(session, Job.id.in_(unmarked.scalar_subquery()), Job.bell_rung_at.is_(None))


def _is_quiet(session: Session, queue: str, seconds: float) -> bool:
    # an expression instead of the column: the index of the line would be walked whole
    waits = select(Job.id).where(Job.queue.concat("") == queue, line.is_ready(Job), Job.bell_rung_at.is_not(None))
    last = waits.order_by(Job.bell_rung_at.desc()).limit(1).scalar_subquery()
    return _mark_rung(session, Job.id == last, Job.bell_rung_at < now() - seconds)


def _mark_rung(session: Session, *which: ColumnElement[bool]) -> bool:
    """Whether there was one. Of several sweeps at once only the first finds it."""
    rung = (
        update(Job)
        .where(Job.state == State.QUEUED, *which)
        .values(bell_rung_at=now())
        .returning(Job.id)
        .execution_options(synchronize_session=False)
    )
    return bool(session.scalars(rung).all())


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
    counters.add(session, Tally.ATTEMPTS_ENDED, str(outcome))


def _held(session: Session, held: Claim) -> Job:
    """The job, with its row locked. Raises LeaseLost."""
    job = locked(session, *_fence(held))
    if job is None:
        raise LeaseLost(f"Attempt {held.attempt} no longer holds {held.job_id}.")
    return job


def _fence(held: Claim) -> tuple[ColumnElement[bool], ...]:
    return (
        Job.id == held.job_id,
        Job.attempt == held.attempt,
        Job.worker == held.worker,
        Job.state == State.RUNNING,
    )
