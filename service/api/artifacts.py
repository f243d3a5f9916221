"""The files that a job made, to download whole or in parts."""

import mimetypes
from pathlib import PurePosixPath

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse
from starlette import responses as starlette

from service.api.access import Whose
from service.api.collaborators import TheDatabase, TheStorage
from service.api.errors import Gone, RangeNotSatisfiable, UnreadableRange
from service.api.etags import is_known, quoted
from service.api.problems import declared
from service.api.stored_file import StoredFile
from service.api.views import ArtifactList, artifact_view
from service.storage.errors import Missing
from service.storage.folder import Folder
from service.storage.storage import Storage
from service.store import artifacts, jobs
from service.store.tables import Artifact

router = APIRouter(tags=["files"])


@router.get("/jobs/{job_id}/artifacts", responses=declared(404))
def list_artifacts(job_id: str, owner: Whose, database: TheDatabase) -> ArtifactList:
    """Every file that the job has made so far, by name."""
    with database.reading() as session:
        jobs.version(session, owner, job_id)
        return ArtifactList(data=[artifact_view(artifact) for artifact in artifacts.of_job(session, job_id)])


@router.head("/jobs/{job_id}/artifacts/{name:path}", include_in_schema=False)
@router.get(
    "/jobs/{job_id}/artifacts/{name:path}",
    response_class=FileResponse,
    responses={
        206: {"description": "The range that was asked for."},
        304: {"description": "Unchanged."},
        **declared(400, 404, 410, 416),
    },
)
def get_artifact(job_id: str, name: str, request: Request, owner: Whose, database: TheDatabase, storage: TheStorage) -> Response:
    """A file's bytes. Its ETag is its SHA-256, so a download can be checked, and taken up again with Range and If-Range."""
    with database.reading() as session:
        jobs.version(session, owner, job_id)
        artifact = artifacts.get(session, job_id, name)
    etag = quoted(artifact.sha256)
    if is_known(request, etag):
        return Response(status_code=304, headers={"ETag": etag})
    return _answer(request, storage, artifact, etag)


def _answer(request: Request, storage: Storage, artifact: Artifact, etag: str) -> Response:
    name = artifact.name
    headers = {"ETag": etag, "X-Content-Type-Options": "nosniff"}
    media_type, filename = mimetypes.guess_type(name)[0] or "application/octet-stream", PurePosixPath(name).name
    try:
        if isinstance(storage, Folder):
            path = storage.path(artifact.path)
            stat = path.stat()
            _refuse_bad_range(request, etag, stat.st_size)
            return FileResponse(path, headers=headers, media_type=media_type, filename=filename, stat_result=stat)
        size = storage.size(artifact.path)
    except Missing:
        raise Gone(f"The file {name!r} was made, and is no longer among the artifacts.") from None
    if size != artifact.size:
        raise Gone(f"The file {name!r} was made with {artifact.size} bytes, and has {size} in the artifact store.")
    _refuse_bad_range(request, etag, size)
    return StoredFile(storage, artifact.path, size, artifact.created_at, headers, media_type, filename)


def _refuse_bad_range(request: Request, etag: str, size: int) -> None:
    """FileResponse would answer a bad range with plain text; it is asked first, with its own reading of the header."""
    wanted = request.headers.get("range")
    if wanted is None or request.headers.get("if-range", etag) != etag:
        return
    try:
        FileResponse._parse_range_header(wanted, size)
    except starlette.RangeNotSatisfiable:
        raise RangeNotSatisfiable(f"The file has {size} bytes.", {"Content-Range": f"bytes */{size}"}) from None
    except starlette.MalformedRangeHeader as error:
        raise UnreadableRange(f"The header Range cannot be read: {error.content}.") from None
