"""What all tests share: servers started once a session, and a database of its own for every test that asks."""

import os

# Two threads on a busy two-core machine make tiny training steps ten times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from service.store import schema
from service.store.session import Database
from tests import servers

_number = itertools.count()


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """A PostgreSQL server: the one that the environment names, or one of the session's own."""
    named = os.environ.get("FINEBITS_TEST_DATABASE_URL")
    if named:
        yield named
        return
    with servers.postgresql() as url:
        yield url


@pytest.fixture(scope="session")
def broker_url() -> Iterator[str]:
    named = os.environ.get("FINEBITS_TEST_BROKER_URL")
    if named:
        yield named
        return
    with servers.broker() as url:
        yield url


@pytest.fixture(scope="session")
def _s3_server() -> Iterator[servers.S3]:
    with servers.s3() as server:
        yield server


@pytest.fixture
def s3(_s3_server: servers.S3, monkeypatch: pytest.MonkeyPatch) -> servers.S3:
    """An S3 on loopback, and this process's environment as that of a client of it."""
    for name, value in _s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return _s3_server


@pytest.fixture(scope="session")
def _migrated(postgresql_url: str) -> Iterator[str]:
    """A database at the newest migration, to copy for each test."""
    name = f"finebits_template_{os.getpid()}"
    with _new_postgresql(postgresql_url, name) as url:
        database = Database(url)
        schema.upgrade(database)
        database.close()
        yield name


@contextmanager
def _new_postgresql(server_url: str, name: str, template: str = "template1") -> Iterator[str]:
    admin = create_engine(server_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'))
    try:
        yield make_url(server_url).set(database=name).render_as_string(hide_password=False)
    finally:
        with admin.connect() as connection:
            connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))
        admin.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A migrated database of the test's own, on each of the two servers that are supported."""
    if request.param == "sqlite":
        opened = Database(f"sqlite:///{tmp_path}/finebits.db")
        schema.upgrade(opened)
        yield opened
        opened.close()
        return
    template = request.getfixturevalue("_migrated")
    with _new_postgresql(request.getfixturevalue("postgresql_url"), f"finebits_{os.getpid()}_{next(_number)}", template) as url:
        opened = Database(url)
        yield opened
        opened.close()
