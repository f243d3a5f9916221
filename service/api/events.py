"""What happened to a job, in order: page by page, or as it happens."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from starlette.concurrency import run_in_threadpool

from service.api.access import Whose
from service.api.collaborators import TheDatabase, TheFollowing
from service.api.following import EventStream
from service.api.problems import declared
from service.api.views import EventPage, event_view
from service.store import events, jobs
from service.store.session import Database
from service.store.states import ENDED, State

router = APIRouter(tags=["jobs"])

Number = Annotated[int, Query(ge=0, lt=2**31, description="The number of the last event that is known.")]

NO_MORE: dict[int | str, dict[str, Any]] = {204: {"description": "The job has ended and all is told: do not ask again."}}


@router.get("/jobs/{job_id}/events", responses=declared(404))
def list_events(
    job_id: str,
    owner: Whose,
    database: TheDatabase,
    after: Number = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> EventPage:
    """The events behind number `after`, oldest first. A client that asks on from `next_after` misses none."""
    with database.reading() as session:
        jobs.version(session, owner, job_id)
        found = events.after(session, job_id, after, limit + 1)
    page = [event_view(event) for event in found[:limit]]
    return EventPage(data=page, has_more=len(found) > limit, next_after=page[-1].number if page else after)


@router.get("/jobs/{job_id}/events/stream", response_class=EventStream, responses={**NO_MORE, **declared(404, 422)})
async def stream_events(
    job_id: str,
    owner: Whose,
    database: TheDatabase,
    following: TheFollowing,
    after: Number = 0,
    progress: Annotated[bool, Query(description="Besides, an event `progress` whenever the job's progress changed.")] = False,
    last_event_id: Annotated[int | None, Header(ge=0, lt=2**31, description="As a browser sends it; goes before after.")] = None,
) -> Response:
    """The same as server-sent events, each with its number as id: a client that is cut off and comes again with Last-Event-ID
    gets every event once. When the job has ended and all is told, an event `end` closes the stream. Progress has no number: only
    how it is now is told.
    """
    told = after if last_event_id is None else last_event_id
    if await run_in_threadpool(_is_all_told, database, owner, job_id, told):
        return Response(status_code=204)
    return EventStream(following.events(job_id, told, progress))


def _is_all_told(database: Database, owner: str, job_id: str, told: int) -> bool:
    with database.reading() as session:
        job = jobs.get(session, owner, job_id)
        return State(job.state) in ENDED and told >= job.event_count
