"""Whether the service lives, and whether it can take jobs now. Nobody needs a key to ask."""

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter
from pydantic import BaseModel

from service.api.collaborators import TheDatabase, TheDispatch, TheStorage, TheWatching
from service.api.errors import NotReady
from service.api.problems import declared
from service.dispatch import Dispatch
from service.storage.folder import Folder
from service.storage.storage import Storage
from service.store import schema
from service.store.session import Database

router = APIRouter(tags=["health"])


# Threads for whoever watches the service: of their own, so that it hears of it when all others are busy.
WATCHING = 2


class Alive(BaseModel):
    status: str = "ok"


class Ready(BaseModel):
    status: str = "ok"
    checks: dict[str, bool]


@router.get("/livez")
async def livez() -> Alive:
    """The process answers."""
    return Alive()


@router.get("/readyz", responses=declared(503))
async def readyz(database: TheDatabase, dispatch: TheDispatch, storage: TheStorage, watching: TheWatching) -> Ready:
    """The database answers and is at the newest migration, and so do the broker and an artifact store that is elsewhere."""
    checks = await to_thread.run_sync(_checks, database, dispatch, storage, limiter=watching)
    failed = [name for name, holds in checks.items() if not holds]
    if failed:
        raise NotReady(f"Not ready: {', '.join(failed)}.", {"Retry-After": "2"}, checks=checks)
    return Ready(checks=checks)


def watchers() -> CapacityLimiter:
    return CapacityLimiter(WATCHING)


def _checks(database: Database, dispatch: Dispatch, storage: Storage) -> dict[str, bool]:
    checks = {"database": database.answers(), "broker": dispatch.answers()}
    checks["migrations"] = checks["database"] and _is_current(database)
    if not isinstance(storage, Folder):
        checks["artifacts"] = storage.answers()
    return checks


def _is_current(database: Database) -> bool:
    try:
        return schema.is_current(database)
    except Exception:  # whatever a database that just went away raises
        return False
