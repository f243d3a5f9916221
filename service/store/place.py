"""Where a job stands that waits: how many are before it, and when it may begin.

Asked of one job at a time, at a cost that does not grow with how many wait: no more than MOST are counted.
"""

from dataclasses import dataclass
from functools import cache
from math import isinf
from typing import Any

from sqlalchemy import Select, bindparam, func, literal_column, or_, select
from sqlalchemy.orm import Session

from service.specs.quota import UNLIMITED, Quota
from service.store import forecast, line, quotas, scheduling, slots, workers
from service.store.clock import now
from service.store.line import Waiting
from service.store.need import WHOLE
from service.store.tables import Job, Slot, Worker

MOST = 1000


@dataclass(frozen=True)
class Place:
    """`position` counts from 1. For each that is None, `why_unknown` has a sentence."""

    position: int | None
    starts_at: float | None
    why_unknown: str | None = None


def of_job(session: Session, job_id: str, default: Quota = UNLIMITED) -> Place | None:
    """None of a job that is not ready: it runs, has ended, or must wait for something else than its turn."""
    waiting = line.one(session, job_id)
    if waiting is None:
        return None
    quota = quotas.of_owner(session, waiting.owner, default)
    if why := quotas.why_held(session, waiting, max(waiting.need.gpus, 0), quota):
        return Place(None, None, why)
    before = _count_before(session, waiting)
    if before > MOST:
        return Place(None, None, f"More than {MOST:,} jobs are before it.")
    starts_at, why = _start(session, waiting, before)
    return Place(before + 1, starts_at, why)


def _count_before(session: Session, waiting: Waiting) -> int:
    """How many go before the job; when they are more than MOST, some number above it."""
    before = 0
    for kind in line.heads(session, [waiting.queue]):
        if before <= MOST:
            before += _before(session, kind, waiting, MOST + 1 - before)
    return before


def _before(session: Session, kind: Waiting, waiting: Waiting, most: int) -> int:
    """How many of a kind go before the job, as far as they are counted."""
    if (-kind.priority, kind.running) > (-waiting.priority, waiting.running):
        return 0
    by_age = (kind.priority, kind.running) == (waiting.priority, waiting.running)
    need = {"gpus": kind.need.gpus, "gpu_permille": kind.need.permille, "gpu_gb": kind.need.gb}
    written = {"spec_version": kind.spec_version, "extras": kind.extras}
    alike = {"queue": kind.queue, "priority": kind.priority, "owner": kind.owner, **need, **written}
    until = {"until": waiting.created_at} if by_age else {}
    return session.scalar(_alike(by_age), {**alike, **until, "itself": waiting.id, "most": most}) or 0


@cache
def _alike(by_age: bool) -> Select[Any]:
    """Counts the ready jobs of a kind up to :most, without :itself; `by_age` only those that the line has before it."""
    names = ("queue", "priority", "owner", "gpus", "gpu_permille", "gpu_gb", "spec_version", "extras")
    alike: Select[Any] = select(literal_column("1")).where(
        line.is_ready(Job), *(getattr(Job, name) == bindparam(name) for name in names), Job.id != bindparam("itself")
    )
    if by_age:
        older = Job.created_at < bindparam("until")
        alike = alike.where(Job.created_at <= bindparam("until"), or_(older, Job.id < bindparam("itself")))
    return select(func.count()).select_from(alike.limit(bindparam("most")).subquery())


def _start(session: Session, waiting: Waiting, before: int) -> tuple[float | None, str | None]:
    """When enough slots will be free for it, each job before it taking the first; and why that is not known."""
    there = [worker for worker in workers.live(session) if not worker.draining and scheduling.is_meant(worker, waiting)]
    own = slots.of_workers(session, [worker.name for worker in there])
    could = [worker for worker in there if waiting.need.could_ever(own[worker.name], worker.sharing)]
    if not could:
        return None, "No worker that is there now could begin it."
    could = [worker for worker in could if not _is_kept(session, worker, waiting)]
    if not could:
        return None, "The workers that could begin it are kept free for jobs that need several GPUs, or a whole one."
    uses = forecast.uses(session, [worker.name for worker in could])
    openings = [_openings(worker, own[worker.name], waiting, uses) for worker in could]
    n_slots = max(1, waiting.need.gpus_of(own[could[0].name]))
    if n_slots > 1:
        if before > 0:
            return None, "Several GPUs must come free at once, and jobs are before it."
        first = min(sorted(times[0] for times in of_slots)[n_slots - 1] for of_slots in openings)
    else:
        in_turn = sorted(time for of_slots in openings for times in of_slots for time in times)
        if before >= len(in_turn):
            return None, "How long the jobs before it take is known only when they run."
        first = in_turn[before]
    if isinf(first):
        return None, "The jobs that run do not say yet when they end."
    return max(first, session.scalar(select(now())) or 0.0), None


def _is_kept(session: Session, worker: Worker, waiting: Waiting) -> bool:
    """For another job, before which this one does not go."""
    kept_for = None if worker.reserved_for in (None, waiting.id) else line.one(session, str(worker.reserved_for))
    return kept_for is not None and waiting.need.gpus != 0 and waiting.priority <= kept_for.priority


def _openings(worker: Worker, own: list[Slot], waiting: Waiting, uses: forecast.Uses) -> list[list[float]]:
    """Of each slot that it could use, when one job like it after another could begin there."""
    on_cpu = waiting.need.gpus_of(own) == 0
    usable = [slot for slot in own if (slot.device is None if on_cpu else waiting.need.could_use(slot, worker.sharing))]
    part = WHOLE if on_cpu else waiting.need.part(worker.sharing)
    return [forecast.openings(uses.get((worker.name, slot.position), []), part) for slot in usable]
