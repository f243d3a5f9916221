"""Jobs in the store, with defaults; and what the store holds, to compare."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from service.specs.read import ReadJob, read_job
from service.store import events, jobs, leases, wishes
from service.store.clock import now
from service.store.leases import Claim
from service.store.session import Database
from service.store.states import ENDED, State
from service.store.tables import Attempt, Base, Event, Job


def a_document(**groups: Any) -> dict[str, Any]:
    """The smallest job that is accepted, and what is given beside or instead."""
    return {"model": {"model_name_or_path": "tiny"}, "data": {"template": "chatml", "dataset": "letters"}} | groups


def a_read_job(**groups: Any) -> ReadJob:
    return read_job(a_document(**groups))


def submit(
    database: Database,
    owner: str = "ann",
    created_at: float | None = None,
    labels: dict[str, str] | None = None,
    **resources: Any,
) -> str:
    """A queued job's id. `created_at` sets its age, where the test is about ages."""
    document = a_document(resources=resources, labels=labels or {})
    with database.transaction() as session:
        job = jobs.create(session, owner, document, read_job(document))
        if created_at is not None:
            session.execute(update(Job).where(Job.id == job.id).values(created_at=created_at))
    return job.id


def take(database: Database, worker: str = "worker-1", queues: tuple[str, ...] = ("default",), lease: float = 60) -> Claim | None:
    with database.transaction() as session:
        return leases.claim(session, queues, worker, lease)


def hold(database: Database, worker: str = "worker-1", **resources: Any) -> Claim:
    """A job of its own, running under a lease."""
    job_id = submit(database, **resources)
    held = take(database, worker)
    assert held is not None
    assert held.job_id == job_id
    return held


def renew(database: Database, held: Claim, progress: dict[str, Any] | None = None) -> leases.Wish | None:
    with database.transaction() as session:
        return leases.renew(session, held, 60, progress)


def wish(database: Database, verb: str, job_id: str, owner: str = "ann") -> Job:
    """One of pause, resume, retry and cancel."""
    with database.transaction() as session:
        wished: Job = getattr(wishes, verb)(session, owner, job_id)
        return wished


def cancel(database: Database, job_id: str, owner: str = "ann") -> Job:
    with database.transaction() as session:
        return wishes.cancel(session, owner, job_id)


def expire(database: Database, held: Claim) -> None:
    """The lease has run out, and nobody has looked yet."""
    with database.transaction() as session:
        session.execute(update(Job).where(Job.id == held.job_id).values(lease_until=now() - 1))


def rescue(database: Database) -> list[leases.Rescued]:
    with database.transaction() as session:
        return leases.rescue(session)


def put(database: Database, job_id: str, state: State) -> None:
    """Places a job in a state past the one door, with the columns that the state must have."""
    with database.transaction() as session:
        session.execute(
            update(Job).where(Job.id == job_id).values(state=state, **columns_of(state), finished_at=_finish_of(state))
        )


def columns_of(state: State) -> dict[str, Any]:
    """What a state's constraints ask of the columns that the one door does not fill by itself."""
    running = state == State.RUNNING
    return {
        "worker": "worker-1" if running else None,
        "lease_until": 9e9 if running else None,
        "reason": "internal_error" if state == State.FAILED else None,
    }


def _finish_of(state: State) -> float | None:
    return 1.0 if state in ENDED else None


def break_off(database: Database, write: Callable[[Session], object]) -> None:
    """A transaction that raises after it has written."""
    with suppress(ZeroDivisionError), database.transaction() as session:
        write(session)
        raise ZeroDivisionError


def job_of(database: Database, job_id: str) -> Job:
    with database.reading() as session:
        job = session.get(Job, job_id)
    assert job is not None
    return job


def events_of(database: Database, job_id: str) -> list[Event]:
    with database.reading() as session:
        return list(events.after(session, job_id, 0, 10_000))


def kinds_of(database: Database, job_id: str) -> list[str]:
    return [event.kind for event in events_of(database, job_id)]


def attempts_of(database: Database, job_id: str) -> list[tuple[int, str | None]]:
    """(number, outcome) of each attempt."""
    with database.reading() as session:
        found = session.scalars(select(Attempt).where(Attempt.job_id == job_id).order_by(Attempt.number))
        return [(attempt.number, attempt.outcome) for attempt in found]


def everything(database: Database) -> dict[str, list[Any]]:
    """Every row of every table."""
    with database.reading() as session:
        return {table.name: sorted(map(repr, session.execute(select(table)).all())) for table in Base.metadata.sorted_tables}
