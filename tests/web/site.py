"""The service on a port of its own, in a thread of the test's process, over a database that tests write as workers would."""

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
class Site:
    """A served application, and what tests do behind its back."""

    url: str
    app: FastAPI

    @property
    def database(self) -> Database:
        found: Database = self.app.state.database
        return found

    @property
    def artifacts(self) -> Path:
        root: Path = self.app.state.settings.artifacts_root
        return root

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
def served(home: Path) -> Iterator[Site]:
    roots = shelves.stocked(home)
    settings = Settings(home=home, models_root=roots.models, datasets_root=roots.datasets, artifacts_root=home / "artifacts")
    database = Database(f"sqlite:///{home}/finebits.db")
    schema.upgrade(database)
    app = create_app(settings, database, Bell())
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", ws="none", timeout_graceful_shutdown=1)
    )
    began = threading.Event()
    startup = server.startup

    async def noted(*given: Any, **named: Any) -> None:
        await startup(*given, **named)
        began.set()

    server.startup = noted  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run, name="site")
    thread.start()
    try:
        assert began.wait(60), "the service did not begin"
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Site(f"http://127.0.0.1:{port}", app)
    finally:
        server.should_exit = True
        thread.join(30)
        database.close()
