"""OpenAI's uploads: a large file in parts, which become one file when all are there."""

import hashlib
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from service.api.access import Owner
from service.api.acting import Acting, TheDoing, TheDoingWithForm
from service.api.bodies import Document, RawBody, no_document
from service.api.collaborators import TheDatabase, TheSettings, TheStorage
from service.api.errors import BadParameter
from service.api.openai.documents import read_as
from service.api.openai.files import LONGEST_SECONDS, FileView, file_view, giving_up, look, purpose_of, store
from service.api.openai.schema import PART_FORM, body_of
from service.api.problems import declared
from service.api.receiving import Form, received
from service.settings import Settings
from service.storage.keeping import incoming, keep
from service.storage.storage import Storage
from service.store import files, uploads
from service.store.session import Database
from service.store.tables import Upload, UploadPart

router = APIRouter(prefix="/v1", tags=["openai"])

READ_AT_ONCE = 8 * 2**20


class ExpiresAfter(BaseModel):
    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=1, le=LONGEST_SECONDS)]


class NewUpload(BaseModel):
    """A file that is to come."""

    bytes: Annotated[int, Field(ge=1, lt=2**53)]
    filename: Annotated[str, Field(min_length=1, max_length=512)]
    mime_type: Annotated[str, Field(max_length=256)]
    purpose: str
    expires_after: ExpiresAfter | None = None


class Completion(BaseModel):
    """The parts in their order; `md5` of the whole, if given, is compared."""

    part_ids: Annotated[list[str], Field(min_length=1)]
    md5: str | None = None


class UploadView(BaseModel):
    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: str
    file: FileView | None = None


class PartView(BaseModel):
    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str


@router.post("/uploads", responses=declared(400, 409, 413, 415, 422), openapi_extra={"requestBody": body_of("NewUpload")})
def create_upload(document: Document, owner: Owner, settings: TheSettings, acting: TheDoing) -> UploadView:
    """Opens an upload; parts are taken for a day."""
    new = read_as(NewUpload, document)
    if new.bytes > settings.max_file_bytes:
        raise BadParameter("/bytes", f"A file may have {settings.max_file_bytes} bytes here (FINEBITS_MAX_FILE_BYTES).")
    seconds = None if new.expires_after is None else float(new.expires_after.seconds)
    with acting.transaction() as session:
        upload = uploads.open_one(
            session,
            owner,
            purpose=purpose_of(new.purpose),
            name=new.filename,
            mime_type=new.mime_type,
            size=new.bytes,
            file_seconds=seconds,
        )
        acting.subject = upload.id
        return acting.answer(_view(upload))


@router.post(
    "/uploads/{upload_id}/parts", responses=declared(400, 404, 409, 413, 415, 422), openapi_extra={"requestBody": PART_FORM}
)
async def add_upload_part(
    upload_id: str,
    request: Request,
    owner: Owner,
    settings: TheSettings,
    database: TheDatabase,
    acting: TheDoingWithForm,
    storage: TheStorage,
) -> PartView:
    """Keeps a part; parts may come in any order, and at once."""
    if not acting.may_come_again:
        await run_in_threadpool(_require_pending, upload_id, owner, database)
    async with received(request, settings.artifacts_root) as form:
        return await run_in_threadpool(_part_kept, upload_id, form, owner, settings, database, acting, storage)


def _require_pending(upload_id: str, owner: str, database: Database) -> None:
    """Before the bytes are taken in."""
    with database.reading() as session:
        uploads.require_pending(uploads.get(session, owner, upload_id), "given parts")


def _part_kept(
    upload_id: str, form: Form, owner: str, settings: Settings, database: Database, acting: Acting, storage: Storage
) -> PartView:
    path, _ = form.file("data")
    acting.hear(form.document)
    part_id, key = uploads.new_part(upload_id)
    size, sha256 = keep(storage, settings.artifacts_root, path, key, form.sha256("data"))
    with giving_up(database, key), acting.transaction() as session:
        part = uploads.add_part(session, owner, upload_id, part_id, key, size, sha256)
        return acting.answer(PartView(id=part.id, created_at=int(part.created_at), upload_id=upload_id))


@router.post(
    "/uploads/{upload_id}/complete",
    responses=declared(400, 404, 409, 413, 415, 422),
    openapi_extra={"requestBody": body_of("Completion")},
)
def complete_upload(
    upload_id: str,
    document: Document,
    owner: Owner,
    settings: TheSettings,
    database: TheDatabase,
    acting: TheDoing,
    storage: TheStorage,
) -> UploadView:
    """Makes the parts one file. Asked again, it answers with the same file."""
    completion = read_as(Completion, document)
    with database.reading() as session:
        upload = uploads.get(session, owner, upload_id)
        if upload.status == "completed" and upload.file_id is not None:
            return _view(upload, file_view(files.get(session, owner, upload.file_id)))
        uploads.require_pending(upload, "completed")
        parts = _in_order(uploads.parts(session, upload_id), completion.part_ids)
    with incoming(settings.artifacts_root) as folder:
        whole = folder / "whole"
        _join(storage, parts, whole, completion.md5)
        if whole.stat().st_size != upload.size:
            sentence = f"The parts have {whole.stat().st_size} bytes together, and the upload was opened for {upload.size}."
            raise BadParameter("/part_ids", sentence)
        new = look(whole, upload.name, upload.purpose, "part_ids")
        stored = store(storage, settings.artifacts_root, whole, upload.name)
    with giving_up(database, stored["path"]), acting.transaction() as session:
        done = uploads.complete(session, owner, upload_id, stored["file_id"])
        file = files.add(session, owner, **stored, **new, seconds=upload.file_seconds)
        return acting.answer(_view(done, file_view(file)))


def _in_order(there: dict[str, UploadPart], part_ids: list[str]) -> list[UploadPart]:
    for place, part_id in enumerate(part_ids):
        if part_id not in there:
            raise BadParameter(f"/part_ids/{place}", f"The upload has no part {part_id!r}.")
    return [there[part_id] for part_id in part_ids]


def _join(storage: Storage, parts: list[UploadPart], whole: Path, md5: str | None) -> None:
    digest = hashlib.md5(usedforsecurity=False)
    with whole.open("wb") as file:
        for part in parts:
            for start in range(0, part.size, READ_AT_ONCE):
                block = storage.block(part.path, start, min(start + READ_AT_ONCE, part.size))
                digest.update(block)
                file.write(block)
    if md5 is not None and digest.hexdigest() != md5.lower():
        raise BadParameter("/md5", f"The parts together have the MD5 {digest.hexdigest()}, and not {md5}.")


@router.post("/uploads/{upload_id}/cancel", responses=declared(400, 404, 409, 413, 422))
def cancel_upload(upload_id: str, raw: RawBody, owner: Owner, acting: TheDoing) -> UploadView:
    """Gives up an upload and its parts."""
    no_document(raw)
    with acting.transaction() as session:
        return acting.answer(_view(uploads.cancel(session, owner, upload_id)))


def _view(upload: Upload, file: FileView | None = None) -> UploadView:
    return UploadView(
        id=upload.id,
        bytes=upload.size,
        created_at=int(upload.created_at),
        expires_at=int(upload.expires_at),
        filename=upload.name,
        purpose=upload.purpose,
        status=upload.status,
        file=file,
    )
