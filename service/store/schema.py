"""The database's schema: brought to the newest migration, or compared with it."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from service.store.session import Database

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"

# One migration at a time, whoever starts first; any number that no other advisory lock of ours has.
_LOCK = 0x66696E65


def upgrade(database: Database, to: str = "head") -> None:
    """Brings the schema up to a migration. Two processes that start at once take turns."""
    with database.engine.connect() as connection, connection.begin():
        _take_turns(connection)
        command.upgrade(_config(connection), to)


def downgrade(database: Database, to: str) -> None:
    """Takes the schema back to a migration, or to "base": nothing."""
    with database.engine.connect() as connection, connection.begin():
        _take_turns(connection)
        command.downgrade(_config(connection), to)


def revision(database: Database) -> str | None:
    """The migration that the database is at; None before the first. Asked often, so on SQLite it takes no writer's turn."""
    with database.reading() as session:
        return MigrationContext.configure(session.connection()).get_current_revision()


def head() -> str | None:
    """The newest migration there is."""
    return ScriptDirectory.from_config(_config(None)).get_current_head()


def is_current(database: Database) -> bool:
    return revision(database) == head()


def _take_turns(connection: Connection) -> None:
    # SQLite's transactions are exclusive among writers already: BEGIN IMMEDIATE (session.py)
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")


def _config(connection: Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config
