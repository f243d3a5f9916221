"""A service with its dashboard on a real socket, over a database of its own, with a few jobs that look like a worker's."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from service.app import create_app
from service.settings import Settings
from service.specs.read import read_job
from service.specs.scopes import Scope
from service.store import jobs, keys, schema
from service.store.session import Database
from tests.service import shelves
from tests.service.api.door import Bell
from tests.specs.job_documents import a_job


@dataclass
class Standing:
    """Where it is, and what it stands on."""

    port: int
    database: Database
    artifacts: Path
    app: FastAPI

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def a_key(self, owner: str = "ann", *scopes: Scope) -> str:
        """Made now: from here on everybody needs one."""
        with self.database.transaction() as session:
            _, key = keys.create(session, owner, scopes or (Scope.READ, Scope.SUBMIT))
        self.app.state.keyring.forget()
        return key

    def submit(self, owner: str = "local", **groups: Any) -> str:
        document = a_job(**groups)
        with self.database.transaction() as session:
            job_id: str = jobs.create(session, owner, document, read_job(document)).id
        return job_id


@contextmanager
def standing(home: Path, **settings: object) -> Iterator[Standing]:
    roots = shelves.stocked(home)
    places = {"home": home, "models_root": roots.models, "datasets_root": roots.datasets, "artifacts_root": home / "artifacts"}
    database = Database(f"sqlite:///{home}/standing.db")
    schema.upgrade(database)
    app = create_app(Settings(**{**places, **settings}), database, Bell())
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            yield Standing(listening.getsockname()[1], database, home / "artifacts", app)
        finally:
            app.state.following.is_closing = True
            server.should_exit = True
            thread.join(120)
    assert not thread.is_alive()
    database.close()
