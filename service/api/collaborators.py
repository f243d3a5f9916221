"""What `create_app` was given, for endpoints to ask for."""

from typing import Annotated

from fastapi import Depends, Request

from service.api.rendered import RenderedJobs
from service.dispatch import Dispatch
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


async def _rendered_jobs(request: Request) -> RenderedJobs:
    rendered: RenderedJobs = request.app.state.rendered_jobs
    return rendered


async def _storage(request: Request) -> Storage:
    storage: Storage = request.app.state.storage
    return storage


TheDatabase = Annotated[Database, Depends(_database)]
TheDispatch = Annotated[Dispatch, Depends(_dispatch)]
TheRenderedJobs = Annotated[RenderedJobs, Depends(_rendered_jobs)]
TheSettings = Annotated[Settings, Depends(_settings)]
TheStorage = Annotated[Storage, Depends(_storage)]
