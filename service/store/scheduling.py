"""Which job a worker takes, and on which of its slots. docs/decisions/0016 has the rule and why it starves nobody.

A job that needs more than is free does not stop those behind it. When it has waited long enough, a worker is reserved for it:
nothing of no higher priority is put there that would leave it fewer GPUs than it needs, so sooner or later they are free.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.orm import Session, aliased

from service.specs.quota import UNLIMITED, Quota
from service.store import forecast, gpu_use, leases, line, quotas, slots, workers
from service.store.clock import now
from service.store.errors import WorkerReplaced
from service.store.leases import Claim
from service.store.line import Waiting
from service.store.need import WHOLE, Need
from service.store.tables import Job, Slot, Worker
from service.store.workers import Identity


@dataclass(frozen=True)
class Placement:
    """A claim, and the GPUs that it was given: for CUDA_VISIBLE_DEVICES, none of them for a job that runs on the CPU."""

    held: Claim
    devices: tuple[str, ...]
    fraction: float  # of each GPU's memory


def best(session: Session, me: Identity, skip: Collection[str] = (), default: Quota = UNLIMITED) -> str | None:
    """The job that this worker would take now: the first in line that fits beside those that run, and that its owner's quota
    lets begin. Raises WorkerReplaced.

    Only a look: `claim` looks again, where nobody can come between.
    """
    worker = _registered(session, me)
    if worker.draining:
        return None
    own = slots.of_worker(session, worker.name)
    reserved = _reserved(session, worker)
    candidates = _candidates(session, worker, reserved, skip)
    quota_of = quotas.of_owners(session, {waiting.owner for waiting in candidates}, default) if candidates else {}
    for waiting in candidates:
        if _places(worker, own, waiting, reserved) is None:
            continue
        if quotas.why_held(session, waiting, _gpus(worker, own, waiting), quota_of[waiting.owner]) is None:
            return waiting.id
    return None


def claim(session: Session, me: Identity, lease_seconds: float, job_id: str, default: Quota = UNLIMITED) -> Placement | None:
    """Claims that job with all the slots that it needs, or nothing. Raises WorkerReplaced."""
    worker = _registered(session, me, lock=True)  # one claim at a time for each worker: what is free stays so
    own = slots.of_worker(session, worker.name)
    waiting = line.one(session, job_id)
    if worker.draining or waiting is None or not is_meant(worker, waiting):
        return None
    places = _places(worker, own, waiting, _reserved(session, worker))
    if places is None or _is_over_quota(session, worker, own, waiting, default):
        return None
    held = leases.claim(session, worker.queues, worker.name, lease_seconds, only=job_id)
    if held is None:
        return None
    devices = tuple(slot.device for slot in places if slot.device is not None)
    part = waiting.need.part(worker.sharing)
    slots.take(session, job_id, places, part if devices else 1000)
    if devices:
        gpu_use.begin(session, job_id, held.attempt, part * len(devices))
    if worker.reserved_for == job_id:
        worker.reserved_for = None
    return Placement(held, devices, part / 1000)


def reserve(session: Session, queues: Sequence[str], after_seconds: float, default: Quota = UNLIMITED) -> tuple[str, str] | None:
    """Reserves a worker for the first in line of those that have waited so long and fit nowhere now: (job, worker).

    The worker where it will fit soonest. One reservation a transaction: two that made several could wait for one another.
    """
    _forget_stale(session)
    passed_over = _passed_over(session, queues, after_seconds)
    if not passed_over:
        return None
    there = [worker for worker in workers.live(session) if not worker.draining and worker.reserved_for is None]
    names = [worker.name for worker in there]
    own, free_at = slots.of_workers(session, names), forecast.free_at(session, names)
    for waiting in passed_over:
        could = [worker for worker in there if _could_ever(worker, own[worker.name], waiting)]
        if could and _why_held(session, could[0], own[could[0].name], waiting, default):
            continue
        if not could or any(waiting.need.places(own[worker.name], worker.sharing) for worker in could):
            continue
        chosen = min(could, key=lambda worker: _wait(worker, own[worker.name], waiting.need, free_at))
        comes_by_itself = waiting.need.gpus_of(own[chosen.name]) == 1 and not chosen.sharing  # any GPU that comes free is enough
        if not comes_by_itself and _reserve(session, chosen, waiting.id):
            return waiting.id, chosen.name
    return None


def tell_why_held(session: Session, queues: Sequence[str], default: Quota = UNLIMITED) -> None:
    """Says of jobs what they wait for beside their turn."""
    if not line.heads(session, queues):
        return  # most sweeps find nobody, and ask no more
    tell_unreadable(session, queues)
    tell_lacking_extras(session, queues)
    tell_over_quota(session, queues, default)


def tell_unreadable(session: Session, queues: Sequence[str]) -> None:
    """Says of jobs that no worker of their queue can read that they wait for one that can."""
    live = workers.live(session)
    for waiting in line.heads(session, queues):
        there = [worker for worker in live if waiting.queue in worker.queues]
        if not there or any(waiting.spec_version in worker.spec_versions for worker in there):
            continue
        read = sorted({version for worker in there for version in worker.spec_versions})
        leases.hold(
            session,
            waiting.id,
            there[0].name,
            f"Held: it is written in version {waiting.spec_version} of the language of jobs, and the workers of queue "
            f"{waiting.queue} read {', '.join(map(str, read))}. It begins when there is a worker of its version.",
        )


def tell_lacking_extras(session: Session, queues: Sequence[str]) -> None:
    """Says of jobs that need what no worker of their queue has installed that they wait for one that has."""
    live = workers.live(session)
    for waiting in line.heads(session, queues):
        there = [worker for worker in live if waiting.queue in worker.queues and waiting.extras]
        if not there or any(_has_extras(worker, waiting) for worker in there):
            continue
        installed = ", ".join(f"{worker.name} ({', '.join(worker.extras or ()) or 'none'})" for worker in there)
        leases.hold(
            session,
            waiting.id,
            there[0].name,
            f"Held: it needs the extra {' and '.join(sorted(waiting.needed_extras))}, and the workers of queue {waiting.queue} "
            f"have {installed}. It begins when there is one that has it.",
        )


def tell_over_quota(session: Session, queues: Sequence[str], default: Quota = UNLIMITED) -> None:
    """Says of jobs that their owner's quota holds them, and which."""
    live = [worker for worker in workers.live(session) if not worker.draining]
    own = slots.of_workers(session, [worker.name for worker in live])
    for waiting in line.heads(session, queues):
        could = next((worker for worker in live if _could_begin(worker, own[worker.name], waiting)), None)
        if could is not None and (why := _why_held(session, could, own[could.name], waiting, default)):
            leases.hold(session, waiting.id, could.name, why)


