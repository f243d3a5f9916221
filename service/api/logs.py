"""What the training process of an attempt wrote, also while it runs: as it stands, from a place on, or as it is written."""

import re
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Annotated, NamedTuple

import orjson
from anyio import to_thread
from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import PlainTextResponse, StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.concurrency import run_in_threadpool

from service.api.access import Whose
from service.api.collaborators import TheDatabase, TheFollowing, TheStorage
from service.api.errors import BadParameter, NoSuchThing
from service.api.following import RETRY_MILLISECONDS, EventStream, Following, end_of
from service.api.problems import declared
from service.storage.errors import Missing
from service.storage.storage import Storage
from service.store import jobs
from service.store.session import Database
from service.store.tables import Job

router = APIRouter(tags=["files"])

BLOCK = 256 * 1024
LOOK_SECONDS = 1.0  # how often a stream asks the store whether the log has grown

Attempt = Annotated[int | None, Query(ge=1, lt=2**31, description="The present or last attempt, when not given.")]


@router.get("/jobs/{job_id}/logs", response_class=PlainTextResponse, responses=declared(404, 422))
def get_log(
    job_id: str,
    owner: Whose,
    database: TheDatabase,
    storage: TheStorage,
    attempt: Attempt = None,
    tail: Annotated[int | None, Query(ge=1, le=1_000_000, description="Only so many lines from the end.")] = None,
    after: Annotated[int | None, Query(ge=0, lt=2**53, description="Only what stands behind so many bytes.")] = None,
) -> Response:
    """An attempt's log as it stands now; empty where the attempt has not written yet. X-Log-End is `after` of the next look."""
    if tail is not None and after is not None:
        raise BadParameter("/query/tail", "Either the last lines are wanted (tail), or what stands behind a place (after).")
    with database.reading() as session:
        job = jobs.get(session, owner, job_id)
    key = _key(job_id, _attempt(job, attempt))
    try:
        end = storage.size(key)
        start = _start_of_tail(storage, key, end, tail) if tail else min(after or 0, end)
    except Missing:
        return PlainTextResponse("", headers={"X-Log-End": "0"})
    headers = {"X-Log-End": str(end)}
    return StreamingResponse(_blocks(storage, key, start, end), headers=headers, media_type="text/plain; charset=utf-8")


class _Place(NamedTuple):
    """How far a stream is: an attempt, and the bytes of its log that are told."""

    attempt: int
    told: int

    def __str__(self) -> str:
        return f"{self.attempt}:{self.told}"


_PLACE = re.compile(r"([0-9]{1,9}):([0-9]{1,15})")


@router.get("/jobs/{job_id}/logs/stream", response_class=EventStream, responses=declared(404, 422))
async def stream_log(
    job_id: str,
    owner: Whose,
    database: TheDatabase,
    storage: TheStorage,
    following: TheFollowing,
    attempt: Attempt = None,
    last_event_id: Annotated[str | None, Header(description="attempt:bytes, the id of the last that came.")] = None,
) -> Response:
    """Whole lines as they are written, {attempt, text} in each event, one attempt after the other until the job has ended."""
    given = None if last_event_id is None else _PLACE.fullmatch(last_event_id)
    if last_event_id is not None and given is None:
        raise BadParameter("/header/last-event-id", f"{last_event_id!r} is no id of this stream, attempt:bytes.")
    job = await run_in_threadpool(_job, database, owner, job_id)
    first = _Place(attempt or max(job.attempt, 1), 0) if given is None else _Place(int(given[1]), int(given[2]))
    if first.attempt > max(job.attempt, 1):
        raise NoSuchThing(f"There is no attempt {first.attempt}; the last one is {job.attempt}.")
    return EventStream(_told(following, storage, job_id, first))


def _job(database: Database, owner: str, job_id: str) -> Job:
    with database.reading() as session:
        return jobs.get(session, owner, job_id)


async def _told(following: Following, storage: Storage, job_id: str, place: _Place) -> AsyncIterator[bytes]:
    yield format_sse_event(retry=RETRY_MILLISECONDS)
    with following.following(job_id) as follower:
        silent_seconds = 0.0
        while not following.is_closing:
            now = follower.now  # as it was before the log was looked at: what is written last is not missed
            is_whole = now is not None and (now.is_over or now.attempt > place.attempt)
            text, place = await to_thread.run_sync(partial(_more, storage, job_id, place, is_whole))
            if text:
                silent_seconds = 0.0
                yield format_sse_event(data_str=orjson.dumps({"attempt": place.attempt, "text": text}).decode(), id=str(place))
                continue
            if now is not None and now.attempt > place.attempt:
                place = _Place(place.attempt + 1, 0)
                continue
            if follower.is_gone or is_whole:
                yield end_of(follower)
                return
            silent_seconds += LOOK_SECONDS
            if silent_seconds >= following.heartbeat_seconds:
                silent_seconds = 0.0
                yield KEEPALIVE_COMMENT
            await following.wait(follower, LOOK_SECONDS)


def _more(storage: Storage, job_id: str, place: _Place, is_whole: bool) -> tuple[str, _Place]:
    """The lines behind the place, as many as a block holds, and where they end. A log that is whole may end within a line."""
    key = _key(job_id, place.attempt)
    try:
        end = min(storage.size(key), place.told + BLOCK)
        block = storage.block(key, place.told, end) if end > place.told else b""
    except Missing:
        return "", place
    lines = block.rfind(b"\n") + 1
    if not lines and (is_whole or len(block) == BLOCK):
        lines = len(block)
    return block[:lines].decode("utf-8", "replace"), _Place(place.attempt, place.told + lines)


def _key(job_id: str, attempt: int) -> str:
    return f"{job_id}/{attempt}/log.txt"


def _attempt(job: Job, wanted: int | None) -> int:
    if job.attempt == 0:
        raise NoSuchThing("No attempt at this job has begun, so there is no log yet.")
    if wanted is not None and wanted > job.attempt:
        raise NoSuchThing(f"There is no attempt {wanted}; the last one is {job.attempt}.")
    return wanted or job.attempt


def _start_of_tail(storage: Storage, key: str, end: int, lines: int) -> int:
    """Where the last `lines` lines begin. A newline at the very end closes the last line and begins none."""
    position, wanted = end, lines
    while position > 0:
        start = max(position - BLOCK, 0)
        block = storage.block(key, start, position)
        found = len(block)
        while (found := block.rfind(b"\n", 0, found)) >= 0:
            if start + found == end - 1:
                continue
            wanted -= 1
            if wanted == 0:
                return start + found + 1
        position = start
    return 0


def _blocks(storage: Storage, key: str, start: int, end: int) -> Iterator[bytes]:
    """What stood there when the request came: a log that grows faster than it is read has an end all the same."""
    while start < end and (block := storage.block(key, start, min(start + BLOCK, end))):
        yield block
        start += len(block)
