"""Jobs: asked for, listed, looked at, steered, forgotten."""

import re
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from service.api.access import Whose
from service.api.acting import OnceKey, TheActing, TheDoing, trace_of
from service.api.bodies import Document, RawBody, document_of, no_document
from service.api.collaborators import TheDispatch, TheSettings
from service.api.dry_run import DryRun, dry_run_of
from service.api.errors import BadParameter
from service.api.etags import is_known, job_tag, quoted, versions_in
from service.api.fitting import Fitting
from service.api.looking import looking
from service.api.naming import Naming
from service.api.once import Once, created_once
from service.api.problems import declared
from service.api.reading import Reading
from service.api.referring import Referring
from service.api.saving import Saving
from service.api.schema import CHANGES_BODY, JOB_BODY
from service.api.views import JobPage, JobView, job_view, with_place
from service.specs.changes import read_changes
from service.store import jobs, place, quotas, steps, wishes
from service.store.states import State
from service.store.tables import Job, StepResult

router = APIRouter(tags=["jobs"])


@router.post(
    "/jobs",
    status_code=201,
    response_model=JobView,
    responses={200: {"model": DryRun, "description": "With dry_run: what would run."}, **declared(400, 409, 413, 415, 422, 429)},
    openapi_extra={"requestBody": JOB_BODY},
)
async def create_job(
    request: Request,
    dry_run: Annotated[bool, Query(description="Check the job, resolve it, say what would run; store nothing.")] = False,
    idempotency_key: OnceKey = None,
) -> Response:
    """Queues a job, or refuses it with everything that is wrong with it.

    The same Idempotency-Key and document within 24 hours are answered with the job that the first made, as it now stands. With
    another document the key is refused.
    """
    document = await document_of(request, await request.body())
    given, owner = request.app.state, request.state.caller.owner
    reading = Reading(given.settings, given.database, given.found_well, given.lately, trace_of(request))
    if dry_run:
        return _json(await run_in_threadpool(_dry_run, reading, owner, document))
    read = partial(reading.new_job, owner, document, getattr(request.state, "trace", None))
    if idempotency_key:
        once = Once(owner, idempotency_key, document)
        return await run_in_threadpool(created_once, given.database, given.dispatch, once, read, _created)
    job = await given.new_jobs.write(await run_in_threadpool(read))
    given.dispatch.ring(job.queue)
    return _created(job)


def _dry_run(reading: Reading, owner: str, document: Any) -> DryRun:
    roots = reading.roots(owner, document)
    naming = Naming(reading.database, owner, reading.settings.datasets_root, reading.lately)
    referring, saving = Referring(reading.database, owner), Saving(reading.database, owner)
    fitting = Fitting(
        reading.database, roots, document, reading.lately, lambda job: naming.written_out(referring.written_out(job))
    )
    return dry_run_of(document, roots, fitting, referring, naming, saving)


@router.get("/jobs", response_model=JobPage, responses=declared(422))
def list_jobs(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=200)] = 20,
    after: Annotated[str | None, Query(description="The last job of the page before.")] = None,
    state: State | None = None,
    label: Annotated[list[str], Query(description="key:value; several must all hold.")] = [],  # noqa: B006
    name: Annotated[str | None, Query(max_length=256, description="What stands in the name, in any case of its letters.")] = None,
) -> Response:
    """A page of jobs, newest first. Jobs that arrive meanwhile do not shift the pages behind.

    What `generate` writes for a reader is a job of its own while he reads, and is not listed.
    """
    owner, database, rendered, _ = looking(request)
    labels = dict(map(_label, label))
    with database.glancing() as connection:
        found, has_more = jobs.listing(connection, owner, limit, after, state, labels, name)
        page = rendered.jobs(connection, found)
    rest = orjson.dumps({"has_more": has_more, "next_after": found[-1].id if has_more else None})
    return Response(b"%b%b],%b" % (b'{"data":[', b",".join(page), rest[1:]), media_type="application/json")


@router.get("/jobs/{job_id}", response_model=JobView, responses={304: {"description": "Unchanged."}, **declared(404)})
def get_job(job_id: str, request: Request) -> Response:
    """A job, with an ETag: a client that looks often sends it back in If-None-Match."""
    owner, database, rendered, settings = looking(request)
    with database.reading() as session:
        version = jobs.version(session, owner, job_id)
        where = place.of_job(session, job_id, settings.quota)
        headers = {"ETag": job_tag(version, where)}
        if is_known(request, headers["ETag"]):
            return Response(status_code=304, headers=headers)
        [body] = rendered.jobs(session.connection(), [(job_id, version)])
    if where is not None:
        body = with_place(body, where)
    return Response(body, headers=headers, media_type="application/json")


