"""The data sets in the operator's folder and those that were uploaded, and a look at one before anything is trained on it."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field, ValidationError
from starlette.concurrency import run_in_threadpool

from service.api.access import Owner
from service.api.acting import OnceKey, TheTrace
from service.api.bodies import OptionalDocument
from service.api.collaborators import TheDatabase, TheDispatch, TheFoundWell, TheLately, TheNewJobs, TheSettings
from service.api.dataset_views import DatasetList, DatasetView
from service.api.errors import BadParameter, NoSuchThing
from service.api.once import Once, created_once
from service.api.problems import declared
from service.api.reading import Reading
from service.api.schema import INSPECTION_BODY
from service.api.views import JobView, job_view
from service.library import datasets, models
from service.library.datasets import Known
from service.library.errors import LibraryError
from service.settings import Settings
from service.specs.dataset_info import DatasetEntry, DatasetInfoError
from service.specs.dataset_names import parts
from service.specs.finetuning import FinetuningArguments
from service.specs.inspection import Inspection, document_of, place_in
from service.specs.nearest import no_such
from service.specs.read import refusal_of
from service.specs.refusals import Refusal, SpecRefused
from service.store import datasets as datasets_store
from service.store import jobs
from service.store.session import Database
from service.store.tables import DatasetVersion, File, Job, StepResult

router = APIRouter(tags=["data"])

Stage = Literal["pt", "sft", "dpo", "rm"]
Folder = Annotated[str, Query(description="The folder whose dataset_info.json lists it.")]


class ModelNames(BaseModel):
    data: list[str] = Field(description="What model_name_or_path may be, of the operator's folder.")


@router.get("/datasets", responses=declared(422))
def list_datasets(owner: Owner, database: TheDatabase, settings: TheSettings, dataset_dir: Folder = "data") -> DatasetList:
    """Every entry, those that cannot be used with the reason; then what the key's owner uploaded. Rows of the operator's are
    counted where one is asked for.
    """
    with database.reading() as session:
        own = [_uploaded_view(row, file) for row, file in datasets_store.listing(session, owner)]
    if own and not (settings.datasets_root / dataset_dir).is_dir():
        return DatasetList(data=own)  # whoever uploads needs no folder
    known = known_in(settings, dataset_dir)
    listed = [_view(known, name, counted=False) for name in known.by_name]
    return DatasetList(data=[*listed, *(view for view in own if view.name not in known.by_name)])


@router.get("/datasets/{name}", responses=declared(404, 422))
def get_dataset(
    name: str, owner: Owner, database: TheDatabase, settings: TheSettings, dataset_dir: Folder = "data"
) -> DatasetView:
    """One data set, with its rows counted; `name@version` is a version of an uploaded one."""
    if found := find_uploaded(database, owner, settings, dataset_dir, name):
        return _uploaded_view(*found)
    known = known_in(settings, dataset_dir)
    refuse_unknown(known, name)
    return _view(known, name, counted=True)


@router.get("/models")
def list_models(settings: TheSettings) -> ModelNames:
    """The whole models in the operator's folder, by name."""
    return ModelNames(data=list(models.names(settings.models_root)))


@router.post(
    "/datasets/{name}/inspect",
    status_code=201,
    response_model=JobView,
    responses=declared(400, 404, 409, 413, 415, 422, 429),
    openapi_extra={"requestBody": INSPECTION_BODY},
)
async def inspect_dataset(
    name: str,
    document: OptionalDocument,
    owner: Owner,
    database: TheDatabase,
    dispatch: TheDispatch,
    settings: TheSettings,
    well: TheFoundWell,
    lately: TheLately,
    new_jobs: TheNewJobs,
    trace: TheTrace,
    idempotency_key: OnceKey = None,
) -> Response:
    """Queues a short job that looks at the data and trains nothing: GET /jobs/{id}/metrics, and its artifact inspection.json."""
    read = partial(_read, name, document, owner, Reading(settings, database, well, lately, trace))
    if idempotency_key is not None:
        once = Once(owner, idempotency_key, ["inspect", name, document])
        return await run_in_threadpool(created_once, database, dispatch, once, read, _created)
    job = await new_jobs.write(await run_in_threadpool(read))
    dispatch.ring(job.queue)
    return _created(job)


