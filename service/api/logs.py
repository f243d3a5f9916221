"""What the training process of an attempt wrote, also while it runs."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import PlainTextResponse, StreamingResponse

from service.api.access import Whose
from service.api.collaborators import TheDatabase, TheStorage
from service.api.errors import NoSuchThing
from service.api.problems import declared
from service.storage.errors import Missing
from service.storage.storage import Storage
from service.store import jobs
from service.store.tables import Job

router = APIRouter(tags=["files"])

BLOCK = 256 * 1024


@router.get("/jobs/{job_id}/logs", response_class=PlainTextResponse, responses=declared(404, 422))
def get_log(
    job_id: str,
    owner: Whose,
    database: TheDatabase,
    storage: TheStorage,
    attempt: Annotated[int | None, Query(ge=1, lt=2**31, description="The present or last attempt, when not given.")] = None,
    tail: Annotated[int | None, Query(ge=1, le=1_000_000, description="Only so many lines from the end.")] = None,
) -> Response:
    """An attempt's log as it stands now; empty where the attempt has not written yet."""
    with database.reading() as session:
        job = jobs.get(session, owner, job_id)
    key = f"{job_id}/{_attempt(job, attempt)}/log.txt"
    try:
        end = storage.size(key)
        start = _start_of_tail(storage, key, end, tail) if tail else 0
    except Missing:
        return PlainTextResponse("")
    return StreamingResponse(_blocks(storage, key, start, end), media_type="text/plain; charset=utf-8")


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
