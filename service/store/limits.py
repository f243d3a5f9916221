"""The time that a job has: its deadline, and for how long it may run. By the database's clock."""

from sqlalchemy import false, func, or_, select
from sqlalchemy.orm import Session

from service.specs.reasons import Reason
from service.store import events
from service.store.clock import now
from service.store.events import Kind
from service.store.jobs import forget_hold, move
from service.store.states import State
from service.store.tables import Job

# What `reached` asks, in its order. Not compared in SQL: in RETURNING, SQLite compares these numbers as if they were text.
ASKED = (Job.deadline, Job.max_seconds, Job.ran_seconds, Job.running_since, now())

DEADLINE_PASSED = func.coalesce(Job.deadline <= now(), false())
RAN_TOO_LONG = func.coalesce(Job.ran_seconds + func.coalesce(now() - Job.running_since, 0.0) >= Job.max_seconds, false())


def limit_of(session: Session, job: Job) -> tuple[Reason, str] | None:
    """Which limit of the job is reached now, and the sentence that says so."""
    reason = reached(*session.execute(select(*ASKED).where(Job.id == job.id)).one())
    if reason == Reason.DEADLINE_PASSED:
        return reason, f"Its deadline, {job.resolved['resources']['deadline']}, has passed."
    if reason == Reason.TOO_LONG:
        return reason, f"It ran for the {job.max_seconds:g} seconds that max_seconds allows."
    return None


def reached(
    deadline: float | None, max_seconds: float | None, ran_seconds: float, running_since: float | None, at: float
) -> Reason | None:
    """Which limit is, at that moment."""
    if deadline is not None and deadline <= at:
        return Reason.DEADLINE_PASSED
    runs_for = 0.0 if running_since is None else at - running_since
    return Reason.TOO_LONG if max_seconds is not None and ran_seconds + runs_for >= max_seconds else None


def end_late(session: Session, limit: int = 100) -> list[str]:
    """Fails the jobs that wait although a limit is reached, and answers which. Any number of processes may do this at once."""
    waits = Job.state.in_((State.QUEUED, State.PAUSED))
    late = or_(
        waits & Job.deadline.is_not(None) & (Job.deadline <= now()),
        (Job.state == State.QUEUED) & Job.max_seconds.is_not(None) & RAN_TOO_LONG,
    )
    ended = []
    for job in session.scalars(select(Job).where(late).limit(limit).with_for_update(skip_locked=True)).all():
        reached = limit_of(session, job)
        if reached is None:
            continue
        reason, sentence = reached
        move(session, job.id, State.FAILED, reason=reason, sentence=sentence)
        forget_hold(session, job)
        events.add(session, job.id, Kind.FAILED, sentence, {"reason": str(reason)})
        ended.append(job.id)
    return ended