def _created(job: Job, done: Sequence[StepResult] = ()) -> Response:
    return Response(job_view(job, done).model_dump_json(), 201, {"Location": f"/jobs/{job.id}"}, "application/json")


def _read(name: str, body: Any, owner: str, reading: Reading) -> jobs.New:
    """The job that the request is. Raises SpecRefused with the places in the request's own body."""
    asked, settings = _inspection(body), reading.settings
    found = find_uploaded(reading.database, owner, settings, asked.dataset_dir, name)
    if found is None:
        known = known_in(settings, asked.dataset_dir)
        refuse_unknown(known, name)
        holds = _holds(known, name)
    else:
        holds = _holds_of(DatasetEntry.model_validate(found[1].entry or {}))
    if asked.model is None:
        there = ", ".join(models.names(settings.models_root)) or "none"
        sentence = f"Name the model whose tokenizer reads the rows; there are: {there}."
        raise SpecRefused([Refusal(("model",), sentence)])
    document = document_of(name, asked, holds)
    try:
        return reading.new_job(owner, document)
    except SpecRefused as refused:
        moved = [Refusal(place_in(refusal.place), refusal.detail) for refusal in refused.refusals]
        raise SpecRefused(dict.fromkeys(moved)) from None


def _inspection(body: Any) -> Inspection:
    try:
        return Inspection.model_validate(body)
    except ValidationError as error:
        raise SpecRefused(refusal_of(details) for details in error.errors(include_url=False)) from None


def known_in(settings: Settings, dataset_dir: str) -> Known:
    try:
        return datasets.entries(settings.datasets_root, dataset_dir)
    except LibraryError as error:
        raise BadParameter("/query/dataset_dir", str(error)) from None


def refuse_unknown(known: Known, name: str) -> None:
    if name not in known.by_name:
        raise NoSuchThing(no_such("data set", name, list(known.by_name)))


def _view(known: Known, name: str, counted: bool) -> DatasetView:
    try:
        entry = known.by_name[name]
        holds, files = _holds(known, name), files_of(known, name)
        rows = datasets.rows(files, None) if counted and files else None
    except (LibraryError, DatasetInfoError) as error:
        return DatasetView(name=name, formatting=None, holds=None, files=[], rows=None, trouble=str(error))
    except OSError as error:
        trouble = f"It cannot be read: {error.strerror}."
        return DatasetView(name=name, formatting=None, holds=None, files=[], rows=None, trouble=trouble)
    shown = [str(file.relative_to(known.folder)) for file in files]
    return DatasetView(name=name, formatting=entry.formatting, holds=holds, files=shown, rows=rows, trouble=None)


def _holds(known: Known, name: str) -> str:
    try:
        return _holds_of(known.by_name[name])
    except DatasetInfoError:
        return "conversations"  # what is wrong with the entry is said where it is read


def _holds_of(entry: DatasetEntry) -> str:
    is_text = entry.holds == "conversations" and entry.formatting == "alpaca" and entry.columns.prompt == "text"
    return "texts" if is_text else entry.holds


def _stage(holds: str) -> Stage:
    stages: dict[str, Stage] = {"texts": "pt", "conversations": "sft", "pairs": "dpo", "labels": "dpo"}
    return stages[holds]


def _uploaded_view(row: DatasetVersion, file: File) -> DatasetView:
    entry = DatasetEntry.model_validate(file.entry or {})
    return DatasetView(
        name=row.name,
        formatting=entry.formatting,
        holds=_holds_of(entry),
        files=[file.name],
        rows=file.rows,
        trouble=None,
        version=row.version,
    )


def files_of(known: Known, name: str) -> list[Path]:
    holds = _holds(known, name)
    finetuning = FinetuningArguments(stage=_stage(holds), dpo_loss="kto" if holds == "labels" else "sigmoid")
    return datasets.find(known, name, finetuning, "train", frozenset(("huggingface", "modelscope")))


def find_uploaded(
    database: Database, owner: str, settings: Settings, dataset_dir: str, name: str
) -> tuple[DatasetVersion, File] | None:
    """None where the name is the operator's, or nobody's."""
    named = parts(name)
    if named is None or (named[1] is None and datasets.lists(settings.datasets_root, dataset_dir, name)):
        return None
    with database.reading() as session:
        found = datasets_store.versions(session, owner, *named)
    return found[0] if found else None
