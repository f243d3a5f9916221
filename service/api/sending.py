"""Data sets that are sent to the service: in one request, or piece by piece, to be gone on with where it broke off.

POST /datasets/{name}/uploads opens one; each PATCH brings what comes next, from Upload-Offset on; HEAD says how much there is.
The piece that ends it makes it a version of the data set. After tus (tus.io, 1.0.0), whose headers these are.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from service.api.access import Owner
from service.api.acting import Acting, TheActing, TheDoing
from service.api.arriving import Arriving, OtherOffset, TooMuch
from service.api.bodies import keys_come_once
from service.api.collaborators import TheArriving, TheDatabase, TheSettings, TheStorage
from service.api.dataset_views import VersionView, version_view
from service.api.errors import BadParameter, OffsetConflict
from service.api.problems import declared
from service.library import datasets as library
from service.library import uploads
from service.library.errors import LibraryError
from service.settings import Settings
from service.specs.dataset_names import is_name
from service.specs.refusals import Refusal, SpecRefused
from service.storage.errors import Away
from service.storage.keeping import clear_incoming, keep
from service.storage.storage import Storage
from service.store import datasets, files
from service.store.errors import NotFound
from service.store.files import TRAINED_ON
from service.store.ids import new_id
from service.store.session import Database
from service.store.tables import DatasetUpload

router = APIRouter(tags=["data"])

BYTES = {"schema": {"type": "string", "format": "binary"}}

SHA256 = r"^[0-9a-f]{64}$"


class NewSending(BaseModel):
    """A data set that is to be sent."""

    model_config = ConfigDict(extra="forbid")

    file_name: str = Field(min_length=1, max_length=200, description="Its extension says what kind of file it is.")
    size: int = Field(ge=1, description="In bytes.")
    sha256: str | None = Field(default=None, pattern=SHA256, description="What has another when it has come is refused.")
    entry: dict[str, Any] = Field(
        default={},
        description="How its rows read, as in dataset_info.json: formatting, ranking, columns, tags; else the first row tells.",
    )


class SendingView(BaseModel):
    id: str
    name: str
    size: int
    offset: int = Field(description="How much has come: the next piece begins there.")
    url: str


@router.post(
    "/datasets/{name}/uploads", status_code=201, responses=declared(400, 409, 413, 422), dependencies=[Depends(keys_come_once)]
)
def create_sending(
    name: str,
    wanted: NewSending,
    response: Response,
    owner: Owner,
    settings: TheSettings,
    acting: TheDoing,
    arriving: TheArriving,
) -> SendingView:
    """Opens an upload, which is kept for a week. Its bytes are sent with PATCH to its `url`, in as many pieces as you like."""
    _refuse_size(wanted.size, settings)
    clear_incoming(settings.artifacts_root, datasets.UPLOAD_SECONDS)
    file_name = _checked(name, wanted.file_name, wanted.entry, settings)
    with acting.transaction() as session:
        upload = datasets.begin_upload(session, owner, name, file_name, wanted.entry, wanted.size, wanted.sha256)
        acting.subject = f"{name}/{upload.id}"
        view = acting.answer(_view(upload, arriving))
        response.headers["Location"] = view.url
    return view


@router.head("/datasets/{name}/uploads/{upload_id}", include_in_schema=False)
@router.get("/datasets/{name}/uploads/{upload_id}", responses=declared(404))
def get_sending(
    name: str, upload_id: str, response: Response, owner: Owner, database: TheDatabase, arriving: TheArriving
) -> SendingView:
    """How much of it has come; in the header Upload-Offset, too."""
    with database.reading() as session:
        view = _view(datasets.get_upload(session, owner, name, upload_id), arriving)
    response.headers.update({"Upload-Offset": str(view.offset), "Upload-Length": str(view.size), "Cache-Control": "no-store"})
    return view


@router.patch(
    "/datasets/{name}/uploads/{upload_id}",
    response_model=VersionView,
    status_code=201,
    responses={204: {"description": "More is to come."}, **declared(400, 404, 409, 413, 422)},
    openapi_extra={"requestBody": {"content": {"application/offset+octet-stream": BYTES}}},
)
async def continue_sending(
    name: str,
    upload_id: str,
    request: Request,
    owner: Owner,
    settings: TheSettings,
    database: TheDatabase,
    acting: TheActing,
    storage: TheStorage,
    arriving: TheArriving,
    upload_offset: Annotated[int, Header(ge=0, description="Where the piece begins: how much has come before.")],
) -> Response:
    """Takes the next piece. The one that ends the file makes it a data set, and is answered with its version."""
    upload = await run_in_threadpool(_upload, database, owner, name, upload_id)
    arrived = await _taken(arriving, upload.id, upload_offset, upload.size, request)
    if arrived < upload.size:
        return Response(status_code=204, headers={"Upload-Offset": str(arrived)})
    view = await run_in_threadpool(_completed, upload, settings, database, acting, storage, arriving)
    return Response(view.model_dump_json(), 201, {"Upload-Offset": str(arrived), "Location": view.url}, "application/json")


@router.delete("/datasets/{name}/uploads/{upload_id}", status_code=204, responses=declared(404))
def delete_sending(name: str, upload_id: str, owner: Owner, acting: TheActing, arriving: TheArriving) -> None:
    """Gives an upload up, and what has come of it."""
    with acting.transaction() as session:
        datasets.get_upload(session, owner, name, upload_id)
        datasets.end_upload(session, upload_id)
    arriving.forget(upload_id)


@router.put(
    "/datasets/{name}",
    response_model=VersionView,
    status_code=201,
    responses=declared(400, 404, 409, 413, 422),
    openapi_extra={"requestBody": {"required": True, "content": {"application/octet-stream": BYTES}}},
)
async def put_dataset(
    name: str,
    request: Request,
    owner: Owner,
    settings: TheSettings,
    database: TheDatabase,
    acting: TheActing,
    storage: TheStorage,
    arriving: TheArriving,
    file_name: Annotated[str, Query(min_length=1, max_length=200, description="Its extension says what kind of file it is.")],
    entry: Annotated[str | None, Query(description="As JSON: formatting, ranking, columns, tags.")] = None,
    sha256: Annotated[str | None, Query(pattern=SHA256, description="What has another is refused.")] = None,
) -> Response:
    """Takes a data set in one request; its body is the file. The same content again is the version that there is already."""
    given = _read_entry(entry)
    stored = await run_in_threadpool(_checked, name, file_name, given, settings)
    upload = DatasetUpload(
        id=f"whole-{request.state.request_id}-{id(request):x}".replace("/", "_"),
        owner=owner,
        name=name,
        file_name=stored,
        entry=given,
        size=settings.max_file_bytes,
        sha256=sha256,
    )
    try:
        await _taken(arriving, upload.id, 0, upload.size, request)
        view = await run_in_threadpool(_kept, upload, database, acting, storage, arriving, settings.artifacts_root)
    finally:
        await run_in_threadpool(arriving.forget, upload.id)
    return Response(view.model_dump_json(), 201, {"Location": view.url}, "application/json")


async def _taken(arriving: Arriving, upload_id: str, offset: int, size: int, request: Request) -> int:
    try:
        return await arriving.take(upload_id, offset, size, _pieces(request))
    except OtherOffset as error:
        raise OffsetConflict(str(error), {"Upload-Offset": str(error.offset)}, offset=error.offset) from None
    except TooMuch as error:
        raise BadParameter("/header/upload-offset", str(error)) from None
    except ClientDisconnect:
        return -1  # nobody reads the answer; what has come is there
    except OSError as error:
        raise Away(f"The file cannot be written: {error.strerror}.") from None


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    async for piece in request.stream():
        if piece:
            yield piece


def _upload(database: Database, owner: str, name: str, upload_id: str) -> DatasetUpload:
    with database.reading() as session:
        return datasets.get_upload(session, owner, name, upload_id)


def _completed(
    upload: DatasetUpload, settings: Settings, database: Database, acting: Acting, storage: Storage, arriving: Arriving
) -> VersionView:
    """What is refused is given up: it would be refused again."""
    try:
        view = _kept(upload, database, acting, storage, arriving, settings.artifacts_root)
    except SpecRefused:
        with acting.transaction() as session:
            datasets.end_upload(session, upload.id)
        arriving.forget(upload.id)
        raise
    arriving.forget(upload.id)
    return view


def _kept(
    upload: DatasetUpload, database: Database, acting: Acting, storage: Storage, arriving: Arriving, root: Path
) -> VersionView:
    """All of it has come: a version of the data set, the one that there is already where that has the same content."""
    path = arriving.path(upload.id)
    sha256 = arriving.sha256(upload.id)
    if upload.sha256 not in (None, sha256):
        raise _refused("sha256", f"What has come has the SHA-256 {sha256}, and not {upload.sha256}: send it again.")
    try:
        entry, rows = uploads.looked_at(path, upload.file_name, upload.entry)
    except LibraryError as error:
        raise _refused("entry", str(error)) from None
    document = entry.model_dump(mode="json", exclude_defaults=True)
    version = datasets.version_of(sha256, document)
    with database.reading() as session:
        is_there = bool(datasets.versions(session, upload.owner, upload.name, version))
    file_id = new_id("file")
    key = f"{files.folder_of(file_id)}/{upload.file_name}"
    size = path.stat().st_size if is_there else keep(storage, root, path, key, sha256)[0]
    acting.subject = f"{upload.name}@{version}"
    with acting.transaction() as session:
        _end(session, upload)
        if not datasets.touch(session, upload.owner, upload.name, version):
            if is_there:  # it was deleted a moment ago
                keep(storage, root, path, key, sha256)
            stored: dict[str, Any] = {"path": key, "size": size, "sha256": sha256, "entry": document, "rows": rows}
            files.add(session, upload.owner, file_id, purpose=TRAINED_ON, name=upload.file_name, **stored)
            datasets.add(session, upload.owner, upload.name, version, file_id)
        return version_view(*datasets.get(session, upload.owner, upload.name, version))


def _end(session: Session, upload: DatasetUpload) -> None:
    """Raises NotFound where another request has ended it."""
    if upload.id.startswith("sending-") and not datasets.end_upload(session, upload.id):
        raise NotFound("upload", upload.id)


def _checked(name: str, file_name: str, entry: dict[str, Any], settings: Settings) -> str:
    """What the file is called here. Raises BadParameter, SpecRefused."""
    if not is_name(name):
        raise BadParameter("/path/name", f"{name!r} cannot be a data set's name: letters, digits, dots and dashes, at most 64.")
    if library.lists(settings.datasets_root, "data", name):
        raise BadParameter("/path/name", f"The operator's folder has a data set {name!r} already: give yours another name.")
    try:
        stored = uploads.stored_name(file_name)
    except LibraryError as error:
        raise _refused("file_name", str(error)) from None
    try:
        uploads.entry_of(entry, stored)
    except LibraryError as error:
        raise _refused("entry", str(error)) from None
    return stored


def _read_entry(text: str | None) -> dict[str, Any]:
    try:
        entry = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        entry = None
    if not isinstance(entry, dict):
        raise BadParameter("/query/entry", "It must be a JSON object, as an entry of dataset_info.json.")
    return entry


def _refuse_size(size: int, settings: Settings) -> None:
    if size > settings.max_file_bytes:
        raise BadParameter("/body/size", f"A file may have {settings.max_file_bytes} bytes here (FINEBITS_MAX_FILE_BYTES).")


def _refused(place: str, sentence: str) -> SpecRefused:
    return SpecRefused([Refusal((place,), sentence)])


def _view(upload: DatasetUpload, arriving: Arriving) -> SendingView:
    return SendingView(
        id=upload.id,
        name=upload.name,
        size=upload.size,
        offset=arriving.offset(upload.id),
        url=f"/datasets/{upload.name}/uploads/{upload.id}",
    )
