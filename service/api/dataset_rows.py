"""The first rows of a data set as they are in its files, for people who want to see what is there."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from service.api.access import Owner
from service.api.collaborators import TheDatabase, TheSettings, TheStorage
from service.api.datasets import Folder, files_of, find_uploaded, known_in, refuse_unknown
from service.api.errors import BadParameter
from service.api.problems import declared
from service.library.errors import LibraryError
from service.library.faults import first_rows
from service.library.rows import Row
from service.specs.dataset_info import DatasetEntry, DatasetInfoError
from service.storage.keeping import here

router = APIRouter(tags=["data"])


class RowView(BaseModel):
    file: str
    row: int = Field(description="From 1: lines as an editor numbers them; of CSV without the line of names.")
    values: dict[str, Any]


class RowList(BaseModel):
    data: list[RowView]


@router.get("/datasets/{name}/rows", responses=declared(404, 422))
def preview_dataset(
    name: str,
    owner: Owner,
    database: TheDatabase,
    settings: TheSettings,
    storage: TheStorage,
    dataset_dir: Folder = "data",
    limit: Annotated[int, Query(ge=1, le=100, description="How many, from the first.")] = 10,
) -> RowList:
    """The first rows that can be read; POST /datasets/{name}/validate says what is wrong with others."""
    try:
        if found := find_uploaded(database, owner, settings, dataset_dir, name):
            file = found[1]
            with here(storage, settings.artifacts_root, file.path, file.size, file.sha256) as path:
                return _list(first_rows([path], DatasetEntry.model_validate(file.entry or {}), limit))
        known = known_in(settings, dataset_dir)
        refuse_unknown(known, name)
        return _list(first_rows(files_of(known, name), known.by_name[name], limit))
    except (LibraryError, DatasetInfoError) as error:
        raise BadParameter("/path/name", str(error)) from None


def _list(rows: list[Row]) -> RowList:
    return RowList(data=[RowView(file=row.file, row=row.number, values=row.values) for row in rows])
