import subprocess
import sys
from pathlib import Path
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text
from sqlalchemy.exc import IntegrityError

from service.store import schema
from service.store.session import Database
from service.store.tables import Base, Point
from tests.service.store.stored import job_of, submit
from tests.service.store.threads import at_once


def emptied(database: Database) -> Database:
    """The same database before the first migration ever ran."""
    schema.downgrade(database, "base")
    with database.engine.begin() as connection:
        connection.execute(text("DROP TABLE alembic_version"))
    return database


def test_an_empty_database_is_at_no_migration(database: Database) -> None:
    emptied(database)
    assert schema.revision(database) is None
    assert not schema.is_current(database)


def test_upgrading_brings_an_empty_database_to_the_head(database: Database) -> None:
    schema.upgrade(emptied(database))
    assert schema.revision(database) == schema.head()
    assert schema.is_current(database)
    assert set(inspect(database.engine).get_table_names()) == {*Base.metadata.tables, "alembic_version"}


def test_upgrading_again_changes_nothing(database: Database) -> None:
    job_id = submit(database)
    schema.upgrade(database)
    assert job_of(database, job_id).state == "queued"


def test_downgrading_to_base_leaves_nothing_and_upgrading_brings_it_back(database: Database) -> None:
    schema.downgrade(database, "base")
    assert inspect(database.engine).get_table_names() == ["alembic_version"]
    assert schema.revision(database) is None
    schema.upgrade(database)
    submit(database)
    assert schema.is_current(database)


def test_the_migrations_lead_to_the_tables(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []


def test_the_migrations_lead_to_the_same_constraints_and_indexes_as_the_tables(database: Database) -> None:
    migrated = layout(database)
    Base.metadata.create_all(emptied(database).engine)
    assert layout(database) == migrated


def layout(database: Database) -> dict[str, Any]:
    """What a database says of its tables: alembic's comparison passes over CHECKs and over what partial indexes hold."""
    seen = inspect(database.engine)
    return {
        table: {
            # in any order: a later migration's columns stand behind the others
            "columns": sorted((column["name"], repr(column["type"]), column["nullable"]) for column in seen.get_columns(table)),
            "primary key": seen.get_pk_constraint(table),
            "foreign keys": sorted(seen.get_foreign_keys(table), key=str),
            "checks": sorted((check["name"], check["sqltext"]) for check in seen.get_check_constraints(table)),
            "indexes": sorted(map(index_of, seen.get_indexes(table))),
        }
        for table in Base.metadata.tables
    }


def index_of(index: Any) -> tuple[str, ...]:
    """Its name, its columns, and what a partial one holds."""
    conditions = [str(condition) for name, condition in index.get("dialect_options", {}).items() if name.endswith("_where")]
    return (index["name"], *index["column_names"], *conditions)


def test_sqlite_keeps_a_series_in_the_order_in_which_it_is_read(database: Database) -> None:
    if not database.is_sqlite:
        return
    with database.engine.begin() as connection:
        made = connection.execute(text("SELECT sql FROM sqlite_master WHERE name = 'series'")).scalar_one()
    assert "WITHOUT ROWID" in made


def test_a_series_is_as_it_was_after_the_table_is_made_anew(database: Database) -> None:
    job_id = submit(database)
    with database.transaction() as session:
        session.add_all(Point(job_id=job_id, step="sft", name="loss", global_step=at, value=at / 7) for at in (3, 1, 2))
    before = points(database)
    schema.downgrade(database, "0006")
    schema.upgrade(database)
    assert points(database) == before


def points(database: Database) -> list[tuple[Any, ...]]:
    with database.reading() as session:
        return [tuple(row) for row in session.execute(text("SELECT * FROM series ORDER BY global_step"))]


def test_threads_that_upgrade_at_once_take_turns(database: Database) -> None:
    emptied(database)
    assert at_once(*[lambda: schema.upgrade(database)] * 3) == [None, None, None]
    assert schema.is_current(database)


# Each process says that it is there, waits for the others, and upgrades.
UPGRADE = """
import os, sys, time
from pathlib import Path
from service.store import schema
from service.store.session import Database
url, meeting = sys.argv[1], Path(sys.argv[2])
(meeting / str(os.getpid())).touch()
while len(list(meeting.iterdir())) < 3:
    time.sleep(0.001)
schema.upgrade(Database(url))
"""


def test_processes_that_upgrade_at_once_take_turns(database: Database, tmp_path: Path) -> None:
    # On SQLite the file does not even exist yet, so the turn to WAL is raced for too.
    fresh = Database(f"sqlite:///{tmp_path}/fresh.db") if database.is_sqlite else emptied(database)
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    command = [sys.executable, "-c", UPGRADE, fresh.url, str(meeting)]
    upgrading = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    complaints = [process.communicate(timeout=240)[1] for process in upgrading]
    assert complaints == ["", "", ""]
    assert schema.is_current(fresh)
    fresh.close()


FORBIDDEN = {
    "a state that nobody knows": "state = 'dreaming'",
    "running without a worker": "state = 'running', lease_until = 1",
    "running without a lease": "state = 'running', worker = 'worker-1'",
    "waiting with a worker": "worker = 'worker-1'",
    "waiting with a lease": "lease_until = 1",
    "waiting with a reason": "reason = 'killed'",
    "waiting with an end": "finished_at = 1",
    "failed without a reason": "state = 'failed', finished_at = 1",
    "succeeded without an end": "state = 'succeeded'",
    "succeeded with a reason": "state = 'succeeded', finished_at = 1, reason = 'killed'",
    "cancelled under a lease": "state = 'cancelled', finished_at = 1, worker = 'worker-1', lease_until = 1",
}


def test_the_database_itself_refuses_rows_that_no_job_can_be(database: Database) -> None:
    job_id = submit(database)
    allowed = [what for what, change in FORBIDDEN.items() if "ck_jobs_" not in refusal_of(database, change)]
    assert allowed == []
    assert job_of(database, job_id).state == "queued"


def refusal_of(database: Database, change: str) -> str:
    """What the database says against a change; nothing where it lets it be."""
    try:
        with database.transaction() as session:
            session.execute(text(f"UPDATE jobs SET {change}"))
    except IntegrityError as error:
        return str(error)
    return ""