def is_meant(worker: Worker, waiting: Waiting) -> bool:
    """Whether the job may go to that worker, whatever its slots are: it is of its queues, can be read there, and done."""
    is_read = waiting.queue in worker.queues and waiting.spec_version in worker.spec_versions
    return is_read and _has_extras(worker, waiting)


def _has_extras(worker: Worker, waiting: Waiting) -> bool:
    """A worker that has not said what it has is taken to have nothing."""
    return waiting.needed_extras <= set(worker.extras or ())


def _could_begin(worker: Worker, own: Sequence[Slot], waiting: Waiting) -> bool:
    return is_meant(worker, waiting) and waiting.need.could_ever(own, worker.sharing)


def _is_over_quota(session: Session, worker: Worker, own: Sequence[Slot], waiting: Waiting, default: Quota) -> bool:
    """Looked at where nobody else of this owner can begin meanwhile."""
    quota = quotas.of_owner(session, waiting.owner, default)
    if quota.running is None and quota.gpu_hours is None:
        return False
    quotas.lock(session, waiting.owner)
    counted = line.one(session, waiting.id)  # again: another of the owner's may have begun before the lock was had
    return counted is None or quotas.why_held(session, counted, _gpus(worker, own, counted), quota) is not None


def _why_held(session: Session, worker: Worker, own: Sequence[Slot], waiting: Waiting, default: Quota) -> str | None:
    quota = quotas.of_owner(session, waiting.owner, default)
    return quotas.why_held(session, waiting, _gpus(worker, own, waiting), quota)


def _gpus(worker: Worker, own: Sequence[Slot], waiting: Waiting) -> float:
    """How many whole GPUs the job would take there."""
    return waiting.need.gpus_of(own) * waiting.need.part(worker.sharing) / WHOLE


