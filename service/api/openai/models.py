"""Models: the operator's, and those that jobs made. Their names hold ":" and "/"."""

from typing import Any

from fastapi import APIRouter
from sqlalchemy.orm import Session

from service.api.access import Owner
from service.api.acting import TheActing
from service.api.collaborators import TheDatabase, TheSettings
from service.api.errors import NoSuchThing
from service.api.openai import views
from service.api.openai.files import DeletedView
from service.api.openai.ids import ModelName
from service.api.openai.pages import Page, page
from service.api.problems import declared
from service.library import models as library
from service.library.errors import LibraryError
from service.library.models import Model
from service.settings import Settings
from service.store import made_models
from service.store.errors import NotFound
from service.store.tables import Checkpoint, Job

router = APIRouter(prefix="/v1", tags=["openai"])

OPERATOR = "operator"


@router.get("/models")
def list_openai_models(owner: Owner, settings: TheSettings, database: TheDatabase) -> Page:
    """Those in the operator's folder, and then those that jobs made, the newest first."""
    with database.reading() as session:
        made = [views.model_view(job, checkpoint) for job, checkpoint in made_models.listing(session, owner)]
    return page([*_operators(settings), *made])


@router.get("/models/{name:path}", responses=declared(404))
def get_openai_model(name: str, owner: Owner, settings: TheSettings, database: TheDatabase) -> dict[str, Any]:
    named = ModelName.read(name)
    if named is None:
        return _operators_own(settings, name)
    with database.reading() as session:
        job, checkpoint = _find(session, owner, named, name)
        return views.model_view(job, checkpoint, is_last=named.checkpoint is None)


@router.delete("/models/{name:path}", responses=declared(404, 409, 422))
def delete_openai_model(name: str, owner: Owner, settings: TheSettings, acting: TheActing) -> DeletedView:
    """Gives up what a job made, and keeps its story. Refused while a job that has not ended needs it."""
    named = ModelName.read(name)
    if named is None:
        _operators_own(settings, name)
        raise NoSuchThing(f"The model {name!r} lies in the operator's folder, and only what jobs made can be deleted here.")
    with acting.transaction() as session:
        _find(session, owner, named, name)
        made_models.give_up(session, owner, named.job_id, named.checkpoint)
    return DeletedView(id=name, object="model")


def _find(session: Session, owner: str, named: ModelName, name: str) -> tuple[Job, Checkpoint]:
    try:
        return made_models.find(session, owner, named.job_id, named.checkpoint)
    except NotFound:
        raise NotFound("model", name) from None


def _operators(settings: Settings) -> list[dict[str, Any]]:
    return [
        _view(library.find(settings.models_root, name))
        for name in library.names(settings.models_root)
        if _is_whole(settings, name)
    ]


def _is_whole(settings: Settings, name: str) -> bool:
    try:
        library.find(settings.models_root, name)
    except (LibraryError, OSError):
        return False
    return True


def _operators_own(settings: Settings, name: str) -> dict[str, Any]:
    try:
        return _view(library.find(settings.models_root, name))
    except (LibraryError, OSError):
        raise NotFound("model", name) from None


def _view(model: Model) -> dict[str, Any]:
    created = int((model.folder / "config.json").stat().st_mtime)
    return {"id": model.name, "object": "model", "created": created, "owned_by": OPERATOR}
