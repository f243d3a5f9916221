"""The data sets in the operator's folder, and a look at one before anything is trained on it."""

from dataclasses import replace
from itertools import chain
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field, ValidationError
from starlette.concurrency import run_in_threadpool

from service.api.access import Owner
from service.api.bodies import RawBody, read_json
from service.api.collaborators import TheDatabase, TheDispatch, TheNewJobs, TheSettings
from service.api.errors import BadParameter, NoSuchThing
from service.api.fitting import Fitting
from service.api.problems import declared
from service.api.schema import INSPECTION_BODY
from service.api.views import JobView, job_view
from service.library import datasets, models
from service.library.check import Roots, check
from service.library.datasets import Known
from service.library.errors import LibraryError
from service.settings import Settings
from service.specs.dataset_info import DatasetEntry, DatasetInfoError
from service.specs.finetuning import FinetuningArguments
from service.specs.inspection import Inspection, document_of, place_in
from service.specs.nearest import no_such
from service.specs.read import read_job, refusal_of
from service.specs.refusals import Refusal, SpecRefused
from service.store import jobs

router = APIRouter(tags=["data"])

Stage = Literal["pt", "sft", "dpo", "rm"]
Folder = Annotated[str, Query(description="The folder whose dataset_info.json lists it.")]


class DatasetView(BaseModel):
    """A data set as its entry in dataset_info.json has it. Where it cannot be used, `trouble` says why."""

    name: str
    formatting: str | None
    holds: str | None = Field(description="texts, conversations, pairs or labels.")
    files: list[str]
    rows: int | None = Field(description="Null where only a worker can count them.")
    trouble: str | None


class DatasetList(BaseModel):
    data: list[DatasetView]


class ModelNames(BaseModel):
    data: list[str] = Field(description="What model_name_or_path may be, of the operator's folder.")


@router.get("/datasets", responses=declared(422))
def list_datasets(settings: TheSettings, dataset_dir: Folder = "data") -> DatasetList:
    """Every entry, those that cannot be used with the reason. Rows are counted where one data set is asked for."""
    known = _known(settings, dataset_dir)
    return DatasetList(data=[_view(known, name, counted=False) for name in known.by_name])


@router.get("/datasets/{name}", responses=declared(404, 422))
def get_dataset(name: str, settings: TheSettings, dataset_dir: Folder = "data") -> DatasetView:
    """One data set, with its rows counted."""
    known = _known(settings, dataset_dir)
    _refuse_unknown(known, name)
    return _view(known, name, counted=True)


@router.get("/models")
def list_models(settings: TheSettings) -> ModelNames:
    """The whole models in the operator's folder, by name."""
    return ModelNames(data=list(models.names(settings.models_root)))


@router.post(
    "/datasets/{name}/inspect",
    status_code=201,
    response_model=JobView,
    responses=declared(400, 404, 413, 422),
    openapi_extra={"requestBody": INSPECTION_BODY},
)
async def inspect_dataset(
    name: str,
    raw: RawBody,
    owner: Owner,
    database: TheDatabase,
    dispatch: TheDispatch,
    settings: TheSettings,
    new_jobs: TheNewJobs,
) -> Response:
    """Queues a short job that looks at the data and trains nothing: GET /jobs/{id}/metrics, and its artifact inspection.json."""
    document = read_json(raw) if raw.strip() else {}
    new = await run_in_threadpool(_read, name, document, owner, settings, Fitting(database, _roots(settings), {}))
    job = await new_jobs.write(new)
    dispatch.ring(job.queue)
    return Response(job_view(job).model_dump_json(), 201, {"Location": f"/jobs/{job.id}"}, "application/json")


def _read(name: str, body: Any, owner: str, settings: Settings, fitting: Fitting) -> jobs.New:
    """The job that the request is. Raises SpecRefused with the places in the request's own body."""
    asked = _inspection(body)
    known = _known(settings, asked.dataset_dir)
    _refuse_unknown(known, name)
    if asked.model is None:
        there = ", ".join(models.names(settings.models_root)) or "none"
        sentence = f"Name the model whose tokenizer reads the rows; there are: {there}."
        raise SpecRefused([Refusal(("model",), sentence)])
    document = document_of(name, asked, _holds(known, name))
    roots = _roots(settings)
    try:
        read = read_job(document, lambda spec, resolved: chain(check(roots, spec, resolved), fitting(spec, resolved)))
    except SpecRefused as refused:
        moved = [Refusal(place_in(refusal.place), refusal.detail) for refusal in refused.refusals]
        raise SpecRefused(dict.fromkeys(moved)) from None
    read = replace(read, notices=(*read.notices, *fitting.notices))
    return jobs.New(owner, document, read, settings.secret_key, settings.artifacts_ttl_seconds)


def _inspection(body: Any) -> Inspection:
    try:
        return Inspection.model_validate(body)
    except ValidationError as error:
        raise SpecRefused(refusal_of(details) for details in error.errors(include_url=False)) from None


def _roots(settings: Settings) -> Roots:
    return Roots(settings.models_root, settings.datasets_root, settings.hub, modelscope=settings.modelscope)


def _known(settings: Settings, dataset_dir: str) -> Known:
    try:
        return datasets.entries(settings.datasets_root, dataset_dir)
    except LibraryError as error:
        raise BadParameter("/query/dataset_dir", str(error)) from None


def _refuse_unknown(known: Known, name: str) -> None:
    if name not in known.by_name:
        raise NoSuchThing(no_such("data set", name, list(known.by_name)))


def _view(known: Known, name: str, counted: bool) -> DatasetView:
    try:
        entry = known.by_name[name]
        holds = _holds(known, name)
        finetuning = FinetuningArguments(stage=_stage(holds), dpo_loss="kto" if holds == "labels" else "sigmoid")
        files = datasets.find(known, name, finetuning, "train", frozenset(("huggingface", "modelscope")))
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
        entry: DatasetEntry = known.by_name[name]
    except DatasetInfoError:
        return "conversations"  # what is wrong with the entry is said where it is read
    is_text = entry.holds == "conversations" and entry.formatting == "alpaca" and entry.columns.prompt == "text"
    return "texts" if is_text else entry.holds


def _stage(holds: str) -> Stage:
    stages: dict[str, Stage] = {"texts": "pt", "conversations": "sft", "pairs": "dpo", "labels": "dpo"}
    return stages[holds]
