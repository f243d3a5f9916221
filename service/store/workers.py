"""Workers: who they are, whether they are there, and what their operator wishes of them. Times are the database's.

A worker registers when it starts. Its name is what people call it; its instance is one process, so that one that was taken for
dead and wakes finds another in its place, and stops. Two live ones may share neither a name nor a GPU.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, case, delete, func, insert, null, or_, select, update
from sqlalchemy.orm import Session

from service.store import leases
from service.store.clock import now
from service.store.errors import NotFound, WorkerIsThere, WorkerReplaced
from service.store.tables import Slot, TakenSlot, Worker

# A worker that has not been heard of for so long will not come back under its name.
FORGOTTEN_SECONDS = 7 * 24 * 3600


class Status(StrEnum):
    """Whether a worker is there."""

    UP = "up"  # takes jobs
    DRAINING = "draining"  # takes no new ones
    STOPPED = "stopped"  # ended by itself
    LOST = "lost"  # was not heard of within its lease


@dataclass(frozen=True)
class Identity:
    """One worker process."""

    name: str
    instance: str


@dataclass(frozen=True)
class SlotReport:
    """A slot as its worker found it. Without a device it is for jobs without a GPU."""

    device: str | None = None
    gpu: str | None = None
    gpu_name: str | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Report:
    """What a worker says of itself when it starts. `machine` is one boot and one space of process ids."""

    me: Identity
    host: str
    pid: int
    machine: str
    process_started_at: float
    software: str
    spec_versions: Collection[int]
    queues: Sequence[str]
    slots: Sequence[SlotReport]
    sharing: bool = False
    lease_seconds: float = 60.0
    extras: Collection[str] = ()


@dataclass(frozen=True)
class Reading:
    """What a GPU says of itself now. `trouble` keeps jobs away from it, and so does `occupied` while none of ours is there."""

    values: dict[str, Any]
    trouble: str | None = None
    occupied: str | None = None


@dataclass(frozen=True)
class Orders:
    """What the operator wishes of a worker."""

    draining: bool
    stop_jobs: bool


def register(session: Session, report: Report, is_dead: Callable[[Worker], bool] = lambda worker: False) -> None:
    """Enters a worker, in the place of an earlier one that is gone: whatever that one had running is lost.

    `is_dead` says of one that was heard of lately whether its process is known to have ended. Raises WorkerIsThere.
    """
    for rival in _rivals(session, report):
        is_this_one = rival.instance == report.me.instance and rival.name == report.me.name
        if not is_this_one and status(session, rival) not in (Status.LOST, Status.STOPPED) and not is_dead(rival):
            raise WorkerIsThere(report.me.name, rival)
        leases.lose_all_of(session, rival.name, f"{rival.name} ended, and {report.me.name} is in its place.")
        session.execute(delete(TakenSlot).where(TakenSlot.worker == rival.name))
        session.execute(delete(Slot).where(Slot.worker == rival.name))
        if rival.name != report.me.name:
            session.execute(delete(Worker).where(Worker.name == rival.name))
    _enter(session, report)


def heartbeat(session: Session, me: Identity, readings: dict[int, Reading] | None = None) -> Orders:
    """Says that the worker is there, and what its GPUs read, by position. Raises WorkerReplaced."""
    orders = session.execute(
        update(Worker)
        .where(Worker.name == me.name, Worker.instance == me.instance)
        .values(heartbeat_at=now())
        .returning(Worker.draining, Worker.stop_jobs)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if orders is None:
        raise WorkerReplaced(f"Another process is registered as worker {me.name} by now, or none.")
    for position, reading in sorted((readings or {}).items()):
        session.execute(
            update(Slot)
            .where(Slot.worker == me.name, Slot.position == position)
            .values(readings=reading.values, trouble=_trouble(reading))
            .execution_options(synchronize_session=False)
        )
    return Orders(*orders)


def leave(session: Session, me: Identity) -> None:
    """The worker ends by itself."""
    session.execute(
        update(Worker)
        .where(Worker.name == me.name, Worker.instance == me.instance)
        .values(stopped_at=now(), reserved_for=None)
        .execution_options(synchronize_session=False)
    )


def get(session: Session, name: str) -> Worker:
    worker = session.get(Worker, name, populate_existing=True)
    if worker is None:
        raise NotFound("worker", name)
    return worker


def known(session: Session) -> Sequence[Worker]:
    """All that have reported, also those that are gone, until they are forgotten."""
    return session.scalars(select(Worker).order_by(Worker.name)).all()


def live(session: Session) -> Sequence[Worker]:
    """Those that are there, also those that drain."""
    return session.scalars(select(Worker).where(is_live()).order_by(Worker.name)).all()


def is_live() -> ColumnElement[bool]:
    alive: ColumnElement[bool] = Worker.stopped_at.is_(None) & (Worker.heartbeat_at + Worker.lease_seconds >= now())
    return alive


def status(session: Session, worker: Worker) -> Status:
    return statuses(session, [worker.name])[worker.name]


def statuses(session: Session, names: Collection[str]) -> dict[str, Status]:
    """Of several, at one moment."""
    found = session.execute(
        select(Worker.name, Worker.stopped_at, is_live().label("is_live"), Worker.draining).where(Worker.name.in_(names))
    )
    return {row.name: _status(row) for row in found}


def drain(session: Session, name: str, stop_jobs: bool = False) -> Worker:
    """The worker takes no new jobs. Those that run go on, or, with `stop_jobs`, save a checkpoint and are given back."""
    return _wish(session, name, draining=True, stop_jobs=stop_jobs, reserved_for=None)


def undrain(session: Session, name: str) -> Worker:
    return _wish(session, name, draining=False, stop_jobs=False)


def forget(session: Session, older_than_seconds: float = FORGOTTEN_SECONDS) -> list[str]:
    """Removes workers that are long gone and hold nothing."""
    holds = select(TakenSlot.job_id).where(TakenSlot.worker == Worker.name).exists()
    gone = session.scalars(
        delete(Worker)
        .where(func.coalesce(Worker.stopped_at, Worker.heartbeat_at) < now() - older_than_seconds, ~holds)
        .returning(Worker.name)
        .execution_options(synchronize_session=False)
    )
    return sorted(gone)


def _trouble(reading: Reading) -> Any:
    if reading.trouble is not None:
        return reading.trouble
    return case((Slot.used_permille == 0, reading.occupied), else_=null())


def _rivals(session: Session, report: Report) -> Sequence[Worker]:
    """Who has the name, or one of the GPUs."""
    gpus = [slot.gpu for slot in report.slots if slot.gpu is not None]
    owns_one = select(Slot.worker).where(Slot.gpu.in_(gpus))
    wanted = select(Worker).where(or_(Worker.name == report.me.name, Worker.name.in_(owns_one)))
    return session.scalars(wanted.order_by(Worker.name).with_for_update().execution_options(populate_existing=True)).all()


def _enter(session: Session, report: Report) -> None:
    values = {
        "instance": report.me.instance,
        "host": report.host,
        "pid": report.pid,
        "machine": report.machine,
        "process_started_at": report.process_started_at,
        "software": report.software,
        "spec_versions": sorted(report.spec_versions),
        "queues": list(report.queues),
        "extras": sorted(report.extras),
        "sharing": report.sharing,
        "lease_seconds": report.lease_seconds,
        "started_at": now(),
        "heartbeat_at": now(),
        "stopped_at": None,
        "stop_jobs": False,
        "reserved_for": None,
    }
    # a worker that was drained stays so when it starts anew: whoever drained a host may be about to restart it
    changed = session.execute(update(Worker).where(Worker.name == report.me.name).values(**values).returning(Worker.name))
    if changed.one_or_none() is None:
        session.execute(insert(Worker).values(name=report.me.name, draining=False, **values))
    for position, slot in enumerate(report.slots):
        session.execute(
            insert(Slot).values(
                worker=report.me.name,
                position=position,
                device=slot.device,
                gpu=slot.gpu,
                gpu_name=slot.gpu_name,
                memory_bytes=slot.memory_bytes,
                used_permille=0,
            )
        )


def _wish(session: Session, name: str, **values: Any) -> Worker:
    get(session, name)
    changed = update(Worker).where(Worker.name == name).values(**values).execution_options(synchronize_session=False)
    session.execute(changed)
    return get(session, name)


def _status(row: Any) -> Status:
    if row.stopped_at is not None:
        return Status.STOPPED
    if not row.is_live:
        return Status.LOST
    return Status.DRAINING if row.draining else Status.UP
