"""Jobs: asked for, listed, looked at, steered, forgotten."""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from service.api.access import Owner
from service.api.bodies import Document, RawBody, no_document
from service.api.collaborators import TheDatabase, TheDispatch, TheFoundWell, TheLately, TheNewJobs, TheRendered, TheSettings
from service.api.dry_run import DryRun, dry_run_of
from service.api.errors import BadParameter
from service.api.etags import is_known, job_tag, quoted, versions_in
from service.api.fitting import Fitting
from service.api.problems import declared
from service.api.referring import Referring
from service.api.saving import Saving
from service.api.schema import CHANGES_BODY, JOB_BODY
from service.api.views import JobPage, JobView, job_view, with_place
from service.dispatch import Dispatch
from service.library.check import Roots, check
from service.settings import Settings
from service.specs.changes import read_changes
from service.specs.read import Check, read_job
from service.specs.reward_api import hosts_of
from service.store import idempotency, jobs, place, steps, wishes
from service.store.errors import IdempotencyBusy
from service.store.session import Database
from service.store.states import State
from service.store.tables import Job, StepResult

router = APIRouter(tags=["jobs"])


@router.post(
    "/jobs",
    status_code=201,
    response_model=JobView,
    responses={200: {"model": DryRun, "description": "With dry_run: what would run."}, **declared(400, 409, 413, 415, 422)},
    openapi_extra={"requestBody": JOB_BODY},
)
async def create_job(
    document: Document,
    owner: Owner,
    database: TheDatabase,
    dispatch: TheDispatch,
    settings: TheSettings,
    well: TheFoundWell,
    lately: TheLately,
    new_jobs: TheNewJobs,
    dry_run: Annotated[bool, Query(description="Check the job, resolve it, say what would run; store nothing.")] = False,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> Response:
    """Queues a job, or refuses it with everything that is wrong with it.

    The same Idempotency-Key and document within 24 hours are answered with the job that the first made, as it now stands. With
    another document the key is refused.
    """
    roots = Roots(
        settings.models_root,
        settings.datasets_root,
        settings.hub,
        modelscope=settings.modelscope,
        secrets=settings.secret_key is not None,
        reward_hosts=hosts_of(settings.reward_hosts),
        exports=settings.exports_root,
        hub_push=settings.hub_push,
        written=(settings.artifacts_root, settings.exports_root, settings.cache_root),
    )
    fitting, referring = Fitting(database, roots, document, lately), Referring(database, owner)
    saving = Saving(database, owner)
    if dry_run:
        return _json(await run_in_threadpool(dry_run_of, document, roots, fitting, referring, saving))
    read = partial(_read, document, owner, settings, partial(check, roots, well=well), fitting, referring, saving)
    if idempotency_key:
        once = _Once(owner, idempotency_key, document)
        return await run_in_threadpool(_created_once, database, dispatch, once, read)
    job = await new_jobs.write(await run_in_threadpool(read))
    dispatch.ring(job.queue)
    return _created(job)


def _read(
    document: Any, owner: str, settings: Settings, look: Check, fitting: Fitting, referring: Referring, saving: Saving
) -> jobs.New:
    """The job that the document is, looked at from every side. Raises SpecRefused."""
    looks = (look, referring, saving, fitting)
    read = read_job(document, lambda spec, resolved: chain.from_iterable(one(spec, resolved) for one in looks))
    resolved = referring.written_out(read.resolved)
    read = replace(read, resolved=resolved, notices=(*read.notices, *fitting.notices))
    return jobs.New(owner, document, read, settings.secret_key, settings.artifacts_ttl_seconds, fitting.least_gpu_bytes)


def _created_once(database: Database, dispatch: Dispatch, once: "_Once", read: Callable[[], jobs.New]) -> Response:
    """In a transaction of its own: it may have to wait for another request with the same key, and nobody else should."""
    with database.reading() as session:
        # before the models and data sets are looked at: the first answer stands, even if one has gone since
        if job := once.earlier(session):
            return _created(job, steps.of_job(session, job.id))
    new = read()
    try:
        return _submitted(database, dispatch, once, new)
    except IdempotencyBusy:
        # another request with this key came first; by now its job is there to be found
        return _submitted(database, dispatch, once, new)


def _submitted(database: Database, dispatch: Dispatch, once: "_Once", new: jobs.New) -> Response:
    with database.transaction() as session:
        if earlier := once.earlier(session):
            return _created(earlier, steps.of_job(session, earlier.id))
        job = once.remember(session, jobs.create_all(session, [new])[0])
    dispatch.ring(job.queue)
    return _created(job)


@router.get("/jobs", response_model=JobPage, responses=declared(422))
def list_jobs(
    owner: Owner,
    database: TheDatabase,
    rendered: TheRendered,
    limit: Annotated[int, Query(ge=1, le=200)] = 20,
    after: Annotated[str | None, Query(description="The last job of the page before.")] = None,
    state: State | None = None,
    label: Annotated[list[str], Query(description="key:value; several must all hold.")] = [],  # noqa: B006
) -> Response:
    """A page of jobs, newest first. Jobs that arrive meanwhile do not shift the pages behind."""
    labels = dict(map(_label, label))
    with database.reading() as session:
        found, has_more = jobs.listing(session, owner, limit, after, state, labels)
        page = rendered.jobs(session, found)
    rest = orjson.dumps({"has_more": has_more, "next_after": found[-1].id if has_more else None})
    return Response(b'{"data":[' + b",".join(page) + b"]," + rest[1:], media_type="application/json")


@router.get("/jobs/{job_id}", response_model=JobView, responses={304: {"description": "Unchanged."}, **declared(404)})
def get_job(job_id: str, request: Request, owner: Owner, database: TheDatabase, rendered: TheRendered) -> Response:
    """A job, with an ETag: a client that looks often sends it back in If-None-Match."""
    with database.reading() as session:
        version = jobs.version(session, owner, job_id)
        where = place.of_job(session, job_id)
        headers = {"ETag": job_tag(version, where)}
        if is_known(request, headers["ETag"]):
            return Response(status_code=304, headers=headers)
        [body] = rendered.jobs(session, [(job_id, version)])
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
    owner: Owner,
    database: TheDatabase,
    if_match: Annotated[str | None, Header(description="The job's ETag as it was looked at: 412 when it changed since.")] = None,
) -> JobView:
    """Gives a job another priority, name or labels, as a merge patch: what is not named stays, and a label that is null goes."""
    changes = read_changes(document)
    with database.transaction() as session:
        job = wishes.change(session, owner, job_id, changes, versions_in(if_match))
        return _view(session, job, response)


