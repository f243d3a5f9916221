"""A service with its dashboard on a real socket, over a database of its own, with a few jobs that look like a worker's."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from service.app import create_app
from service.settings import Settings
from service.store import schema
from service.store.session import Database
from tests.service import shelves
from tests.service.api.door import Bell


@dataclass
class Standing:
    """Where it is, and what it stands on."""

    port: int
    database: Database
    artifacts: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"


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
            yield Standing(listening.getsockname()[1], database, home / "artifacts")
        finally:
            app.state.following.is_closing = True
            server.should_exit = True
            thread.join(30)
    assert not thread.is_alive()
    database.close()
