"""Whether the service lives, and whether it can take jobs now. Nobody needs a key to ask."""

from fastapi import APIRouter
from pydantic import BaseModel

from service.api.collaborators import TheDatabase, TheDispatch, TheStorage
from service.api.errors import NotReady
from service.api.problems import declared
from service.storage.folder import Folder
from service.store import schema
from service.store.session import Database

router = APIRouter(tags=["health"])


class Alive(BaseModel):
    status: str = "ok"


class Ready(BaseModel):
    status: str = "ok"
    checks: dict[str, bool]


@router.get("/livez")
def livez() -> Alive:
    """The process answers."""
    return Alive()


@router.get("/readyz", responses=declared(503))
def readyz(database: TheDatabase, dispatch: TheDispatch, storage: TheStorage) -> Ready:
    """The database answers and is at the newest migration, and so do the broker and an artifact store that is elsewhere."""
    checks = {"database": database.answers(), "broker": dispatch.answers()}
    checks["migrations"] = checks["database"] and _is_current(database)
    if not isinstance(storage, Folder):
        checks["artifacts"] = storage.answers()
    failed = [name for name, holds in checks.items() if not holds]
    if failed:
        raise NotReady(f"Not ready: {', '.join(failed)}.", {"Retry-After": "2"}, checks=checks)
    return Ready(checks=checks)


def _is_current(database: Database) -> bool:
    try:
        return schema.is_current(database)
    except Exception:  # whatever a database that just went away raises
        return False
