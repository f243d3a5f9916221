"""A service with two owners and their things, and an attacker who has the key of one of them."""

import atexit
import json
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
from pydantic import SecretStr

from service.app import create_app
from service.settings import Settings
from service.store import schema
from service.store.session import Database
from tests.attacks.family import Family, record
from tests.service import shelves
from tests.service.api.door import Bell, Door
from tests.service.api.test_keys import a_key

KEY = SecretStr("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")

# What lies outside of every folder that the service may read, and in whatever is answered would be a leak.
SECRET = "the operator's own words, which nobody may read"


class Counting(Door):
    """A door that notes how often it was asked, and what it answered. What it asks goes to a server, by a socket."""

    family: Family | None = None

    @contextmanager
    def over_http(self) -> Iterator[None]:
        with listening(self.app) as port, httpx2.HTTPTransport() as self._transport:
            self.base_url = httpx2.URL(f"http://127.0.0.1:{port}")
            self.timeout = httpx2.Timeout(60)
            yield

    def request(self, method: str, url: Any, **options: Any) -> Any:  # type: ignore[override]
        response = super().request(method, url, **options)
        if self.family is not None:
            record(self.family).note(response.status_code)
        assert response.status_code < 500, response.text
        assert SECRET not in response.text
        return response

    def _is_declared(self, method: str, response: Any) -> None:
        """Of addresses that there are: a name that holds a slash may make it another."""
        if response.status_code != 404 or "There is nothing at" not in response.text:
            super()._is_declared(method, response)


@dataclass
class House:
    root: Path
    settings: Settings
    database: Database
    door: Counting
    ann: dict[str, str]  # the headers that have her key
    bob: dict[str, str]
    admin: dict[str, str]

    def outside(self) -> dict[str, bytes]:
        """Every file that no request may make, change or remove: all but the artifacts, the database and the cache."""
        own = (self.settings.artifacts_root, self.settings.cache_root)
        files = (path for path in self.root.rglob("*") if path.is_file() and not path.name.startswith("plain.db"))
        return {str(path): path.read_bytes() for path in files if not any(path.is_relative_to(folder) for folder in own)}


@contextmanager
def opened(root: Path, family: Family, **more: Any) -> Iterator[House]:
    """`more`: settings."""
    roots = shelves.stocked(root)
    (root / "secret.json").write_text(json.dumps([{"instruction": SECRET, "output": SECRET}]))
    settings = Settings(
        **{
            "home": root,
            "models_root": roots.models,
            "datasets_root": roots.datasets,
            "artifacts_root": root / "artifacts",
            "secret_key": KEY,
            "hub": True,
            **more,
        }
    )
    settings.artifacts_root.mkdir(exist_ok=True)
    shutil.copy(_migrated(), root / "plain.db")
    database = Database(f"sqlite:///{root}/plain.db")
    app = create_app(settings, database, Bell())
    app.state.deliverer = None  # what is delivered is for an attack to say
    with Counting(app) as door, door.over_http():
        keys = {name: a_key(door, name, scopes)[1] for name, scopes in OWNERS.items()}
        door.family = family
        yield House(root, settings, database, door, keys["ann"], keys["bob"], keys["root"])
    database.close()


@cache
def _migrated() -> Path:
    """A database at the newest migration, to copy for each house."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    database = Database(f"sqlite:///{folder.name}/plain.db")
    schema.upgrade(database)
    database.close()
    return Path(folder.name, "plain.db")


OWNERS = {"ann": ["read", "submit"], "bob": ["read", "submit"], "root": ["admin"]}


@contextmanager
def listening(app: Any) -> Iterator[int]:
    """The application behind a real server, whose port this is: for what no client would send."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, proxy_headers=False, lifespan="off", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(120)
        listener.close()


def sent(port: int, family: Family, raw: bytes, seconds: float = 5.0) -> list[bytes]:
    """The answers to bytes as they are, until the server hangs up or says nothing more; each begins with its status line."""
    said = b""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        connection.sendall(raw)
        while True:
            try:
                piece = connection.recv(65536)
            except (TimeoutError, ConnectionError):
                break
            if not piece:
                break
            said += piece
    assert SECRET.encode() not in said
    answers = [b"HTTP/1.1 " + one for one in said.split(b"HTTP/1.1 ")[1:]]
    for answer in answers or [b"HTTP/1.1 hangs up"]:
        record(family).note(answer[9:12].decode() if answers else "none")
    return answers


def status_of(answer: bytes) -> int:
    return int(answer[9:12])
