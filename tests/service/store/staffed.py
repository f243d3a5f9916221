"""Workers in the store, as they would report themselves."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from service.store import scheduling, slots, workers
from service.store.clock import now
from service.store.scheduling import Placement
from service.store.session import Database
from service.store.tables import Job, Slot, TakenSlot, Worker
from service.store.workers import Identity, Report, SlotReport
from tests.service.store.stored import submit

GB = 10**9


def a_report(name: str = "one", instance: str = "1", gpus: int = 0, cpus: int = 1, gb: int = 80, **changed: Any) -> Report:
    cards = [SlotReport(f"GPU-{name}-{index}", f"GPU-{name}-{index}", "H100", gb * GB) for index in range(gpus)]
    values: dict[str, Any] = {
        "host": "host-1",
        "pid": 4242,
        "machine": "boot-1",
        "process_started_at": 1.0,
        "software": "0.1.0",
        "spec_versions": {1},
        "queues": ("default",),
        "slots": [*cards, *[SlotReport()] * cpus],
    }
    return Report(Identity(name, instance), **values | changed)


def enter(database: Database, name: str = "one", **values: Any) -> Identity:
    report = a_report(name, **values)
    with database.transaction() as session:
        workers.register(session, report)
    return report.me


def want(database: Database, gpus: int = -1, permille: int = 1000, owner: str = "ann", **columns: Any) -> str:
    """A queued job that asks for so much: several GPUs are scheduled before the ledger lets a job ask for them."""
    job_id = submit(database, owner)
    with database.transaction() as session:
        session.execute(update(Job).where(Job.id == job_id).values(gpus=gpus, gpu_permille=permille, **columns))
    return job_id


def silence(database: Database, name: str, seconds: float = 1000) -> None:
    """The worker was last heard of so long ago."""
    with database.transaction() as session:
        session.execute(update(Worker).where(Worker.name == name).values(heartbeat_at=now() - seconds))


def place(database: Database, me: Identity) -> Placement | None:
    """What the worker begins with now."""
    with database.reading() as session:
        job_id = scheduling.best(session, me)
    if job_id is None:
        return None
    with database.transaction() as session:
        return scheduling.claim(session, me, 60, job_id)


def place_all(database: Database, *them: Identity) -> list[Placement]:
    return [placed for me in them for placed in iter(lambda me=me: place(database, me), None)]


def reserve(database: Database, after_seconds: float = 0) -> tuple[str, str] | None:
    with database.transaction() as session:
        return scheduling.reserve(session, ("default",), after_seconds)


def used(database: Database, name: str = "one") -> list[int]:
    """Of each slot, in thousandths."""
    with database.reading() as session:
        return [slot.used_permille for slot in slots.of_worker(session, name)]


def assert_slots_add_up(session: Session, running: Sequence[str] | None = None) -> None:
    """What a slot says is taken of it is what is taken of it, by running jobs alone."""
    taken = select(func.coalesce(func.sum(TakenSlot.permille), 0)).where(
        TakenSlot.worker == Slot.worker, TakenSlot.position == Slot.position
    )
    wrong = session.execute(select(Slot.worker, Slot.position).where(Slot.used_permille != taken.scalar_subquery())).all()
    assert wrong == []
    idle = select(TakenSlot.job_id).join(Job, Job.id == TakenSlot.job_id).where(Job.state != "running")
    assert session.scalars(idle).all() == []
