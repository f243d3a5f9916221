"""Databases for tests, made in the time that a test takes: SQLite's is a copy of a migrated file, PostgreSQL's one that the
session's tests share, emptied before each of them, since making one takes longer than most of them."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from sqlalchemy import create_engine, delete, make_url, text

from service.store import schema
from service.store.session import Database
from service.store.tables import Base


def migrated(file: Path) -> Database:
    """A new SQLite database at the newest migration."""
    shutil.copy(_migrated_file(), file)
    return Database(f"sqlite:///{file}")


@cache
def _migrated_file() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="fb-migrated-")
    atexit.register(folder.cleanup)
    database = Database(f"sqlite:///{folder.name}/finebits.db")
    schema.upgrade(database)
    database.close()
    return Path(folder.name, "finebits.db")


@contextmanager
def new_postgresql(server_url: str) -> Iterator[str]:
    """The URL of a database without tables, which is dropped afterwards."""
    name = f"finebits_{os.getpid()}"
    admin = create_engine(server_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}"'))
    try:
        yield make_url(server_url).set(database=name).render_as_string(hide_password=False)
    finally:
        with admin.connect() as connection:
            connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))
        admin.dispose()


def emptied(url: str) -> Database:
    """A PostgreSQL at the newest migration, without what was left in it: sessions that a test forgot, rows, another schema."""
    database = Database(url)
    with database.engine.begin() as connection:
        others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        connection.execute(text(f"SELECT pg_terminate_backend(pid) {others}"))
    if schema.is_current(database):
        with database.transaction() as session:
            session.execute(text("SET LOCAL session_replication_role = replica"))  # the audit log refuses to be emptied
            for table in reversed(Base.metadata.sorted_tables):
                session.execute(delete(table))
        return database
    with database.engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    schema.upgrade(database)
    return database
