"""Counts that never fall: raised in the commit of what they count, folded, and left by whatever is cleaned up."""

import pytest
from sqlalchemy import func, select, update

from service.specs.reasons import Reason
from service.store import counters, leases, wishes
from service.store.clock import now
from service.store.counters import WORTH_FOLDING, Counts, Tally
from service.store.errors import LeaseLost
from service.store.session import Database
from service.store.tables import Count, Job
from tests.service.store.stored import cancel, expire, hold, submit, take
from tests.service.store.threads import at_once

WAITS = ("jobs_begun", "seconds_waited")


def counted(database: Database) -> dict[str, Counts]:
    with database.reading() as session:
        return {what: counts for what, counts in counters.totals(session).items() if counts}


def totals(database: Database) -> dict[str, Counts]:
    """Of what ended."""
    return {what: counts for what, counts in counted(database).items() if what not in WAITS}


def add(database: Database, times: int, label: str = "lost") -> None:
    with database.transaction() as session:
        for _ in range(times):
            counters.add(session, Tally.ATTEMPTS_ENDED, label)


def fold(database: Database) -> int:
    """The rows that are left."""
    with database.transaction() as session:
        counters.fold(session)
        return session.scalar(select(func.count()).select_from(Count)) or 0


def test_what_waits_and_runs_is_not_counted_but_what_it_waited_is(database: Database) -> None:
    submit(database, created_at=1.0e9)
    with database.transaction() as session:
        session.execute(update(Job).values(created_at=now() - 90))
    held = take(database)
    assert held is not None
    submit(database)
    found = counted(database)
    assert 90 <= found["seconds_waited"]["default", ""] < 120
    expire(database, held)
    with database.transaction() as session:
        leases.rescue(session)
    assert take(database) is not None  # a second attempt waited for nothing
    again = counted(database)
    assert {what: again[what] for what in WAITS} == {what: found[what] for what in WAITS}
    assert found["jobs_begun"] == {("default", ""): 1}
    assert not totals(database).keys() - {"attempts_ended", "leases_lost"}


def test_each_end_of_a_job_and_of_an_attempt_is_counted_by_how_it_came(database: Database) -> None:
    done, failed = hold(database), hold(database)
    with database.transaction() as session:
        leases.succeed(session, done)
        leases.fail(session, failed, Reason.BAD_ROW, "Bad.")
    cancel(database, submit(database))
    given_back = hold(database)
    with database.transaction() as session:
        leases.give_back(session, given_back, "It stops.")
    assert totals(database) == {
        "jobs_ended": {("succeeded", ""): 1, ("failed", "bad_row"): 1, ("cancelled", ""): 1},
        "attempts_ended": {("succeeded", ""): 1, ("failed", ""): 1, ("released", ""): 1},
    }


def test_a_job_that_is_forgotten_and_one_that_is_tried_again_stay_counted(database: Database) -> None:
    first = cancel(database, submit(database)).id
    with database.transaction() as session:
        wishes.retry(session, "ann", first)
    cancel(database, first)
    with database.transaction() as session:
        wishes.delete(session, "ann", first)
    assert totals(database) == {"jobs_ended": {("cancelled", ""): 2}}


def test_a_lease_that_ran_out_is_counted_and_a_training_process_that_was_killed_is_none(database: Database) -> None:
    lost = hold(database)
    expire(database, lost)
    with database.transaction() as session:
        leases.rescue(session)
        killed = leases.claim(session, ["default"], "worker-2", 60)
        assert killed is not None
        leases.lose(session, killed, Reason.KILLED, "Killed.")
    assert totals(database) == {"attempts_ended": {("lost", ""): 2}, "leases_lost": {("", ""): 1}}


def test_a_lease_that_a_job_loses_which_is_to_be_cancelled_is_counted_too(database: Database) -> None:
    held = hold(database)
    cancel(database, held.job_id)
    expire(database, held)
    with database.transaction() as session:
        leases.rescue(session)
    assert totals(database)["leases_lost"] == {("", ""): 1}


def test_what_is_rolled_back_is_not_counted(database: Database) -> None:
    held = hold(database)
    expire(database, held)
    with database.transaction() as session:
        leases.rescue(session)
    take(database, "worker-2")
    before = totals(database)

    def write() -> None:
        with database.transaction() as session:
            counters.add(session, Tally.WRITES_FENCED)
            leases.succeed(session, held)

    with pytest.raises(LeaseLost):
        write()
    assert totals(database) == before


def test_many_rows_are_folded_into_few_and_the_sums_stay(database: Database) -> None:
    add(database, WORTH_FOLDING, "lost")
    add(database, 7, "failed")
    before = totals(database)
    assert fold(database) == 2
    assert totals(database) == before == {"attempts_ended": {("lost", ""): WORTH_FOLDING, ("failed", ""): 7}}
    assert fold(database) == 2


def test_a_few_rows_are_left_as_they_are(database: Database) -> None:
    add(database, WORTH_FOLDING - 1)
    assert fold(database) == WORTH_FOLDING - 1


def test_sweeps_at_once_beside_those_that_count_lose_nothing_and_double_nothing(database: Database) -> None:
    add(database, 2 * WORTH_FOLDING)
    work = [lambda: fold(database)] * 3 + [lambda: add(database, 20)] * 3
    assert not [given for given in at_once(*work) if isinstance(given, Exception)]
    assert totals(database) == {"attempts_ended": {("lost", ""): 2 * WORTH_FOLDING + 60}}
