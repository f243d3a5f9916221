"""The files that a job made, to download whole or in parts."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse

from service.api.access import Whose
from service.api.collaborators import TheDatabase, TheStorage
from service.api.problems import declared
from service.api.stored_file import file_answer
from service.api.views import ArtifactList, artifact_view
from service.store import artifacts, jobs

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
    return file_answer(request, storage, artifact)
