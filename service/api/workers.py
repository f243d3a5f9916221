"""The workers: what they have, what they run, and how they are; and what their operator wishes of them."""

from collections.abc import Sequence, Set
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from service.api.access import Whose
from service.api.acting import TheDoing
from service.api.bodies import OptionalDocument, RawBody, no_document
from service.api.collaborators import TheDatabase
from service.api.errors import BadParameter
from service.api.problems import declared
from service.api.views import iso, iso_or_none
from service.store import jobs, slots, workers
from service.store.owners import EVERYBODY
from service.store.tables import Slot, TakenSlot, Worker
from service.store.workers import Status

router = APIRouter(tags=["workers"])


class SlotJobView(BaseModel):
    job: str
    fraction: float = Field(description="Of the slot.")


class SlotView(BaseModel):
    """A place for a job. What is read of a GPU is null where its host has no NVML."""

    position: int
    kind: str = Field(description="gpu or cpu.")
    gpu: str | None = Field(description="The GPU's UUID.")
    name: str | None
    memory_bytes: int | None
    memory_used_bytes: int | None
    temperature_celsius: float | None
    utilization_percent: float | None
    trouble: str | None = Field(description="Why no job is put here now.")
    used: float = Field(description="How much of it is taken: 1 is all.")
    jobs: list[SlotJobView]


class WorkerView(BaseModel):
    name: str
    status: Status = Field(description="up, draining (takes no new jobs), stopped, or lost (not heard of within its lease).")
    healthy: bool = Field(description="Whether it is there and no slot of it is in trouble.")
    draining: bool
    host: str
    pid: int
    software: str
    spec_versions: list[int] = Field(description="The versions of the language of jobs that it reads.")
    queues: list[str]
    extras: list[str] | None = Field(description="What is installed there beside what every worker has; null: it did not say.")
    sharing: bool = Field(description="Whether jobs may share its GPUs.")
    reserved_for: str | None = Field(description="The job that its GPUs are kept for, as they come free.")
    started_at: str
    heartbeat_at: str
    stopped_at: str | None
    slots: list[SlotView]


class WorkerList(BaseModel):
    data: list[WorkerView]


@router.get("/workers")
def list_workers(database: TheDatabase, whose: Whose) -> WorkerList:
    """All that have reported, also those that are gone, for a week. Of the jobs that they run, those that the key may see."""
    with database.reading() as session:
        return WorkerList(data=_views(session, workers.known(session), whose))


@router.get("/workers/{name}", responses=declared(404))
def get_worker(name: str, database: TheDatabase, whose: Whose) -> WorkerView:
    """A worker, slot by slot."""
    with database.reading() as session:
        return _views(session, [workers.get(session, name)], whose)[0]


@router.post("/workers/{name}/drain", responses=declared(400, 404, 409, 413, 415, 422))
def drain_worker(
    name: str,
    wish: OptionalDocument,
    acting: TheDoing,
    now: Annotated[bool, Query(description="Have the jobs that run save a checkpoint and go on elsewhere.")] = False,
) -> WorkerView:
    """The worker takes no new jobs, also after a restart, until it is undrained. Those that run go on to their end.

    `{"stop_jobs": true}` as a body says the same as `now`.
    """
    stop_jobs = now or _stop_jobs(wish)
    with acting.transaction() as session:
        return acting.answer(_view(session, workers.drain(session, name, stop_jobs)))


@router.post("/workers/{name}/undrain", responses=declared(400, 404, 409, 413, 422))
def undrain_worker(name: str, raw: RawBody, acting: TheDoing) -> WorkerView:
    """The worker takes jobs again, from its next heartbeat on."""
    no_document(raw)
    with acting.transaction() as session:
        return acting.answer(_view(session, workers.undrain(session, name)))


def _stop_jobs(wish: Any) -> bool:
    if not isinstance(wish, dict) or set(wish) - {"stop_jobs"} or not isinstance(wish.get("stop_jobs", False), bool):
        raise BadParameter("/stop_jobs", 'The body is nothing, or {"stop_jobs": true or false}.')
    return bool(wish.get("stop_jobs", False))


def _view(session: Session, worker: Worker) -> WorkerView:
    return _views(session, [worker], EVERYBODY)[0]


def _views(session: Session, found: Sequence[Worker], whose: str) -> list[WorkerView]:
    names = [worker.name for worker in found]
    statuses, own, taken = workers.statuses(session, names), slots.of_workers(session, names), slots.taken(session, names)
    seen = jobs.owned(session, whose, {use.job_id for use in taken} | {worker.reserved_for or "" for worker in found})
    shown = [use for use in taken if use.job_id in seen]
    return [_worker_view(worker, statuses[worker.name], own[worker.name], shown, seen) for worker in found]


def _worker_view(worker: Worker, status: Status, own: Sequence[Slot], taken: Sequence[TakenSlot], seen: Set[str]) -> WorkerView:
    is_there = status in (Status.UP, Status.DRAINING)
    return WorkerView(
        name=worker.name,
        status=status,
        healthy=is_there and all(slot.trouble is None for slot in own),
        draining=worker.draining,
        host=worker.host,
        pid=worker.pid,
        software=worker.software,
        spec_versions=worker.spec_versions,
        queues=worker.queues,
        extras=worker.extras,
        sharing=worker.sharing,
        reserved_for=worker.reserved_for if worker.reserved_for in seen else None,
        started_at=iso(worker.started_at),
        heartbeat_at=iso(worker.heartbeat_at),
        stopped_at=iso_or_none(worker.stopped_at),
        slots=[
            _slot_view(slot, [use for use in taken if (use.worker, use.position) == (worker.name, slot.position)]) for slot in own
        ],
    )


def _slot_view(slot: Slot, uses: Sequence[TakenSlot]) -> SlotView:
    readings = slot.readings or {}
    return SlotView(
        position=slot.position,
        kind="cpu" if slot.device is None else "gpu",
        gpu=slot.gpu,
        name=slot.gpu_name,
        memory_bytes=slot.memory_bytes,
        memory_used_bytes=readings.get("memory_used_bytes"),
        temperature_celsius=readings.get("temperature_celsius"),
        utilization_percent=readings.get("utilization_percent"),
        trouble=slot.trouble,
        used=slot.used_permille / 1000,
        jobs=[SlotJobView(job=use.job_id, fraction=use.permille / 1000) for use in uses],
    )
