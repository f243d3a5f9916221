"""A service over a database of the test's own, folders made on the spot, and a bell that is only noted."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.app import create_app
from service.settings import Settings
from service.store.session import Database
from tests.databases import migrated
from tests.service import shelves
from tests.service.api.door import Bell, Door


@pytest.fixture
def bell() -> Bell:
    return Bell()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    roots = shelves.stocked(tmp_path)
    return Settings(
        home=tmp_path,
        models_root=roots.models,
        datasets_root=roots.datasets,
        artifacts_root=tmp_path / "artifacts",
    )


@pytest.fixture
def door(settings: Settings, database: Database, bell: Bell) -> Iterator[Door]:
    """The service on each of the databases."""
    with Door(create_app(settings, database, bell)) as opened:
        yield opened


@pytest.fixture
def plain_door(settings: Settings, bell: Bell, tmp_path: Path) -> Iterator[Door]:
    """The service on SQLite, where the test is about no database."""
    database = migrated(tmp_path / "plain.db")
    with Door(create_app(settings, database, bell)) as opened:
        yield opened
    database.close()
