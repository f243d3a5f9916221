"""What `create_app` was given, for endpoints to ask for."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from anyio import CapacityLimiter
from fastapi import Depends, Request

from service.api.arriving import Arriving
from service.api.following import Following
from service.api.lately import Lately
from service.api.rendered import Rendered
from service.dispatch import Dispatch
from service.library.check import FoundWell
from service.settings import Settings
from service.storage.storage import Storage
from service.store.group_commit import GroupCommit
from service.store.jobs import New
from service.store.session import Database
from service.store.tables import Job


def _given(name: str) -> Callable[[Request], Awaitable[Any]]:
    """A dependency: what `create_app` keeps under that name."""

    async def given(request: Request) -> Any:
        return getattr(request.app.state, name)

    return given


TheArriving = Annotated[Arriving, Depends(_given("arriving"))]
TheDatabase = Annotated[Database, Depends(_given("database"))]
TheDispatch = Annotated[Dispatch, Depends(_given("dispatch"))]
TheFollowing = Annotated[Following, Depends(_given("following"))]
TheFoundWell = Annotated[FoundWell, Depends(_given("found_well"))]
TheLately = Annotated[Lately, Depends(_given("lately"))]
TheNewJobs = Annotated[GroupCommit[New, Job], Depends(_given("new_jobs"))]
TheRendered = Annotated[Rendered, Depends(_given("rendered"))]
TheSettings = Annotated[Settings, Depends(_given("settings"))]
TheWatching = Annotated[CapacityLimiter, Depends(_given("watching"))]
TheStorage = Annotated[Storage, Depends(_given("storage"))]
