"""What happened to a job, in order."""

from typing import Annotated

from fastapi import APIRouter, Query

from service.api.access import Whose
from service.api.collaborators import TheDatabase
from service.api.problems import declared
from service.api.views import EventPage, event_view
from service.store import events, jobs

router = APIRouter(tags=["jobs"])


@router.get("/jobs/{job_id}/events", responses=declared(404))
def list_events(
    job_id: str,
    owner: Whose,
    database: TheDatabase,
    after: Annotated[int, Query(ge=0, lt=2**31, description="The number of the last event that is known.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> EventPage:
    """The events behind number `after`, oldest first. A client that asks on from `next_after` misses none."""
    with database.reading() as session:
        jobs.version(session, owner, job_id)
        found = events.after(session, job_id, after, limit + 1)
    page = [event_view(event) for event in found[:limit]]
    return EventPage(data=page, has_more=len(found) > limit, next_after=page[-1].number if page else after)
