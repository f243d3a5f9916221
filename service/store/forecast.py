"""When slots will be free, from what the jobs that hold them say of their progress."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.store import slots
from service.store.tables import Job

UNKNOWN = float("inf")

# (worker, position) -> seconds since 1970; UNKNOWN where the job does not say yet. A slot that is not there is free.
FreeAt = dict[tuple[str, int], float]


def free_at(session: Session, workers: Sequence[str]) -> FreeAt:
    """When each slot that is taken will be free again, whole."""
    taken = slots.taken(session, workers)
    running = session.execute(select(Job.id, Job.progress, Job.changed_at).where(Job.id.in_({use.job_id for use in taken})))
    ends = {job_id: _end(progress or {}, changed_at) for job_id, progress, changed_at in running}
    found: FreeAt = {}
    for use in taken:
        place = (use.worker, use.position)
        found[place] = max(found.get(place, 0.0), ends.get(use.job_id, UNKNOWN))
    return found


def _end(progress: dict[str, object], changed_at: float) -> float:
    """Of a job in its last step, whose pace is known. What comes after a step is not known before it runs."""
    left, position, steps = progress.get("eta_seconds"), progress.get("position"), progress.get("steps")
    if not isinstance(left, int | float) or position != steps:
        return UNKNOWN
    return changed_at + left
