"""A quick look at a checkpoint: what it writes to a prompt, told as a worker writes it.

The request becomes a job that goes ahead of others. Its pieces stand in the database, and are read from there; when the client is
gone, or has all of it, the job goes too.
"""

import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from anyio import CancelScope, sleep
from fastapi import APIRouter, Depends, Path, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import ValidationError
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from service.api.access import Whose
from service.api.acting import OnceKey, TheTrace
from service.api.bodies import OptionalDocument
from service.api.collaborators import TheDatabase, TheDispatch, TheFoundWell, TheLately, TheSettings
from service.api.errors import BadParameter, Gone, NoSuchThing, NoWorkerFree
from service.api.problems import declared
from service.api.reading import Reading
from service.api.schema import GENERATION_BODY
from service.specs import generation
from service.specs.checkpoint_names import CheckpointName
from service.specs.generation import Generation
from service.specs.job import ResolvedJob
from service.specs.read import refusal_of
from service.specs.refusals import Refusal, SpecRefused
from service.specs.rules import REWARDS_WRITE_NOTHING
from service.store import checkpoints, generations, jobs, workers
from service.store.generations import Reading as Text
from service.store.session import Database
from service.store.states import ENDED, State
from service.store.tables import Job

router = APIRouter(tags=["files"])

POLL_SECONDS = 0.1
READER_SECONDS = 30.0  # the reader's lease: an API that dies takes its readers along
AGAIN_SECONDS = 10  # when to ask again where no worker was free


class Reader:
    """Reads one job's text on behalf of a client."""

    def __init__(self, database: Database, owner: str, job_id: str):
        self._database = database
        self._owner = owner
        self._behind = -1
        self._kept_at = time.monotonic()
        self.job_id = job_id

    async def until_taken(self, seconds: float) -> None:
        """Raises NoWorkerFree where no worker has taken the job in time."""
        deadline = time.monotonic() + seconds
        while (reading := await self._look()) is not None and reading.state not in ENDED and not reading.has_begun:
            if time.monotonic() >= deadline:
                raise _no_worker_free(f"No worker came free within {seconds:g} s.")
            await sleep(POLL_SECONDS)

    async def events(self) -> AsyncIterator[ServerSentEvent]:
        """started; a piece, with its number as id, for each; and done or failed."""
        yield ServerSentEvent(event="started", data={"job_id": self.job_id})
        while True:
            reading = await self._look()
            for number, text in reading.pieces if reading else ():
                self._behind = number
                yield ServerSentEvent(event="piece", id=str(number), data={"text": text})
            if reading is None or reading.state != State.RUNNING:
                yield _end(reading)
                return
            await sleep(POLL_SECONDS)

    async def leave(self) -> None:
        """However it ends: a request that is broken off must still do this."""
        with CancelScope(shield=True):
            await run_in_threadpool(self._leave)

    async def _look(self) -> Text | None:
        return await run_in_threadpool(self._read)

    def _read(self) -> Text | None:
        if time.monotonic() - self._kept_at > READER_SECONDS / 3:
            with self._database.transaction() as session:
                generations.still_read(session, self.job_id, READER_SECONDS)
            self._kept_at = time.monotonic()
        with self._database.reading() as session:
            return generations.read(session, self.job_id, self._behind)

    def _leave(self) -> None:
        with self._database.transaction() as session:
            generations.leave(session, self._owner, self.job_id)


async def begun(
    job_id: str,
    global_step: Annotated[int, Path(ge=0, lt=2**31, description="The checkpoint's number of updates.")],
    document: OptionalDocument,
    owner: Whose,
    database: TheDatabase,
    dispatch: TheDispatch,
    settings: TheSettings,
    well: TheFoundWell,
    lately: TheLately,
    trace: TheTrace,
    step: Annotated[str | None, Query(description="A step of the job; needed where several have that checkpoint.")] = None,
    idempotency_key: OnceKey = None,
) -> AsyncIterator[Reader]:
    """A reader whose job a worker has taken; once the answer is sent, or broken off, the job is left."""
    if idempotency_key is not None:
        sentence = "What is written here is kept nowhere, and cannot be answered again: send no key, and ask anew."
        raise BadParameter("/header/idempotency-key", sentence)
    reading = Reading(settings, database, well, lately, trace)
    written = await run_in_threadpool(_submitted, reading, owner, job_id, global_step, step, document)
    reader = Reader(database, written.owner, written.id)
    try:
        dispatch.ring(written.queue)
        await reader.until_taken(settings.generate_wait_seconds)
        yield reader
    finally:
        await reader.leave()


