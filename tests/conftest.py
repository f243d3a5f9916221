"""What all tests share: servers started once a session, and a database of its own for every test that asks."""

import os

# Hundreds of processes are started, and each would compile all of our modules anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Two threads on a busy two-core machine make tiny training steps ten times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from service.store.session import Database
from tests import servers
from tests.databases import emptied, migrated, new_postgresql

# What is drawn and done in a test may take as long as a busy machine takes.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Among several processes, files with whole jobs go first, and files of few tests last: so none works on when others have
    nothing left to do."""
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        tests = Counter(item.path for item in items)
        items.sort(key=lambda item: (item.path not in slow, -tests[item.path]))


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
    """An S3 on loopback, and this process's environment as that of a client of it, which waits for it on a busy machine."""
    for seconds in ("SIZE_SECONDS", "BLOCK_SECONDS", "ANSWER_SECONDS"):
        monkeypatch.setattr(f"service.storage.remote.{seconds}", 60.0)
    for name, value in _s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return _s3_server


@pytest.fixture(scope="session")
def shared_postgresql(postgresql_url: str) -> Iterator[str]:
    with new_postgresql(postgresql_url) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A migrated database with nothing in it, on each of the two servers that are supported."""
    if request.param == "sqlite":
        opened = migrated(tmp_path / "finebits.db")
    else:
        opened = emptied(request.getfixturevalue("shared_postgresql"))
    yield opened
    opened.close()
