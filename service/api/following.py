"""What happens to jobs, for any number of streams at once: one look a tick at the jobs that anyone follows, shared by all.

A stream takes no thread and no connection while it waits. It is told of every event behind the number that it begins at, each
once and in order: numbers have no gaps, so what it has been told is one number.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import anyio
import orjson
from anyio import CapacityLimiter, to_thread
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from service.api.views import event_view
from service.store import events
from service.store.session import Database
from service.store.states import ENDED, State
from service.store.tables import Job

logger = logging.getLogger(__name__)

TICK_SECONDS = 0.25
HEARTBEAT_SECONDS = 15.0  # proxies close what is silent for long; often after 60 s
RETRY_MILLISECONDS = 1000
MOST_WAITING = 500  # events that a stream whose client is slow holds; the rest it gets when those are gone
JOBS_AT_ONCE = 200  # in one statement


class EventStream(StreamingResponse):
    """Server-sent events, which nobody between here and the client keeps back or keeps for another.

    Not the framework's class for them: a route that has that one streams whatever it answers, and could not say 204.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes], status_code: int = 200):
        super().__init__(events, status_code, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})


class Now(NamedTuple):
    """A job as the last look found it."""

    state: str
    attempt: int
    event_count: int
    progress: dict[str, Any] | None
    version: int

    @property
    def is_over(self) -> bool:
        return State(self.state) in ENDED


Part = Callable[[Now], object]


def as_told(now: Now) -> object:
    """What an event has told of by the time that it changes."""
    return now.state, now.attempt, now.event_count


@dataclass(eq=False)
class Follower:
    """One stream's place. `told`: the number of the last event that it has, or has waiting; None: it wants no events.

    `wakes`: the part of the job that wakes it by changing.
    """

    job_id: str
    told: int | None
    wakes: Part = as_told
    now: Now | None = None
    is_gone: bool = False  # the job was deleted
    waiting: deque[tuple[int, bytes]] = field(default_factory=deque)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def has_all(self) -> bool:
        return self.now is not None and not self.waiting and (self.told is None or self.told >= self.now.event_count)


class Following:
    """The followers of this process, and the task that looks for them while there are any."""

    def __init__(self, database: Database, tick_seconds: float = TICK_SECONDS, heartbeat_seconds: float = HEARTBEAT_SECONDS):
        self._database = database
        self._tick_seconds = tick_seconds
        self.heartbeat_seconds = heartbeat_seconds
        self._followers: dict[str, set[Follower]] = {}
        self._ticking: asyncio.Task[None] | None = None
        self._thread = CapacityLimiter(1)  # of its own: requests that wait for theirs do not make streams late
        self.is_closing = False

    async def events(self, job_id: str, told: int, with_progress: bool = False) -> AsyncIterator[bytes]:
        """The job's events behind number `told` as server-sent events, until the job has ended and all is told.

        `with_progress`: and its progress, as it then is, whenever that has changed.
        """
        yield format_sse_event(retry=RETRY_MILLISECONDS)
        progress = None
        with self.following(job_id, told, _with_progress if with_progress else as_told) as follower:
            while not self.is_closing:
                while follower.waiting:
                    number, data = follower.waiting.popleft()
                    yield format_sse_event(data_str=data.decode(), id=str(number))
                if with_progress and follower.now is not None and follower.now.progress != progress:
                    progress = follower.now.progress
                    yield format_sse_event(event="progress", data_str=orjson.dumps(progress).decode())
                if follower.is_gone or (follower.now is not None and follower.now.is_over and follower.has_all):
                    yield end_of(follower)
                    return
                if not await self.wait(follower):
                    yield KEEPALIVE_COMMENT

    @contextmanager
    def following(self, job_id: str, told: int | None = None, wakes: Part = as_told) -> Iterator[Follower]:
        follower = Follower(job_id, told, wakes)
        self._followers.setdefault(job_id, set()).add(follower)
        if self._ticking is None or self._ticking.done() or self._ticking.get_loop() is not asyncio.get_running_loop():
            self._ticking = asyncio.create_task(self._tick())
        try:
            yield follower
        finally:
            self._followers[job_id].discard(follower)
            if not self._followers[job_id]:
                del self._followers[job_id]

    async def wait(self, follower: Follower, seconds: float | None = None) -> bool:
        """Until something has changed; False where nothing did for a heartbeat, or so long."""
        with anyio.move_on_after(seconds or self.heartbeat_seconds):
            await follower.changed.wait()
            follower.changed.clear()
            return True
        return False

    def close(self) -> None:
        """Ends every stream, such that its client comes again. Call it in the loop's thread."""
        self.is_closing = True
        for followers in self._followers.values():
            for follower in followers:
                follower.changed.set()

    async def _tick(self) -> None:
        while self._followers and not self.is_closing:
            wanted = {job_id: _least(followers) for job_id, followers in self._followers.items()}
            try:
                found = await to_thread.run_sync(self._look, wanted, limiter=self._thread)
            except SQLAlchemyError as error:
                logger.warning("streams wait: the database did not answer (%s)", type(error).__name__)
            else:
                for job_id in wanted:
                    for follower in self._followers.get(job_id, ()):
                        _tell(follower, *found.get(job_id, (None, [])))
            await asyncio.sleep(self._tick_seconds)

    def _look(self, wanted: dict[str, int | None]) -> dict[str, tuple[Now, list[tuple[int, bytes]]]]:
        """Of each job how it is, and its events behind the number, rendered once for all who follow it."""
        found: dict[str, tuple[Now, list[tuple[int, bytes]]]] = {}
        ids = list(wanted)
        with self._database.reading() as session:
            for start in range(0, len(ids), JOBS_AT_ONCE):
                some = Job.id.in_(ids[start : start + JOBS_AT_ONCE])
                columns = select(Job.id, Job.state, Job.attempt, Job.event_count, Job.progress, Job.version)
                for job_id, *now in session.execute(columns.where(some)):
                    found[job_id] = (Now(*now), _new(session, job_id, wanted[job_id], Now(*now).event_count))
        return found


def _with_progress(now: Now) -> object:
    return as_told(now), now.progress


def end_of(follower: Follower) -> bytes:
    """The last word of a stream that has told all: a client that comes again is told that there is no more (204)."""
    state = "deleted" if follower.now is None or follower.is_gone else follower.now.state
    return format_sse_event(event="end", data_str=f'{{"state":"{state}"}}')


def _least(followers: set[Follower]) -> int | None:
    """The event behind which all that is wanted lies; None where nobody wants any now."""
    known = [one.told for one in followers if one.told is not None and len(one.waiting) < MOST_WAITING]
    return min(known, default=None)


def _new(session: Session, job_id: str, told: int | None, event_count: int) -> list[tuple[int, bytes]]:
    if told is None or told >= event_count:
        return []
    found = events.after(session, job_id, told, MOST_WAITING)
    return [(event.number, event_view(event).model_dump_json().encode()) for event in found]


def _tell(follower: Follower, now: Now | None, new: list[tuple[int, bytes]]) -> None:
    if now is None:
        follower.is_gone = True
        follower.changed.set()
        return
    is_changed = follower.now is None or follower.wakes(now) != follower.wakes(follower.now)
    follower.now = now
    if follower.told is not None and len(follower.waiting) < MOST_WAITING:
        mine = [(number, data) for number, data in new if number > follower.told]
        # joined without a gap, or not at all: another follower may have asked from further on
        if mine and mine[0][0] == follower.told + 1:
            follower.waiting.extend(mine)
            follower.told = mine[-1][0]
    if is_changed or follower.waiting:
        follower.changed.set()
