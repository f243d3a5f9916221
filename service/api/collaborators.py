"""What `create_app` was given, for endpoints to ask for."""

from typing import Annotated

from fastapi import Depends, Request

from service.api.rendered import Rendered
from service.dispatch import Dispatch
from service.library.check import FoundWell
from service.settings import Settings
from service.storage.storage import Storage
from service.store.session import Database


async def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


async def _dispatch(request: Request) -> Dispatch:
    dispatch: Dispatch = request.app.state.dispatch
    return dispatch


async def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


async def _rendered(request: Request) -> Rendered:
    rendered: Rendered = request.app.state.rendered
    return rendered


async def _found_well(request: Request) -> FoundWell:
    well: FoundWell = request.app.state.found_well
    return well


async def _storage(request: Request) -> Storage:
    storage: Storage = request.app.state.storage
    return storage


TheDatabase = Annotated[Database, Depends(_database)]
TheDispatch = Annotated[Dispatch, Depends(_dispatch)]
TheFoundWell = Annotated[FoundWell, Depends(_found_well)]
TheRendered = Annotated[Rendered, Depends(_rendered)]
TheSettings = Annotated[Settings, Depends(_settings)]
TheStorage = Annotated[Storage, Depends(_storage)]
