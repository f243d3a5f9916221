"""When slots will be free, from what the jobs that hold them say of their progress."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.store import slots
from service.store.need import WHOLE
from service.store.tables import Job

UNKNOWN = float("inf")

# By (worker, position). Moments are seconds since 1970; UNKNOWN where the job does not say yet. A slot that is not there is free.
FreeAt = dict[tuple[str, int], float]
Uses = dict[tuple[str, int], list[tuple[float, int]]]


def free_at(session: Session, workers: Sequence[str]) -> FreeAt:
    """When each slot that is taken will be free again, whole."""
    return {place: max(end for end, _ in parts) for place, parts in uses(session, workers).items()}


def uses(session: Session, workers: Sequence[str]) -> Uses:
    """When each job that is on a slot ends, and how many thousandths of it that job has."""
    taken = slots.taken(session, workers)
    running = session.execute(select(Job.id, Job.progress, Job.changed_at).where(Job.id.in_({use.job_id for use in taken})))
    ends = {job_id: _end(progress or {}, changed_at) for job_id, progress, changed_at in running}
    found: Uses = {}
    for use in taken:
        found.setdefault((use.worker, use.position), []).append((ends.get(use.job_id, UNKNOWN), use.permille))
    return found


def openings(parts: Sequence[tuple[float, int]], wanted: int) -> list[float]:
    """When one job after another that takes so many thousandths could begin on a slot, as those that are there end; 0: now."""
    free = WHOLE - sum(permille for _, permille in parts)
    begin = [0.0] * (free // wanted)
    free %= wanted
    for end, permille in sorted(parts):
        free += permille
        begin += [end] * (free // wanted)
        free %= wanted
    return begin


def _end(progress: dict[str, object], changed_at: float) -> float:
    """Of a job in its last step, whose pace is known. What comes after a step is not known before it runs."""
    left, position, steps = progress.get("eta_seconds"), progress.get("position"), progress.get("steps")
    if not isinstance(left, int | float) or position != steps:
        return UNKNOWN
    return changed_at + left
