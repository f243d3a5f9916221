"""Who was refused what: one row for all that are alike on a day, and an end to the rows."""

from collections.abc import Mapping

import pytest
from sqlalchemy import func, select, update

from service.store import refusals
from service.store.refusals import DAY_SECONDS, KEPT_DAYS, Refused, Times
from service.store.session import Database
from service.store.tables import RefusedEntry
from tests.service.store.threads import at_once

ONE = Refused("ann", "key-a", "cancel_job", "203.0.113.9", 404, "not_found")


def note(database: Database, refused: Mapping[Refused, Times]) -> None:
    with database.transaction() as session:
        refusals.note(session, refused)


def rows(database: Database, **asked: object) -> list[tuple[object, ...]]:
    with database.reading() as session:
        found, _ = refusals.page(session, 100, **asked)  # type: ignore[arg-type]
    return [(row.owner, row.client, row.times, row.subject, row.request_id) for row in found]


def from_many(n: int, owner: str = "") -> dict[Refused, Times]:
    return {Refused(owner, "", "create_job", f"2001:db8::{i:x}", 401, "unauthorized"): Times(1, "", f"r{i}") for i in range(n)}


def test_what_is_alike_is_one_row_that_tells_of_the_last(database: Database) -> None:
    note(database, {ONE: Times(3, "job-1", "req-1")})
    note(database, {ONE: Times(2, "job-2", "req-2"), Refused("bob", "key-b", *list(vars(ONE).values())[2:]): Times(1, "x", "y")})
    assert sorted(rows(database)) == [("ann", "203.0.113.9", 5, "job-2", "req-2"), ("bob", "203.0.113.9", 1, "x", "y")]
    assert rows(database, owner="bob") == [("bob", "203.0.113.9", 1, "x", "y")]


def test_one_who_waited_while_a_later_one_wrote_is_counted_and_hides_nothing_of_it(database: Database) -> None:
    note(database, {ONE: Times(1, "job-2", "req-2")})
    with database.transaction() as session:
        session.execute(update(RefusedEntry).values(first_at=RefusedEntry.first_at + 100, last_at=RefusedEntry.last_at + 100))
    note(database, {ONE: Times(3, "job-1", "req-1")})
    assert rows(database) == [("ann", "203.0.113.9", 4, "job-2", "req-2")]
    with database.reading() as session:
        first, last = session.execute(select(RefusedEntry.first_at, RefusedEntry.last_at)).one()
    assert 50 < last - first <= 100


def test_another_day_has_rows_of_its_own_and_old_days_go(database: Database) -> None:
    note(database, {ONE: Times(1, "job-1", "req-1")})
    with database.transaction() as session:
        session.execute(update(RefusedEntry).values(day=RefusedEntry.day - KEPT_DAYS))
    note(database, {ONE: Times(1, "job-1", "req-2")})
    with database.transaction() as session:
        refusals.forget(session)
    assert len(rows(database)) == 2
    with database.transaction() as session:
        session.execute(update(RefusedEntry).values(day=RefusedEntry.day - 1))
        refusals.forget(session)
    assert [row[-1] for row in rows(database)] == ["req-2"]


def test_however_many_addresses_ask_there_are_no_more_rows_than_a_day_has(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "MOST_ROWS", 9)
    for _ in range(3):
        note(database, from_many(8))
    note(database, {ONE: Times(2, "job-1", "req-1")})
    found = rows(database)
    assert len(found) == 8 + 2
    assert sum(row[2] for row in found) == 3 * 8 + 2  # type: ignore[misc]
    assert [row for row in found if row[1] == ""] == [("ann", "", 2, "job-1", "req-1"), ("", "", 16, "", "r7")]


def test_pages_follow_each_other(database: Database) -> None:
    note(database, from_many(5))
    with database.reading() as session:
        first, has_more = refusals.page(session, 3)
        rest, has_none = refusals.page(session, 3, after=first[-1].id)
    assert (len(first), has_more, len(rest), has_none) == (3, True, 2, False)
    assert not {row.id for row in first} & {row.id for row in rest}


def test_processes_that_write_at_once_lose_nothing(database: Database) -> None:
    refused = from_many(20)
    assert not [given for given in at_once(*[lambda: note(database, refused)] * 4) if isinstance(given, Exception)]
    with database.reading() as session:
        assert session.scalar(select(func.sum(RefusedEntry.times))) == 80
        first, last = session.execute(select(func.min(RefusedEntry.first_at), func.max(RefusedEntry.last_at))).one()
        assert set(session.scalars(select(RefusedEntry.day))) == {int(at // DAY_SECONDS) for at in (first, last)}
    assert first <= last