@router.patch(
    "/jobs/{job_id}",
    response_model=JobView,
    responses=declared(400, 404, 409, 412, 413, 415, 422),
    openapi_extra={"requestBody": CHANGES_BODY},
)
def change_job(
    job_id: str,
    document: Document,
    response: Response,
    owner: Whose,
    acting: TheActing,
    if_match: Annotated[str | None, Header(description="The job's ETag as it was looked at: 412 when it changed since.")] = None,
) -> JobView:
    """Gives a job another priority, name or labels, as a merge patch: what is not named stays, and a label that is null goes."""
    changes = read_changes(document)
    with acting.transaction() as session:
        job = wishes.change(session, owner, job_id, changes, versions_in(if_match))
        return _view(session, job, response)


@router.delete("/jobs/{job_id}", status_code=204, responses=declared(404, 409))
def delete_job(job_id: str, owner: Whose, acting: TheActing) -> None:
    """Forgets a job that has ended, and all that it made: the files go within moments. Refused while another job needs them."""
    with acting.transaction() as session:
        wishes.delete(session, owner, job_id)


@router.post("/jobs/{job_id}/cancel", responses=declared(400, 404, 409, 413, 422))
def cancel_job(job_id: str, raw: RawBody, response: Response, owner: Whose, acting: TheDoing) -> JobView:
    """Ends a job that waits; one that runs stops at the step after its worker's next heartbeat. Takes no arguments."""
    no_document(raw)
    with acting.transaction() as session:
        return acting.answer(_view(session, wishes.cancel(session, owner, job_id), response))


@router.post("/jobs/{job_id}/pause", responses=declared(400, 404, 409, 413, 422))
def pause_job(job_id: str, raw: RawBody, response: Response, owner: Whose, acting: TheDoing) -> JobView:
    """Has a job wait until it is resumed; one that runs saves a checkpoint first and gives its GPU free. Takes no arguments."""
    no_document(raw)
    with acting.transaction() as session:
        return acting.answer(_view(session, wishes.pause(session, owner, job_id), response))


@router.post("/jobs/{job_id}/resume", responses=declared(400, 404, 409, 413, 422))
def resume_job(job_id: str, raw: RawBody, response: Response, owner: Whose, acting: TheDoing, dispatch: TheDispatch) -> JobView:
    """Queues a paused job again, to go on from its last checkpoint; takes back a wish to pause. Takes no arguments."""
    no_document(raw)
    with acting.transaction() as session:
        job = wishes.resume(session, owner, job_id)
        view = acting.answer(_view(session, job, response))
    dispatch.ring(job.queue)
    return view


@router.post("/jobs/{job_id}/retry", responses=declared(400, 404, 409, 413, 422, 429))
def retry_job(
    job_id: str,
    raw: RawBody,
    response: Response,
    owner: Whose,
    acting: TheDoing,
    dispatch: TheDispatch,
    settings: TheSettings,
) -> JobView:
    """Queues a job that failed or was cancelled again: steps that are done stay done, and checkpoints are gone on from."""
    no_document(raw)
    with acting.transaction() as session:
        quotas.refuse_too_many(session, [(jobs.get(session, owner, job_id).owner, settings.quota)])
        job = wishes.retry(session, owner, job_id)
        view = acting.answer(_view(session, job, response))
    dispatch.ring(job.queue)
    return view


def _view(session: Session, job: Job, response: Response) -> JobView:
    response.headers["ETag"] = quoted(f"v{job.version}")
    return job_view(job, steps.of_job(session, job.id))


def _created(job: Job, done: Sequence[StepResult] = ()) -> Response:
    headers = {"Location": f"/jobs/{job.id}", "ETag": quoted(f"v{job.version}")}
    return _json(job_view(job, done), 201, headers)


def _json(model: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(model.model_dump_json(), status, headers, "application/json")


_LABEL = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,62})[:=](.{0,256})")


def _label(text: str) -> tuple[str, str]:
    """key:value, or key=value: a label's name has neither."""
    found = _LABEL.fullmatch(text)
    if found is None:
        raise BadParameter("/query/label", f"{text!r} is not key:value, with the name of a label as key.")
    return found[1], found[2]