def _registered(session: Session, me: Identity, lock: bool = False) -> Worker:
    wanted = select(Worker).where(Worker.name == me.name, Worker.instance == me.instance)
    if lock:
        wanted = wanted.with_for_update(key_share=True)
    worker = session.scalar(wanted.execution_options(populate_existing=True))
    if worker is None:
        raise WorkerReplaced(f"Another process is registered as worker {me.name} by now, or none.")
    return worker


def _reserved(session: Session, worker: Worker) -> Waiting | None:
    """The job that the worker is reserved for, as long as it waits."""
    return None if worker.reserved_for is None else line.one(session, worker.reserved_for)


def _candidates(session: Session, worker: Worker, reserved: Waiting | None, skip: Collection[str]) -> list[Waiting]:
    """Those that are meant for it, the first in line first; among equals in priority the one that it is reserved for."""
    found = {waiting.id: waiting for waiting in line.heads(session, worker.queues, skip)}
    if reserved is not None and reserved.id not in skip:
        found[reserved.id] = reserved
    meant = [waiting for waiting in found.values() if is_meant(worker, waiting)]
    return sorted(meant, key=lambda waiting: (-waiting.priority, waiting != reserved, waiting.rank))


def _places(worker: Worker, own: Sequence[Slot], waiting: Waiting, reserved: Waiting | None) -> list[Slot] | None:
    """The slots that a job would take now; None where they are not free, or kept for another."""
    places = waiting.need.places(own, worker.sharing)
    if places is None or reserved is None or reserved.id == waiting.id or waiting.priority > reserved.priority:
        return places
    gpus = {slot.position for slot in own if slot.device is not None}
    busy = {slot.position for slot in own if slot.used_permille > 0} | {slot.position for slot in places}
    kept = reserved.need.gpus_of(own)
    touches_gpus = any(slot.position in gpus for slot in places)
    return None if touches_gpus and len(busy & gpus) > len(gpus) - kept else places


def _passed_over(session: Session, queues: Sequence[str], after_seconds: float) -> list[Waiting]:
    """The first in line of each kind that wants GPUs, has waited so long, and has no worker reserved yet."""
    have_one = [job_id for job_id in session.scalars(select(Worker.reserved_for)) if job_id is not None]
    heads = line.heads(session, queues, skip=have_one)
    at = session.scalar(select(now())) or 0.0 if heads else 0.0
    return [waiting for waiting in heads if waiting.need.gpus != 0 and at - waiting.created_at >= after_seconds]


def _could_ever(worker: Worker, own: Sequence[Slot], waiting: Waiting) -> bool:
    return is_meant(worker, waiting) and waiting.need.gpus_of(own) > 0 and waiting.need.could_ever(own, worker.sharing)


def _wait(worker: Worker, own: Sequence[Slot], need: Need, free_at: forecast.FreeAt) -> tuple[float, int, str]:
    """How soon it would fit there: when enough slots are free, or, where that is not known, how many have to come free."""
    usable = [slot for slot in own if need.could_use(slot, worker.sharing)]
    ends = sorted(free_at.get((worker.name, slot.position), 0.0) for slot in usable)[: need.gpus_of(own)]
    return ends[-1], sum(end > 0 for end in ends), worker.name


def _reserve(session: Session, worker: Worker, job_id: str) -> bool:
    """Whether it is done: another sweep may have been first, with the job or with the worker."""
    still_waits = select(Job.id).where(Job.id == job_id, line.is_ready(Job)).with_for_update(skip_locked=True)
    if session.scalar(still_waits) is None or session.scalar(select(Worker.name).where(Worker.reserved_for == job_id)):
        return False
    reserved = session.execute(
        update(Worker)
        .where(Worker.name == worker.name, Worker.reserved_for.is_(None))
        .values(reserved_for=job_id)
        .returning(Worker.name)
        .execution_options(synchronize_session=False)
    )
    return reserved.one_or_none() is not None


def _forget_stale(session: Session) -> None:
    """Reservations of jobs that wait no more, and at workers that take none."""
    waits = aliased(Job)
    is_waiting = select(waits.id).where(waits.id == Worker.reserved_for, waits.state == line.QUEUED).exists()
    session.execute(
        update(Worker)
        .where(Worker.reserved_for.is_not(None), ~is_waiting | ~workers.is_live() | Worker.draining)
        .values(reserved_for=None)
        .execution_options(synchronize_session=False)
    )