@router.delete("/jobs/{job_id}", status_code=204, responses=declared(404, 409))
def delete_job(job_id: str, owner: Owner, database: TheDatabase) -> None:
    """Forgets a job that has ended, and all that it made: the files go within moments. Refused while another job needs them."""
    with database.transaction() as session:
        wishes.delete(session, owner, job_id)


@router.post("/jobs/{job_id}/cancel", responses=declared(400, 404, 409, 413))
def cancel_job(job_id: str, raw: RawBody, response: Response, owner: Owner, database: TheDatabase) -> JobView:
    """Ends a job that waits; one that runs stops at the step after its worker's next heartbeat. Takes no arguments."""
    no_document(raw)
    with database.transaction() as session:
        return _view(session, wishes.cancel(session, owner, job_id), response)


@router.post("/jobs/{job_id}/pause", responses=declared(400, 404, 409, 413))
def pause_job(job_id: str, raw: RawBody, response: Response, owner: Owner, database: TheDatabase) -> JobView:
    """Has a job wait until it is resumed; one that runs saves a checkpoint first and gives its GPU free. Takes no arguments."""
    no_document(raw)
    with database.transaction() as session:
        return _view(session, wishes.pause(session, owner, job_id), response)


@router.post("/jobs/{job_id}/resume", responses=declared(400, 404, 409, 413))
def resume_job(
    job_id: str, raw: RawBody, response: Response, owner: Owner, database: TheDatabase, dispatch: TheDispatch
) -> JobView:
    """Queues a paused job again, to go on from its last checkpoint; takes back a wish to pause. Takes no arguments."""
    no_document(raw)
    with database.transaction() as session:
        job = wishes.resume(session, owner, job_id)
        view = _view(session, job, response)
    dispatch.ring(job.queue)
    return view


@router.post("/jobs/{job_id}/retry", responses=declared(400, 404, 409, 413))
def retry_job(
    job_id: str, raw: RawBody, response: Response, owner: Owner, database: TheDatabase, dispatch: TheDispatch
) -> JobView:
    """Queues a job that failed or was cancelled again: steps that are done stay done, and checkpoints are gone on from."""
    no_document(raw)
    with database.transaction() as session:
        job = wishes.retry(session, owner, job_id)
        view = _view(session, job, response)
    dispatch.ring(job.queue)
    return view


def _view(session: Session, job: Job, response: Response) -> JobView:
    response.headers["ETag"] = quoted(f"v{job.version}")
    return job_view(job, steps.of_job(session, job.id))


class _Once:
    """The Idempotency-Key of a request, and what it was sent with."""

    def __init__(self, owner: str, key: str, document: Any):
        self.owner = owner
        self.key = key
        # of the document, not of the bytes: a client that writes it anew may space it otherwise
        self.sha256 = hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest()

    def earlier(self, session: Session) -> Job | None:
        """The job that this key made before. Raises IdempotencyMismatch."""
        job_id = idempotency.earlier(session, self.owner, self.key, self.sha256)
        return jobs.get(session, self.owner, job_id) if job_id else None

    def remember(self, session: Session, job: Job) -> Job:
        idempotency.remember(session, self.owner, self.key, self.sha256, job.id)
        return job


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
