"""The time that a job has: its deadline, and for how long it may run. By the database's clock."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, false, func, literal_column, select
from sqlalchemy.orm import Session

from service.specs.reasons import Reason
from service.store import events
from service.store.clock import moment, now
from service.store.events import Kind
from service.store.jobs import forget_hold, move
from service.store.states import State
from service.store.tables import Job

# What `reached` asks, in its order. Not compared in SQL: in RETURNING, SQLite compares these numbers as if they were text.
ASKED = (Job.deadline, Job.max_seconds, Job.ran_seconds, Job.running_since, now())

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
    # one after the other, and in the words of their indexes: together they would be looked for among all jobs
    out_of_time = (_words("deadline IS NOT NULL AND state IN ('queued', 'paused')"), Job.deadline <= moment())
    ran_long = (_words("state = 'queued' AND max_seconds IS NOT NULL AND ran_seconds > 0"), RAN_TOO_LONG)
    late = [*_locked(session, out_of_time, Job.deadline, limit), *_locked(session, ran_long, Job.max_seconds, limit)]
    ended = []
    for job in late:
        reached = limit_of(session, job)
        if reached is None:
            continue
        reason, sentence = reached
        move(session, job.id, State.FAILED, reason=reason, sentence=sentence)
        forget_hold(session, job)
        events.add(session, job.id, Kind.FAILED, sentence, {"reason": str(reason)})
        ended.append(job.id)
    return ended


def _locked(session: Session, which: tuple[ColumnElement[bool], ...], order: Any, limit: int) -> Sequence[Job]:
    wanted = select(Job).where(*which).order_by(order).limit(limit)
    return session.scalars(wanted.with_for_update(skip_locked=True)).all()


def _words(condition: str) -> ColumnElement[bool]:
    in_words: ColumnElement[bool] = literal_column(f"({condition})")
    return in_words
