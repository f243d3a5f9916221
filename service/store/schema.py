"""The database's schema: brought to the newest migration, or compared with it.

Workers and the API may be at work meanwhile. A migration is one transaction, which locks every table before it changes one: who
writes waits, for seconds, and nobody's statement fails of it. On PostgreSQL it does not stand in line for its locks, since all
that came after it would wait behind it: it gives up after a moment, and tries again when others have had their turn.
"""

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect
from sqlalchemy.exc import OperationalError

from service.store.session import Database

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"

# One migration at a time, whoever starts first; any number that no other advisory lock of ours has.
_LOCK = 0x66696E65

# Shorter than the second after which PostgreSQL looks for a deadlock: whoever is in the way of a migration is never its victim.
LOCK_TIMEOUT = "500ms"
AGAIN_SECONDS = 1.0
PATIENCE_SECONDS = 600.0  # as long as somebody may read the whole database, for a dump for instance
_NOT_LOCKED = "55P03"  # lock_not_available


def upgrade(database: Database, to: str = "head", patience_seconds: float = PATIENCE_SECONDS) -> None:
    """Brings the schema up to a migration. Two processes that start at once take turns."""
    _migrate(database, lambda config: command.upgrade(config, to), patience_seconds)


def downgrade(database: Database, to: str) -> None:
    """Takes the schema back to a migration, or to "base": nothing."""
    _migrate(database, lambda config: command.downgrade(config, to), PATIENCE_SECONDS)


def revision(database: Database) -> str | None:
    """The migration that the database is at; None before the first. Asked often, so on SQLite it takes no writer's turn."""
    with database.reading() as session:
        return MigrationContext.configure(session.connection()).get_current_revision()


@cache
def head() -> str | None:
    """The newest migration there is, found once: that reads every migration, and `GET /readyz` asks again and again."""
    return ScriptDirectory.from_config(_config(None)).get_current_head()


def is_known(revision: str) -> bool:
    """Whether there is such a migration here; one of a later version is not."""
    return revision in {script.revision for script in ScriptDirectory.from_config(_config(None)).walk_revisions()}


def is_current(database: Database) -> bool:
    return revision(database) == head()


def _migrate(database: Database, change: Callable[[Config], None], patience_seconds: float) -> None:
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            with database.engine.connect() as connection, connection.begin():
                _take_turns(connection)
                return change(_config(connection))
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != _NOT_LOCKED or time.monotonic() > deadline:
                raise
        time.sleep(AGAIN_SECONDS)


def _take_turns(connection: Connection) -> None:
    # SQLite's transactions are exclusive among writers already: BEGIN IMMEDIATE (session.py)
    if connection.dialect.name != "postgresql":
        return
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
    if MigrationContext.configure(connection).get_current_revision() != head():
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        # jobs first, as everybody does
        for table in sorted(inspect(connection).get_table_names(), key=lambda name: (name != "jobs", name)):
            connection.exec_driver_sql(f'LOCK TABLE "{table}" IN ACCESS EXCLUSIVE MODE')


def _config(connection: Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config
