from typing import Any, cast

import pytest
from sqlalchemy import Table, select
from sqlalchemy.exc import IntegrityError

from service.store.bulk import insert_all
from service.store.session import Database
from service.store.tables import Event
from tests.service.store.stored import submit

EVENTS = cast(Table, Event.__table__)


def rows_of(job_id: str, n: int, **values: Any) -> list[dict[str, Any]]:
    return [{"job_id": job_id, "number": 10 + n, "kind": "notice", "message": f"{n}", "data": {}, **values} for n in range(n)]


def written(database: Database, job_id: str) -> list[Event]:
    with database.reading() as session:
        return list(session.scalars(select(Event).where(Event.job_id == job_id, Event.number >= 10).order_by(Event.number)))


def test_values_come_back_as_they_went_in(database: Database) -> None:
    message = 'A "quote", a \\, a line\nbreak, ü, 𝔹 and \t.'
    data = {"empty": None, "list": [1, 2.5, True, "x"], "deep": {"é": {}}, "large": 2**53 - 1, "small": 1e-300}
    job_id = submit(database)
    with database.transaction() as session:
        insert_all(session, EVENTS, rows_of(job_id, 2, message=message, data=data), at=0.1 + 0.2, attempt=7)
    for event in written(database, job_id):
        assert (event.message, event.data, event.at, event.attempt) == (message, data, 0.1 + 0.2, 7)


def test_a_thousand_rows_are_one_statement_and_no_rows_are_none(database: Database) -> None:
    job_id = submit(database)
    with database.transaction() as session:
        insert_all(session, EVENTS, rows_of(job_id, 1000), at=1.0, attempt=0)
        insert_all(session, EVENTS, [])
    assert [event.message for event in written(database, job_id)] == [f"{n}" for n in range(1000)]


def test_what_breaks_a_rule_of_the_table_writes_nothing(database: Database) -> None:
    job_id = submit(database)
    rows = rows_of(job_id, 3)
    rows[2] |= {"number": 10}
    with pytest.raises(IntegrityError), database.transaction() as session:
        insert_all(session, EVENTS, rows, at=1.0, attempt=0)
    assert written(database, job_id) == []


def test_a_missing_value_is_null(database: Database) -> None:
    job_id = submit(database)
    with pytest.raises(IntegrityError), database.transaction() as session:
        insert_all(session, EVENTS, rows_of(job_id, 1, message=None), at=1.0, attempt=0)
