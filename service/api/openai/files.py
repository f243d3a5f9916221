"""OpenAI's files: uploaded whole, listed, handed out again, deleted."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from service.api.access import Owner
from service.api.acting import Acting, TheActing, TheDoingWithForm
from service.api.collaborators import TheDatabase, TheSettings, TheStorage
from service.api.errors import BadParameter
from service.api.first_answer import Again
from service.api.openai.pages import Page, page
from service.api.openai.schema import FILE_FORM
from service.api.problems import declared
from service.api.receiving import Form, received
from service.api.stored_file import file_answer
from service.library.training_files import Unreadable, looked_at, stored_name
from service.settings import Settings
from service.specs.refusals import Refusal, SpecRefused
from service.storage.keeping import keep
from service.storage.storage import Storage
from service.store import files, removals
from service.store.errors import StoreError
from service.store.files import TRAINED_ON
from service.store.ids import new_id
from service.store.session import Database
from service.store.tables import File

router = APIRouter(prefix="/v1", tags=["openai"])

PURPOSES = (TRAINED_ON, "assistants", "batch", "vision", "user_data", "evals")
LONGEST_SECONDS = 10 * 366 * 86_400


class FileView(BaseModel):
    """An uploaded file. `rows` and `sha256` are ours."""

    id: str = Field(description="What data.dataset calls it, too.")
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    status_details: None = None
    sha256: str
    rows: int | None = Field(description="Of a file to train on.")


class DeletedView(BaseModel):
    id: str
    object: str
    deleted: bool = True


@router.post("/files", responses=declared(400, 409, 413, 415, 422), openapi_extra={"requestBody": FILE_FORM})
async def create_file(
    request: Request, owner: Owner, settings: TheSettings, database: TheDatabase, acting: TheDoingWithForm, storage: TheStorage
) -> FileView:
    """Keeps a file. One of the purpose fine-tune is read, and refused with the numbers of the lines that cannot be."""
    async with received(request, settings.artifacts_root) as form:
        return await run_in_threadpool(_kept, form, owner, settings, database, acting, storage)


def _kept(form: Form, owner: str, settings: Settings, database: Database, acting: Acting, storage: Storage) -> FileView:
    purpose = purpose_of(form.text("purpose"))
    seconds = _seconds(form.fields.get("expires_after[anchor]"), form.fields.get("expires_after[seconds]"))
    path, name = form.file("file")
    acting.hear(form.document)
    new = look(path, name, purpose, "file")
    stored = store(storage, settings.artifacts_root, path, new["name"], form.sha256("file"))
    acting.subject = stored["file_id"]
    with giving_up(database, stored["path"]), acting.transaction() as session:
        return acting.answer(file_view(files.add(session, owner, **stored, **new, seconds=seconds)))


def look(path: Path, name: str, purpose: str, param: str) -> dict[str, Any]:
    """What is to be known of a file that came; of one to train on, how its rows read. Raises SpecRefused."""
    if purpose != TRAINED_ON:
        return {"purpose": purpose, "name": name, "entry": None, "rows": None}
    try:
        found = looked_at(path, name)
    except Unreadable as error:
        raise SpecRefused(Refusal((param,), sentence) for sentence in error.sentences) from None
    entry = found.entry.model_dump(mode="json", exclude_defaults=True)
    return {"purpose": purpose, "name": name, "entry": entry, "rows": found.rows}


def store(storage: Storage, root: Path, path: Path, name: str, sha256: str | None = None) -> dict[str, Any]:
    """Moves a file that came into the artifact store; what its row says of that."""
    file_id = new_id("file")
    key = f"{files.folder_of(file_id)}/{stored_name(name)}"
    size, sha256 = keep(storage, root, path, key, sha256)
    return {"file_id": file_id, "path": key, "size": size, "sha256": sha256}


@contextmanager
def giving_up(database: Database, path: str) -> Iterator[None]:
    """What is in the store already goes where its row is not written: the request came twice, or may not be."""
    try:
        yield
    except (Again, StoreError):  # nothing was committed; of an error of the database that is not known
        with suppress(SQLAlchemyError), database.transaction() as session:
            removals.ask(session, [path])
        raise


def purpose_of(text: str, param: str = "purpose") -> str:
    if text not in PURPOSES:
        raise BadParameter(f"/{param}", f"There is no purpose {text!r}; there are {', '.join(PURPOSES)}.")
    return text


def _seconds(anchor: str | None, seconds: str | None) -> float | None:
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise BadParameter("/expires_after/anchor", "anchor must be created_at: a file expires so long after it was made.")
    if seconds is None or not seconds.isdecimal() or not 1 <= int(seconds) <= LONGEST_SECONDS:
        raise BadParameter("/expires_after/seconds", f"seconds must be a whole number from 1 to {LONGEST_SECONDS}.")
    return float(seconds)


@router.get("/files", responses=declared(422))
def list_files(
    owner: Owner,
    database: TheDatabase,
    purpose: str | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Literal["asc", "desc"] = "desc",
    after: Annotated[str | None, Query(description="The last file of the page before.")] = None,
) -> Page:
    with database.reading() as session:
        found, has_more = files.listing(session, owner, limit, after, order, purpose)
    return page([file_view(file).model_dump() for file in found], has_more)


@router.get("/files/{file_id}", responses=declared(404))
def get_file(file_id: str, owner: Owner, database: TheDatabase) -> FileView:
    with database.reading() as session:
        return file_view(files.get(session, owner, file_id))


@router.delete("/files/{file_id}", responses=declared(404, 409))
def delete_file(file_id: str, owner: Owner, acting: TheActing) -> DeletedView:
    """Refused while a job that has not ended needs it."""
    with acting.transaction() as session:
        files.delete(session, owner, file_id)
    return DeletedView(id=file_id, object="file")


@router.head("/files/{file_id}/content", include_in_schema=False)
@router.get(
    "/files/{file_id}/content",
    response_class=FileResponse,
    responses={
        206: {"description": "The range that was asked for."},
        304: {"description": "Unchanged."},
        **declared(400, 404, 410, 416),
    },
)
def get_file_content(file_id: str, request: Request, owner: Owner, database: TheDatabase, storage: TheStorage) -> Response:
    """The bytes as they came."""
    with database.reading() as session:
        file = files.get(session, owner, file_id)
    return file_answer(request, storage, file)


def file_view(file: File) -> FileView:
    return FileView(
        id=file.id,
        bytes=file.size,
        created_at=int(file.created_at),
        expires_at=None if file.expires_at is None else int(file.expires_at),
        filename=file.name,
        purpose=file.purpose,
        sha256=file.sha256,
        rows=file.rows,
    )