@router.post(
    "/jobs/{job_id}/checkpoints/{global_step}/generate",
    response_class=EventSourceResponse,
    responses=declared(400, 404, 410, 413, 415, 422, 503),
    openapi_extra={"requestBody": GENERATION_BODY},
)
async def generate_text(reader: Annotated[Reader, Depends(begun)]) -> AsyncIterator[ServerSentEvent]:
    """What the checkpoint writes, as server-sent events: started, piece by piece, and done, with what it cost in bits.

    A worker that is free writes it. Where none comes free in time, the answer is a 503 with Retry-After. A client that goes away
    ends it.
    """
    async for event in reader.events():
        yield event


# -- the job ------------------------------------------------------------------------------------------------------------


def _submitted(reading: Reading, owner: str, job_id: str, number: int, step: str | None, document: Any) -> Job:
    database = reading.database
    with database.reading() as session:
        making = jobs.get(session, owner, job_id)
        made_in = jobs.resolved(making)
        name = _checkpoint(session, job_id, made_in, number, step)
        _refuse_without_workers(session, made_in.resources.queue)
    new = _read(name, made_in, document, making.owner, reading)
    with database.transaction() as session:
        job = jobs.create_all(session, [new])[0]
        generations.begin(session, job.id, READER_SECONDS)
    return job


def _checkpoint(session: Session, job_id: str, job: ResolvedJob, number: int, step: str | None) -> CheckpointName:
    """The one that is meant. Raises NoSuchThing, Gone and BadParameter."""
    training = {one.name: one for one in job.steps if one.do == "train"}
    if step is not None and step not in training:
        raise BadParameter("/query/step", f"The job has no step {step!r} that trains; it has {', '.join(training) or 'none'}.")
    saved = [one for one in checkpoints.of_job(session, job_id) if one.step in ([step] if step else training)]
    found = {one.step: one for one in saved if one.global_step == number}
    if not found:
        there = ", ".join(f"{one.step}/{one.global_step}" for one in saved if one.removed_at is None)
        raise NoSuchThing(f"The job has no checkpoint {number}; it has {there or 'none yet'}.")
    if len(found) > 1:
        raise BadParameter("/query/step", f"Several steps have a checkpoint {number}; say which: {', '.join(found)}.")
    [(made_by, one)] = found.items()
    if one.removed_at is not None:
        raise Gone(f"Checkpoint {number} of {made_by} is kept no longer.")
    if training[made_by].finetuning.stage == "rm":
        raise BadParameter("/path/global_step", REWARDS_WRITE_NOTHING)
    return CheckpointName(job_id, made_by, number)


def _refuse_without_workers(session: Session, queue: str) -> None:
    if not any(queue in worker.queues and not worker.draining for worker in workers.live(session)):
        raise _no_worker_free(f"No worker takes jobs of the queue {queue} now.")


def _read(name: CheckpointName, made_in: ResolvedJob, document: Any, owner: str, reading: Reading) -> jobs.New:
    """The job that the request is. Raises SpecRefused with the places in the request's own body."""
    asked, most_tokens = _asked(document), reading.settings.generate_max_tokens
    if wrong := generation.refusals(asked, most_tokens):
        raise SpecRefused(wrong)
    try:
        return reading.new_job(owner, generation.document_of(name, asked, made_in, most_tokens))
    except SpecRefused as refused:
        moved = [Refusal(generation.place_in(refusal.place), refusal.detail) for refusal in refused.refusals]
        raise SpecRefused(dict.fromkeys(moved)) from None


def _asked(document: Any) -> Generation:
    try:
        return Generation.model_validate(document)
    except ValidationError as error:
        raise SpecRefused(refusal_of(details) for details in error.errors(include_url=False)) from None


# -- how it ends --------------------------------------------------------------------------------------------------------


def _end(reading: Text | None) -> ServerSentEvent:
    if reading is not None and reading.state == State.SUCCEEDED:
        return ServerSentEvent(event="done", data=reading.summary)
    if reading is not None and reading.state in ENDED:
        sentence = reading.sentence or "It was cancelled."
        return ServerSentEvent(event="failed", data={"reason": reading.reason or str(reading.state), "detail": sentence})
    # given back by a worker that stops, or forgotten
    return ServerSentEvent(event="failed", data={"reason": "interrupted", "detail": "Its worker stopped; ask again."})


def _no_worker_free(sentence: str) -> NoWorkerFree:
    told = f"{sentence} Ask again later, or submit a job that generates, which waits its turn."
    return NoWorkerFree(told, {"Retry-After": str(AGAIN_SECONDS)})
