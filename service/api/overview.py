"""The service at a glance: what waits and runs, how what ended lately has ended, and what the workers have."""

from collections import Counter
from collections.abc import Sequence

from fastapi import APIRouter
from pydantic import BaseModel, Field

from service.api.collaborators import TheDatabase
from service.api.problems import declared
from service.store.overview import Ended, Overview, ended_lately, overview

router = APIRouter(tags=["health"])


class QueueView(BaseModel):
    """The jobs of one queue that have not ended."""

    queue: str
    queued: int
    running: int
    paused: int
    oldest_queued_seconds: float | None = Field(description="How long the one that came first has waited; null where none waits.")


class OverviewView(BaseModel):
    """One moment, of all owners together."""

    queues: list[QueueView]
    ended: dict[str, int] = Field(description="Of the last hour, by state.")
    reasons: dict[str, int] = Field(description="Why jobs failed in the last hour.")
    tokens_per_second: float = Field(description="Of all running jobs that have said how fast they train.")
    workers: dict[str, int] = Field(description="By status, of the last week.")
    slots: int = Field(description="Places for jobs on workers that are up or draining.")
    slots_used: float = Field(description="How many of them are taken; a part of one counts as that part.")
    slots_in_trouble: int


@router.get("/overview", responses=declared())
def get_overview(database: TheDatabase) -> OverviewView:
    """Counts alone, which cost as little with a million jobs that have ended as with none."""
    with database.reading() as session:
        return _view(overview(session), ended_lately(session))


def _view(found: Overview, lately: Sequence[Ended]) -> OverviewView:
    ended, reasons = Counter[str](), Counter[str]()
    for one in lately:
        ended[one.state] += one.n
        if one.reason is not None:
            reasons[one.reason] += one.n
    slots = [slot for slot in found.slots if found.workers.get(slot.worker) in ("up", "draining")]
    return OverviewView(
        queues=[_queue_view(found, name) for name in sorted({one.queue for one in found.live})],
        ended=ended,
        reasons=reasons,
        tokens_per_second=sum(one.tokens_per_second or 0.0 for one in found.running),
        workers=Counter(found.workers.values()),
        slots=len(slots),
        slots_used=sum(slot.used_permille for slot in slots) / 1000,
        slots_in_trouble=sum(slot.trouble is not None for slot in slots),
    )


def _queue_view(found: Overview, name: str) -> QueueView:
    of_queue = {one.state: one for one in found.live if one.queue == name}
    waiting = of_queue.get("queued")
    return QueueView(
        queue=name,
        queued=0 if waiting is None else waiting.n,
        running=of_queue["running"].n if "running" in of_queue else 0,
        paused=of_queue["paused"].n if "paused" in of_queue else 0,
        oldest_queued_seconds=None if waiting is None else waiting.oldest_seconds,
    )
