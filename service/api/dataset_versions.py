"""Uploaded data sets, version by version: their bytes, what is wrong with their rows, and their end."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from service.api.access import Owner
from service.api.acting import TheActing
from service.api.bodies import RawBody, no_document
from service.api.collaborators import TheDatabase, TheSettings, TheStorage
from service.api.dataset_views import VersionList, version_view
from service.api.datasets import Folder, files_of, find_uploaded, known_in, refuse_unknown
from service.api.errors import BadParameter, NoSuchThing
from service.api.problems import declared
from service.api.stored_file import file_answer
from service.library.errors import LibraryError
from service.library.faults import Validation, validate
from service.specs.dataset_info import DatasetEntry, DatasetInfoError
from service.specs.dataset_names import parts
from service.storage.keeping import here
from service.store import datasets

router = APIRouter(tags=["data"])


class FaultView(BaseModel):
    """One thing that is wrong. What is null is not known, or not to blame."""

    file: str
    row: int | None = Field(description="From 1: lines as an editor numbers them; of CSV without the line of names.")
    column: str | None
    line: int | None
    detail: str


class ValidationView(BaseModel):
    name: str
    rows: int = Field(description="That were read.")
    is_whole: bool = Field(description="Whether all were: it stops where there are too many faults.")
    faults: list[FaultView]


@router.get("/datasets/{name}/versions", responses=declared(404))
def list_dataset_versions(name: str, owner: Owner, database: TheDatabase) -> VersionList:
    """Every version of an uploaded data set, the newest first."""
    with database.reading() as session:
        datasets.get(session, owner, name)
        return VersionList(data=[version_view(*found) for found in datasets.versions(session, owner, name)])


@router.head("/datasets/{name}/content", include_in_schema=False)
@router.get(
    "/datasets/{name}/content",
    response_class=FileResponse,
    responses={
        206: {"description": "The range that was asked for."},
        304: {"description": "Unchanged."},
        **declared(400, 404, 410, 416),
    },
)
def get_dataset_content(name: str, request: Request, owner: Owner, database: TheDatabase, storage: TheStorage) -> Response:
    """The bytes of an uploaded data set as they came, whole or in ranges; its SHA-256 is the ETag."""
    with database.reading() as session:
        _, file = datasets.get(session, owner, *_parts(name))
    return file_answer(request, storage, file)


@router.delete("/datasets/{name}", status_code=204, responses=declared(404, 409))
def delete_dataset(name: str, owner: Owner, acting: TheActing) -> None:
    """Deletes an uploaded data set with all its versions, or `name@version`. Refused while a job that has not ended needs it."""
    with acting.transaction() as session:
        datasets.delete(session, owner, *_parts(name))


@router.post("/datasets/{name}/validate", responses=declared(400, 404, 410, 413, 422))
def validate_dataset(
    name: str,
    raw: RawBody,
    owner: Owner,
    database: TheDatabase,
    settings: TheSettings,
    storage: TheStorage,
    dataset_dir: Folder = "data",
    limit: Annotated[int, Query(ge=1, le=1000, description="Stop after so many faults.")] = 100,
) -> ValidationView:
    """Reads every row, and says of each fault the file, the row and the column. Takes no arguments in its body."""
    no_document(raw)
    try:
        if found := find_uploaded(database, owner, settings, dataset_dir, name):
            file = found[1]
            with here(storage, settings.artifacts_root, file.path, file.size, file.sha256) as path:
                entry = DatasetEntry.model_validate(file.entry or {})
                return _validation(name, validate([path], entry, limit))
        known = known_in(settings, dataset_dir)
        refuse_unknown(known, name)
        return _validation(name, validate(files_of(known, name), known.by_name[name], limit))
    except (LibraryError, DatasetInfoError) as error:
        raise BadParameter("/path/name", str(error)) from None


def _parts(name: str) -> tuple[str, str | None]:
    named = parts(name)
    if named is None:
        raise NoSuchThing(f"There is no uploaded data set {name!r}.")
    return named


def _validation(name: str, found: Validation) -> ValidationView:
    faults = [FaultView(**vars(fault)) for fault in found.faults]
    return ValidationView(name=name, rows=found.rows, is_whole=found.is_whole, faults=faults)
