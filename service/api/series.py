"""A job's training series: as columns, thinned or in part, and point by point as they grow."""

import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlencode

import orjson
from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from service.api.access import Whose
from service.api.collaborators import TheDatabase, TheFollowing
from service.api.errors import BadParameter, NoSuchThing
from service.api.events import NO_MORE
from service.api.following import RETRY_MILLISECONDS, EventStream, Following, end_of
from service.api.looking import looking
from service.api.problems import declared
from service.store import jobs, metrics
from service.store.session import Database, session_of
from service.store.states import ENDED, State

logger = logging.getLogger(__name__)

router = APIRouter(tags=["metrics"])

AT_ONCE = 2000  # points of a series in one event


class SeriesView(BaseModel):
    """A training series as columns: `step` counts the updates within `pipeline_step`."""

    name: str
    pipeline_step: str
    step: list[int]
    value: list[float]


class StepSeries(BaseModel):
    pipeline_step: str
    names: list[str]


class SeriesNames(BaseModel):
    """The series there are, where none is named."""

    job_id: str
    data: list[StepSeries]


@router.get("/jobs/{job_id}/metrics/series", response_model=SeriesView | SeriesNames, responses=declared(404, 422))
def get_series(
    job_id: str,
    request: Request,
    name: Annotated[str | None, Query(description="Such as loss; without it, the names there are.")] = None,
    step: Annotated[str | None, Query(description="A step of the job; needed where there are several.")] = None,
    from_step: Annotated[int | None, Query(ge=0, lt=2**31)] = None,
    to_step: Annotated[int | None, Query(ge=0, lt=2**31)] = None,
    points: Annotated[int | None, Query(ge=2, le=100_000, description="Thin out to about so many; extremes stay.")] = None,
) -> Response:
    """A training series as columns."""
    owner, database, rendered, _ = looking(request)
    with database.glancing() as connection:
        version = jobs.version(connection, owner, job_id)

        def made() -> bytes:
            with session_of(connection) as session:
                return orjson.dumps(_series(session, job_id, name, step, from_step, to_step, points))

        body = rendered.of(("series", job_id, name, step, from_step, to_step, points), version, made)
    return Response(body, media_type="application/json")


def _series(
    session: Session,
    job_id: str,
    name: str | None,
    step: str | None,
    from_step: int | None,
    to_step: int | None,
    points: int | None,
) -> dict[str, Any]:
    steps = jobs.step_names(session, job_id)
    refuse_unknown_step(steps, step)
    if name is None:
        return {"job_id": job_id, "data": _names([step] if step else steps, metrics.series_names(session, job_id))}
    pipeline_step = step or _only_step(steps)
    at, values = metrics.series(session, job_id, pipeline_step, name, from_step, to_step, points)
    if not at:
        _refuse_unknown_name(metrics.series_names(session, job_id).get(pipeline_step, []), name, pipeline_step)
    return {"name": name, "pipeline_step": pipeline_step, "step": at, "value": values}


@router.get("/jobs/{job_id}/metrics/series/stream", response_class=EventStream, responses={**NO_MORE, **declared(404, 422)})
async def stream_series(
    job_id: str,
    owner: Whose,
    database: TheDatabase,
    following: TheFollowing,
    step: Annotated[str | None, Query(description="A step of the job; needed where there are several.")] = None,
    after: Annotated[int | None, Query(ge=0, lt=2**31, description="Only updates behind this one, of every series.")] = None,
    last_event_id: Annotated[str | None, Header(description="The id of the last event that came; goes before after.")] = None,
) -> Response:
    """The points of all of a step's series as they are written: {pipeline_step, series: {name: {step, value}}} in each event.

    A client that is cut off and comes again with Last-Event-ID gets every point once. Updates that an attempt makes anew, from a
    checkpoint on, are not told again. When the job has ended and all is told, an event `end` closes the stream.
    """
    told = _read_place(last_event_id)
    pipeline_step, is_over = await run_in_threadpool(_begun, database, owner, job_id, step)
    place = Place(job_id, pipeline_step, -1 if after is None else after, told)
    if is_over and not await run_in_threadpool(_more, database, place):
        return Response(status_code=204)
    return EventStream(series_told(following, database, place))


