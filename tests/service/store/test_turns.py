"""Workers of one queue look and claim one after another, and no claim depends on it."""

import threading
import time
from collections import Counter

import pytest
from sqlalchemy import text

from service.store import leases, scheduling, turns
from service.store.scheduling import Placement
from service.store.session import Database
from service.store.workers import Identity
from tests.service.store.staffed import assert_slots_add_up, enter, want
from tests.service.store.stored import job_of
from tests.service.store.threads import at_once

only_postgresql = pytest.mark.parametrize("database", ["postgresql"], indirect=True)  # there are none on SQLite

QUEUES, FOR_EVER = ("default",), 1e6


def test_workers_that_come_at_once_never_take_the_same_job_or_the_same_slot(database: Database) -> None:
    placed = placed_at_once(database)
    assert len({one.held.job_id for one in placed}) == len(placed) > 0
    with database.reading() as session:
        assert_slots_add_up(session)


@only_postgresql
def test_workers_that_come_at_once_each_take_the_next_in_line_and_none_looks_in_vain(database: Database) -> None:
    """All of the first owner's are older: a look that did not see what others had just begun would take them."""
    begun = [job_of(database, one.held.job_id) for one in placed_at_once(database)]
    assert Counter(job.owner for job in begun) == {"ann": 2, "bob": 2, "cy": 2}
    assert sorted(job.created_at for job in begun) == [0, 1, 4, 5, 8, 9]


def placed_at_once(database: Database, n_workers: int = 6) -> list[Placement]:
    for position, owner in enumerate(["ann"] * 4 + ["bob"] * 4 + ["cy"] * 4):
        want(database, owner=owner, created_at=float(position))
    them = [enter(database, f"worker-{number}") for number in range(n_workers)]
    looked = at_once(*[lambda me=me: in_turn(database, me) for me in them])
    assert [one for one in looked if isinstance(one, Exception)] == []
    return [one for one in looked if isinstance(one, Placement)]


def in_turn(database: Database, me: Identity) -> Placement | None:
    """As a worker does it: a look, and a claim of what was found."""
    with turns.turn(database, QUEUES, FOR_EVER):
        with database.reading() as session:
            job_id = scheduling.best(session, me)
        assert job_id is not None
        with database.transaction() as session:
            return scheduling.claim(session, me, 60, job_id)


@only_postgresql
def test_who_comes_while_another_has_its_turn_waits_for_its_end(database: Database) -> None:
    order: list[str] = []

    def come_second() -> None:
        with turns.turn(database, QUEUES, FOR_EVER):
            order.append("second")

    second = threading.Thread(target=come_second, daemon=True)
    with turns.turn(database, QUEUES):
        second.start()
        until_somebody_waits(database)
        with database.engine.connect() as connection:
            assert len(turns._holders(connection, QUEUES)) == 1
        order.append("first")
    second.join(120)
    assert order == ["first", "second"]


@only_postgresql
def test_a_turn_of_another_queue_is_not_waited_for(database: Database) -> None:
    with turns.turn(database, QUEUES), turns.turn(database, ["other"], FOR_EVER):
        assert locks(database) == {"held": 2, "waited for": 0}


@only_postgresql
def test_workers_that_share_queues_never_wait_for_one_another_in_a_circle(database: Database) -> None:
    def take_often(queues: list[str]) -> int:
        return sum(in_turn_of(database, queues) for _ in range(25))

    assert at_once(*[lambda queues=queues: take_often(queues) for queues in [["a", "b"], ["b", "a"]] * 3]) == [25] * 6


def in_turn_of(database: Database, queues: list[str]) -> int:
    with turns.turn(database, queues, FOR_EVER):
        return 1


@only_postgresql
def test_who_has_waited_for_long_enough_goes_without_a_turn(database: Database) -> None:
    job_id, me = want(database), enter(database)
    with turns.turn(database, QUEUES), turns.turn(database, QUEUES, patience_seconds=0.05):
        assert locks(database) == {"held": 1, "waited for": 0}
        with database.transaction() as session:
            placed = scheduling.claim(session, me, 60, job_id)
    assert placed is not None
    assert locks(database) == {"held": 0, "waited for": 0}


@only_postgresql
def test_who_waits_in_a_line_that_moves_goes_on_waiting(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [set(), {1}, {2}, set(), set(), {3}, {3}]
    looks = iter(found)
    monkeypatch.setattr(turns, "_holders", lambda *_: next(looks))
    with turns.turn(database, QUEUES), turns.turn(database, QUEUES, patience_seconds=0.01):
        assert list(looks) == []  # it went without a turn when the same had it twice, and not before


@only_postgresql
def test_who_has_a_turn_is_found(database: Database) -> None:
    with database.engine.connect() as other, turns.turn(database, QUEUES), turns.turn(database, ["a", "b"]):
        assert len(turns._holders(other, QUEUES)) == 1
        assert turns._holders(other, ["a", "b"]) == turns._holders(other, ["a"]) != turns._holders(other, QUEUES)
        assert turns._holders(other, ["c"]) == set()


@only_postgresql
def test_what_was_done_in_a_turn_stands_though_its_connection_was_ended(database: Database) -> None:
    """As the server does with one that was stopped for long in the midst of it."""
    job_id, me = want(database), enter(database)
    with turns.turn(database, QUEUES), database.transaction() as session:
        session.execute(text("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"))
        placed = scheduling.claim(session, me, 60, job_id)
    assert placed is not None
    with database.transaction() as session:
        leases.succeed(session, placed.held)


@only_postgresql
def test_a_turn_ends_with_what_was_done_in_it_though_that_failed(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), turns.turn(database, QUEUES):
        raise ZeroDivisionError
    assert locks(database) == {"held": 0, "waited for": 0}


def until_somebody_waits(database: Database) -> None:
    deadline = time.monotonic() + 60
    while locks(database)["waited for"] == 0:
        assert time.monotonic() < deadline, "Nobody waits for the turn."
        time.sleep(0.01)


def locks(database: Database) -> dict[str, int]:
    """How many turns there are, of this database."""
    of_turns = "SELECT granted FROM pg_locks JOIN pg_database d ON d.oid = database WHERE locktype = 'advisory'"
    with database.engine.connect() as connection:
        granted = connection.scalars(text(f"{of_turns} AND d.datname = current_database()")).all()
    return {"held": sum(granted), "waited for": len(granted) - sum(granted)}
