"""What is shown of data sets."""

from urllib.parse import quote

from pydantic import BaseModel, Field

from service.api.views import iso
from service.store.tables import DatasetVersion, File


class DatasetView(BaseModel):
    """A data set as its entry in dataset_info.json has it. Where it cannot be used, `trouble` says why."""

    name: str
    formatting: str | None
    holds: str | None = Field(description="texts, conversations, pairs or labels.")
    files: list[str]
    rows: int | None = Field(description="Null where only a worker can count them: of what was uploaded, until it has.")
    trouble: str | None
    version: str | None = Field(default=None, description="The newest of one that was uploaded; null of the operator's.")


class DatasetList(BaseModel):
    data: list[DatasetView]


class VersionView(BaseModel):
    """A version of an uploaded data set. `name@version` is always this one."""

    name: str
    version: str = Field(description="Made of the content: the same file read in the same way has the same.")
    file: str = Field(description="The file's id: GET /v1/files/{file}, and what a job's resolved form calls the data set.")
    file_name: str
    entry: dict[str, object] = Field(description="How its rows read, as in dataset_info.json.")
    rows: int | None = Field(description="Null until a worker has counted them, of a large file.")
    size: int
    sha256: str
    created_at: str
    url: str = Field(description="Where its bytes are.")


class VersionList(BaseModel):
    data: list[VersionView]


def version_view(row: DatasetVersion, file: File) -> VersionView:
    return VersionView(
        name=row.name,
        version=row.version,
        file=file.id,
        file_name=file.name,
        entry=file.entry or {},
        rows=file.rows,
        size=file.size,
        sha256=file.sha256,
        created_at=iso(row.created_at),
        url=f"/datasets/{quote(row.name)}@{row.version}/content",
    )
