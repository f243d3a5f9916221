"""The checkpoints that a job has saved, complete."""

from collections.abc import Sequence

from fastapi import APIRouter

from service.api.access import Owner
from service.api.collaborators import TheDatabase
from service.api.problems import declared
from service.api.views import CheckpointList, checkpoint_view
from service.store import checkpoints, jobs, metrics
from service.store.tables import Metric

router = APIRouter(tags=["files"])

# Where a checkpoint was measured on several texts, its line in this list shows the first of these.
SPLITS = ("validation", "dataset", "train")


@router.get("/jobs/{job_id}/checkpoints", responses=declared(404))
def list_checkpoints(job_id: str, owner: Owner, database: TheDatabase) -> CheckpointList:
    """Oldest first, each with its files and its measures."""
    with database.reading() as session:
        jobs.version(session, owner, job_id)
        saved = checkpoints.of_job(session, job_id)
        measured = _values(metrics.of_job(session, job_id))
    return CheckpointList(data=[checkpoint_view(one, measured.get((one.step, one.global_step), {})) for one in saved])


def _values(found: Sequence[Metric]) -> dict[tuple[str, int], dict[str, float | None]]:
    """By checkpoint, the value of each measure."""
    order = {split: position for position, split in enumerate(SPLITS)}
    values: dict[tuple[str, int], dict[str, float | None]] = {}
    for metric in sorted(found, key=lambda metric: order.get(metric.split, len(order))):
        values.setdefault((metric.step, metric.global_step), {}).setdefault(metric.measure, metric.value)
    return values