@dataclass(frozen=True)
class Place:
    """How far a stream is: the last update that it told of each series, and `after` where it has told none of one."""

    job_id: str
    step: str
    after: int
    told: dict[str, int]

    def __str__(self) -> str:
        return urlencode(self.told)


_Columns = dict[str, tuple[list[int], list[float]]]


def _read_place(given: str | None) -> dict[str, int]:
    """An id is the query of a URL, loss=40&learning_rate=40, since names may hold any sign."""
    try:
        pairs = parse_qsl(given or "", keep_blank_values=True, strict_parsing=bool(given), max_num_fields=1000)
        told = {name: int(update) for name, update in pairs}
    except ValueError:
        told = {"": -1}
    if any(not 0 <= update < 2**31 for update in told.values()):
        raise BadParameter("/header/last-event-id", f"{given!r} is no id of this stream, series=update&series=update.")
    return told


def _begun(database: Database, owner: str, job_id: str, step: str | None) -> tuple[str, bool]:
    """The step that is meant, and whether the job is over."""
    with database.reading() as session:
        state = State(jobs.get(session, owner, job_id).state)
        steps = jobs.step_names(session, job_id)
    refuse_unknown_step(steps, step)
    return step or _only_step(steps), state in ENDED


def _more(database: Database, place: Place) -> _Columns:
    with database.reading() as session:
        return metrics.behind(session, place.job_id, place.step, place.told, place.after, AT_ONCE)


async def series_told(following: Following, database: Database, place: Place) -> AsyncIterator[bytes]:
    yield format_sse_event(retry=RETRY_MILLISECONDS)
    with following.following(place.job_id, wakes=attrgetter("version")) as follower:
        while not following.is_closing:
            now = follower.now  # as it was before the points were looked at: those that are written last are not missed
            try:
                found = await to_thread.run_sync(_more, database, place) if now is not None else {}
            except SQLAlchemyError as error:
                logger.warning("a stream of points is cut: the database did not answer (%s)", type(error).__name__)
                return  # its client comes again, from where it is
            if found:
                place.told.update({name: at[-1] for name, (at, _) in found.items()})
                yield format_sse_event(data_str=_data(place.step, found), id=str(place))
                continue
            if follower.is_gone or (now is not None and now.is_over):
                yield end_of(follower)
                return
            if not await following.wait(follower) or now is not None:
                yield KEEPALIVE_COMMENT  # also where the job changed and no series grew: that may be so for long


def _data(step: str, found: _Columns) -> str:
    columns = {name: {"step": at, "value": values} for name, (at, values) in found.items()}
    return orjson.dumps({"pipeline_step": step, "series": columns}).decode()


def _names(steps: list[str], known: dict[str, list[str]]) -> list[dict[str, Any]]:
    return [{"pipeline_step": name, "names": known[name]} for name in steps if name in known]


def _only_step(steps: list[str]) -> str:
    if len(steps) > 1:
        raise BadParameter("/query/step", f"The job has several steps; say which: {', '.join(steps)}.")
    return steps[0]


def refuse_unknown_step(steps: list[str], step: str | None) -> None:
    if step is not None and step not in steps:
        raise BadParameter("/query/step", f"The job has no step {step!r}; it has {', '.join(steps)}.")


def _refuse_unknown_name(known: Sequence[str], name: str, step: str) -> None:
    """A step that has not begun has no series yet: any name is then an empty one, and no mistake."""
    if known and name not in known:
        raise NoSuchThing(f"The step {step!r} has no series {name!r}; it has {', '.join(known)}.")
