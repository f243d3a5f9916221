"""Many jobs at once, and what a verb costs among them, counted by the database itself."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import delete, event, insert, text

from service.store.session import Database
from service.store.tables import Job, JobLabel, Removal
from tests.service.store.stored import submit

OWNERS = 3


def crowd(database: Database, n_queued: int, n_ended: int) -> None:
    """So many jobs, of three owners, two priorities and two needs; the ended ones are older.

    Some have deadlines and limits, some of those that ended a time to live, all a label, and few of them a rare one.
    """
    model = submit(database)
    with database.transaction() as session:
        whole = session.get_one(Job, model)
        row = {column.name: getattr(whole, column.name) for column in Job.__table__.columns}
        rows = [row | _one(number, n_queued, n_queued + n_ended) for number in range(n_queued + n_ended)]
        session.execute(insert(Job), rows)
        session.execute(insert(JobLabel), [label for row in rows for label in _labels(row)])
        gone = [{"path": f"done-{number}", "asked_at": 1.0, "done_at": 9e9} for number in range(n_ended)]
        if gone:
            session.execute(insert(Removal), gone)
    if not database.is_sqlite:
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))


def disperse(database: Database) -> None:
    with database.transaction() as session:
        session.execute(text("DELETE FROM events"))
        session.execute(delete(Removal))
        session.execute(delete(Job))


def _one(number: int, n_queued: int, n_jobs: int) -> dict[str, Any]:
    ended = {"state": "failed" if number >= n_jobs - 5 else "succeeded", "finished_at": 1.0, "expires_at": 9e9, "deadline": 1.0}
    ended |= {"reason": "diverged"} if ended["state"] == "failed" else {}
    waits = {"bell_rung_at": 1.0, "deadline": 9e9 if number % 2 else None, "max_seconds": 1e6 if number % 5 == 0 else None}
    return {
        "id": f"job-{number}",
        "owner": f"owner-{number % OWNERS}",
        "priority": number % 2,
        "gpus": number % 2,
        "created_at": float(n_jobs + number if number < n_queued else number),
        **(waits if number < n_queued else ended),
    }


def _labels(row: dict[str, Any]) -> list[dict[str, Any]]:
    of = {"job_id": row["id"], "owner": row["owner"], "created_at": row["created_at"]}
    rare = [of | {"name": "rare", "value": "yes"}] if row["state"] == "failed" else []
    return [of | {"name": "all", "value": "yes"}, *rare]


def effort(database: Database, verb: Callable[[], object]) -> float:
    """What the database stepped through on SQLite, and on PostgreSQL the blocks that it looked at, of tables and indexes."""
    with (_steps if database.is_sqlite else _blocks)(database) as counted:
        verb()
    return sum(counted)


@contextmanager
def _steps(database: Database) -> Iterator[list[float]]:
    counted = [0.0]

    def step() -> None:
        counted[0] += 1

    def count(connection: Any, *_: Any) -> None:
        connection.connection.driver_connection.set_progress_handler(step, 1)

    engines = (database.engine, database._reading_engine)
    for engine in engines:
        event.listen(engine, "before_cursor_execute", count)
    yield counted
    for engine in engines:
        event.remove(engine, "before_cursor_execute", count)
        with engine.connect() as connection:
            connection.connection.driver_connection.set_progress_handler(None, 1)  # type: ignore[union-attr]


@contextmanager
def _blocks(database: Database) -> Iterator[list[float]]:
    counted: list[float] = []

    def explain(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool) -> None:
        """Before each statement the same, explained, and taken back."""
        if executemany or not statement.lstrip().upper().startswith(("SELECT", "UPDATE", "DELETE", "WITH")):
            return
        with connection.connection.driver_connection.cursor() as beside:
            beside.execute("SAVEPOINT counted")
            beside.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters)
            plan = beside.fetchone()[0][0]["Plan"]
            beside.execute("ROLLBACK TO SAVEPOINT counted")
        counted.append(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])

    event.listen(database.engine, "before_cursor_execute", explain)
    yield counted
    event.remove(database.engine, "before_cursor_execute", explain)
