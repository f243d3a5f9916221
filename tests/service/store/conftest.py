"""The store's tests are many and short: they copy a migrated SQLite file, and share one PostgreSQL database that is emptied
before each, since making one takes longer than most of them."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete, text

from service.store import schema
from service.store.session import Database
from service.store.tables import Base
from tests.conftest import _new_postgresql


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite database at the newest migration, to copy."""
    file = tmp_path_factory.mktemp("migrated") / "finebits.db"
    database = Database(f"sqlite:///{file}")
    schema.upgrade(database)
    database.close()
    return file


@pytest.fixture(scope="session")
def shared_postgresql(postgresql_url: str) -> Iterator[str]:
    with _new_postgresql(postgresql_url, f"finebits_store_{os.getpid()}") as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("migrated_file"), tmp_path / "finebits.db")
        opened = Database(f"sqlite:///{tmp_path}/finebits.db")
    else:
        opened = Database(request.getfixturevalue("shared_postgresql"))
        empty(opened)
    yield opened
    opened.close()


def empty(database: Database) -> None:
    """Whatever the test before left: sessions that it forgot, rows, or another schema."""
    with database.engine.begin() as connection:
        others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        connection.execute(text(f"SELECT pg_terminate_backend(pid) {others}"))
    if schema.is_current(database):
        with database.transaction() as session:
            session.execute(text("SET LOCAL session_replication_role = replica"))  # the audit log refuses to be emptied
            for table in reversed(Base.metadata.sorted_tables):
                session.execute(delete(table))
        return
    with database.engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    schema.upgrade(database)
