"""OpenAI's fine-tuning jobs: asked for, listed, looked at, steered. They are the jobs of /jobs, by other names."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Header, Query, Request, Response
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from service.api.access import Owner
from service.api.acting import Acting, OnceKey, TheDoing, TheTrace
from service.api.bodies import Document, RawBody, no_document
from service.api.checkpoints import by_text, values_of
from service.api.collaborators import TheDatabase, TheDispatch, TheFoundWell, TheLately, TheSettings
from service.api.errors import BadParameter
from service.api.once import Once, created_once, digest
from service.api.openai import views
from service.api.openai.asking import Asked, Known, asked_for
from service.api.openai.ids import ModelName, checkpoint_place, event_number, job_id_of
from service.api.openai.pages import Page, page
from service.api.openai.schema import JOB_BODY
from service.api.openai.speaking import template_of
from service.api.problems import declared
from service.api.reading import Reading
from service.library import models as library
from service.library.errors import LibraryError
from service.specs.checkpoint_names import of_earlier
from service.specs.file_names import is_file
from service.specs.refusals import Refusal, SpecRefused
from service.store import checkpoints, events, files, jobs, made_models, metrics, steps, wishes
from service.store.errors import BadCursor, NotFound
from service.store.session import Database
from service.store.tables import Job, StepResult

router = APIRouter(prefix="/v1/fine_tuning", tags=["openai"])

# A client that did not hear the answer asks again and sends no key. It says that it does; one that does not say so is taken at
# its word sooner. OpenAI's clients wait ten minutes for an answer before they ask again.
AGAIN_SECONDS, RETRIED_SECONDS = 30.0, 1200.0


@router.post("/jobs", responses=declared(400, 409, 413, 415, 422, 429), openapi_extra={"requestBody": JOB_BODY})
async def create_fine_tuning_job(
    document: Document,
    request: Request,
    owner: Owner,
    database: TheDatabase,
    dispatch: TheDispatch,
    settings: TheSettings,
    well: TheFoundWell,
    lately: TheLately,
    trace: TheTrace,
    idempotency_key: OnceKey = None,
    x_stainless_retry_count: Annotated[str | None, Header()] = None,
) -> Response:
    """Queues a job. The same body again, within a short while, is answered with the job that the first made."""
    reading = Reading(settings, database, well, lately, trace)
    retried = x_stainless_retry_count not in (None, "0")
    window = RETRIED_SECONDS if retried else AGAIN_SECONDS
    once = Once(owner, f"openai:{digest(document)}", document, window)
    if idempotency_key:
        once = Once(owner, idempotency_key, document)
    read = partial(_read, reading, owner, document, getattr(request.state, "trace", None))
    return await run_in_threadpool(created_once, database, dispatch, once, read, partial(_answer, database))


def _answer(database: Database, job: Job, done: Sequence[StepResult]) -> Response:
    with database.reading() as session:
        view = views.job_view(job, _model_of(session, job), (), done)
    return Response(orjson.dumps(view), 200, media_type="application/json")


def _read(reading: Reading, owner: str, body: Any, traceparent: str | None) -> jobs.New:
    """Raises SpecRefused, with the places of the request."""
    known = Known(
        model=partial(_place_of_model, reading.database, owner),
        template=partial(_template, reading, owner),
        rows=partial(_rows, reading.database, owner),
    )
    asked: Asked = asked_for(body, known)
    try:
        return reading.new_job(owner, asked.document, traceparent)
    except SpecRefused as refused:
        raise asked.moved(refused) from None


def _place_of_model(database: Database, owner: str, name: str) -> str:
    """A fine-tuned model by the checkpoint that it is; any other by its own name."""
    made = ModelName.read(name)
    if made is None:
        return name
    try:
        with database.reading() as session:
            _, checkpoint = made_models.find(session, owner, made.job_id, made.checkpoint)
    except NotFound:
        raise SpecRefused([Refusal(("model",), f"There is no model {name!r}.")]) from None
    return f"{checkpoint.job_id}/{checkpoint.step}/{checkpoint.global_step}"


def _template(reading: Reading, owner: str, model: str) -> str:
    """A fine-tuned model is spoken to as it was trained; another as its tokenizer has it."""
    earlier = of_earlier(model)
    if earlier is not None:
        with reading.database.reading() as session:
            maker = jobs.get(session, owner, str(earlier.job_id))
        trained = [step["data"]["template"] for step in maker.resolved["steps"] if step["name"] == earlier.step]
        return trained[0] or "default"
    try:
        return template_of(library.find(reading.settings.models_root, model).folder)
    except (LibraryError, OSError):
        return "tokenizer"  # a hub's; one that is not there is refused by its name


def _rows(database: Database, owner: str, training_file: Any) -> int | None:
    if not isinstance(training_file, str) or not is_file(training_file):
        return None
    with database.reading() as session:
        file = files.named(session, owner, training_file).get(training_file)
    return None if file is None else file.rows


@router.get("/jobs", responses=declared(422))
def list_fine_tuning_jobs(
    request: Request,
    owner: Owner,
    database: TheDatabase,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(description="The last job of the page before.")] = None,
) -> Page:
    """Newest first. metadata[key]=value, as often as wanted, shows those that have all of them."""
    labels = dict(_metadata(request))
    with database.reading() as session:
        listed, has_more = jobs.listing(session, owner, limit, _after_job(after), None, labels)
        order = {one.id: place for place, one in enumerate(listed)}
        found = sorted(jobs.of_ids(session, list(order)), key=lambda job: order[job.id])
        return page(_views(session, found), has_more)


def _metadata(request: Request) -> list[tuple[str, str]]:
    found = []
    for key, value in request.query_params.multi_items():
        if name := re.fullmatch(r"metadata\[(.+)\]", key):
            found.append((name[1], value))
        elif key == "metadata":
            raise BadParameter("/query/metadata", "Filter by metadata[key]=value; jobs without any are not looked for.")
    return found


def _after_job(after: str | None) -> str | None:
    if after is None:
        return None
    job_id = job_id_of(after)
    if job_id is None:
        raise BadCursor(f"after={after!r} is not a job of this list.")
    return job_id


@router.get("/jobs/{fine_tuning_job_id}", responses=declared(404))
def get_fine_tuning_job(fine_tuning_job_id: str, owner: Owner, database: TheDatabase) -> dict[str, Any]:
    with database.reading() as session:
        [view] = _views(session, [jobs.get(session, owner, _job_id(fine_tuning_job_id))])
    return view


@router.post("/jobs/{fine_tuning_job_id}/cancel", responses=declared(400, 404, 409, 413, 422))
def cancel_fine_tuning_job(fine_tuning_job_id: str, raw: RawBody, owner: Owner, acting: TheDoing) -> dict[str, Any]:
    no_document(raw)
    return _steered(fine_tuning_job_id, owner, acting, wishes.cancel)[0]


@router.post("/jobs/{fine_tuning_job_id}/pause", responses=declared(400, 404, 409, 413, 422))
def pause_fine_tuning_job(fine_tuning_job_id: str, raw: RawBody, owner: Owner, acting: TheDoing) -> dict[str, Any]:
    """One that runs saves a checkpoint first."""
    no_document(raw)
    return _steered(fine_tuning_job_id, owner, acting, wishes.pause)[0]


@router.post("/jobs/{fine_tuning_job_id}/resume", responses=declared(400, 404, 409, 413, 422))
def resume_fine_tuning_job(
    fine_tuning_job_id: str, raw: RawBody, owner: Owner, acting: TheDoing, dispatch: TheDispatch
) -> dict[str, Any]:
    """It goes on from its last checkpoint."""
    no_document(raw)
    view, queue = _steered(fine_tuning_job_id, owner, acting, wishes.resume)
    dispatch.ring(queue)
    return view


def _steered(text: str, owner: str, acting: Acting, wish: Callable[[Session, str, str], Job]) -> tuple[dict[str, Any], str]:
    job_id = _job_id(text)
    acting.subject = job_id
    with acting.transaction() as session:
        job = wish(session, owner, job_id)
        return acting.answer(_views(session, [job])[0]), job.queue


@router.get("/jobs/{fine_tuning_job_id}/events", responses=declared(404, 422))
def list_fine_tuning_events(
    fine_tuning_job_id: str,
    owner: Owner,
    database: TheDatabase,
    limit: Annotated[int, Query(ge=1, le=1000)] = 20,
    after: Annotated[str | None, Query(description="The last event of the page before.")] = None,
) -> Page:
    """Newest first."""
    job_id = _job_id(fine_tuning_job_id)
    number = None if after is None else event_number(after, job_id)
    if after is not None and number is None:
        raise BadCursor(f"after={after!r} is not an event of this job.")
    with database.reading() as session:
        jobs.version(session, owner, job_id)
        found = events.before(session, job_id, number, limit + 1)
    return page([views.event_view(event) for event in found[:limit]], len(found) > limit)


@router.get("/jobs/{fine_tuning_job_id}/checkpoints", responses=declared(404, 422))
def list_fine_tuning_checkpoints(
    fine_tuning_job_id: str,
    owner: Owner,
    database: TheDatabase,
    limit: Annotated[int, Query(ge=1, le=1000)] = 10,
    after: Annotated[str | None, Query(description="The last checkpoint of the page before.")] = None,
) -> Page:
    """Those that are kept, newest first, with all that was measured of them."""
    job_id = _job_id(fine_tuning_job_id)
    with database.reading() as session:
        job = jobs.get(session, owner, job_id)
        found = by_text(metrics.of_job(session, job_id))
        kept = [one for one in reversed(checkpoints.of_job(session, job_id)) if one.removed_at is None]
    begin = 0 if after is None else _behind([(one.step, one.global_step) for one in kept], checkpoint_place(after, job_id), after)
    values = values_of(found)
    data = [
        views.checkpoint_view(job, one, values.get((one.step, one.global_step), {}), views.split_of(found, one))
        for one in kept[begin : begin + limit]
    ]
    return page(data, len(kept) > begin + limit)


def _behind(places: list[tuple[str, int]], last: tuple[str, int] | None, after: str) -> int:
    if last not in places:
        raise BadCursor(f"after={after!r} is not a checkpoint of this job that is kept.")
    return places.index(last) + 1


def _job_id(text: str) -> str:
    job_id = job_id_of(text)
    if job_id is None:
        raise NotFound("fine-tuning job", text)
    return job_id


def _views(session: Session, found: Sequence[Job]) -> list[dict[str, Any]]:
    ids = [job.id for job in found]
    done = steps.of_jobs(session, ids)
    loaded = events.loaded(session, ids)
    return [
        views.job_view(job, _model_of(session, job), [one for one in loaded if one.job_id == job.id], done[job.id])
        for job in found
    ]


def _model_of(session: Session, job: Job) -> str:
    """What the job began with, by the name that it has here."""
    given = job.document.get("model")
    name = given.get("model_name_or_path") if isinstance(given, dict) else None
    name = str(name or job.resolved["steps"][0]["model"]["model_name_or_path"])
    earlier = of_earlier(name)
    maker = None if earlier is None else session.get(Job, earlier.job_id)
    return name if maker is None else views.name_of(maker)
