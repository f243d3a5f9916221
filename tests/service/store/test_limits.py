"""The time that a job has, by the database's clock."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import select

from service.specs.refusals import SpecRefused
from service.specs.resources import moment
from service.store import leases, limits
from service.store.clock import now
from service.store.leases import Wish
from service.store.session import Database
from service.store.states import State
from tests.service.store.clocks import lever
from tests.service.store.stored import a_read_job, attempts_of, expire, hold, job_of, kinds_of, renew, rescue, submit, take, wish


def in_seconds(database: Database, seconds: float) -> str:
    with database.reading() as session:
        at = float(session.execute(select(now())).scalar_one())
    return datetime.fromtimestamp(at + seconds, UTC).isoformat()


def end_late(database: Database) -> list[str]:
    with database.transaction() as session:
        return limits.end_late(session)


def give_back(database: Database, held: leases.Claim) -> State:
    with database.transaction() as session:
        return leases.give_back(session, held, "Stopped at a checkpoint.")


def test_a_job_runs_for_so_long_over_all_its_attempts(database: Database) -> None:
    let_pass = lever(database)
    first = hold(database, max_seconds=100)
    let_pass(60)
    assert renew(database, first) is None
    assert give_back(database, first) is State.QUEUED
    let_pass(1000)  # to wait is not to run
    second = take(database)
    assert second is not None
    let_pass(39)
    assert renew(database, second) is None
    let_pass(2)
    assert renew(database, second) is Wish.LIMIT
    assert give_back(database, second) is State.FAILED
    job = job_of(database, first.job_id)
    assert (job.reason, job.sentence) == ("too_long", "It ran for the 100 seconds that max_seconds allows.")
    assert job.ran_seconds == pytest.approx(101, abs=5)
    assert attempts_of(database, first.job_id) == [(1, "released"), (2, "failed")]


def test_a_retry_has_all_its_time_again(database: Database) -> None:
    let_pass = lever(database)
    held = hold(database, max_seconds=100)
    let_pass(101)
    give_back(database, held)
    wish(database, "retry", held.job_id)
    again = take(database)
    assert again is not None
    let_pass(50)
    assert renew(database, again) is None


def test_a_job_whose_deadline_comes_ends_wherever_it_is(database: Database) -> None:
    let_pass = lever(database)
    deadline = in_seconds(database, 100)
    running, paused = hold(database, deadline=deadline), submit(database, deadline=deadline)
    wish(database, "pause", paused)
    waiting, unlimited = submit(database, deadline=deadline), submit(database)
    assert end_late(database) == []
    let_pass(101)
    held = take(database)
    assert held is not None
    assert held.job_id == unlimited, "one that is late does not begin"
    assert sorted(end_late(database)) == sorted([paused, waiting])
    for job_id in (paused, waiting):
        job = job_of(database, job_id)
        assert (job.state, job.reason) == ("failed", "deadline_passed")
        assert kinds_of(database, job_id)[-1] == "failed"
    assert renew(database, running) is Wish.LIMIT
    assert give_back(database, running) is State.FAILED
    assert job_of(database, running.job_id).reason == "deadline_passed"
    assert end_late(database) == []


def test_a_late_job_whose_worker_was_lost_is_not_tried_again(database: Database) -> None:
    let_pass = lever(database)
    held = hold(database, max_seconds=100)
    let_pass(101)
    expire(database, held)
    assert [saved.state for saved in rescue(database)] == [State.FAILED]
    assert job_of(database, held.job_id).reason == "too_long"


def test_a_cancel_is_stronger_than_a_limit_and_a_limit_than_a_pause(database: Database) -> None:
    let_pass = lever(database)
    first, second = hold(database, max_seconds=100), hold(database, max_seconds=100)
    wish(database, "cancel", first.job_id)
    wish(database, "pause", second.job_id)
    let_pass(101)
    for held in (first, second):
        with database.transaction() as session:
            leases.renew(session, held, 60)
    assert renew(database, first) is Wish.CANCEL
    assert renew(database, second) is Wish.LIMIT
    assert give_back(database, first) is State.CANCELLED
    assert give_back(database, second) is State.FAILED


def test_work_that_is_done_when_its_time_is_over_is_done(database: Database) -> None:
    let_pass = lever(database)
    held = hold(database, max_seconds=100)
    let_pass(101)
    with database.transaction() as session:
        leases.succeed(session, held)
    assert job_of(database, held.job_id).state == "succeeded"


@pytest.mark.parametrize("text", ["2027-01-31", "2027-01-31T18:00:00", "soon", "2027-02-30T00:00:00Z", "2027-01-31T18:00Z", ""])
def test_a_deadline_is_a_moment(text: str) -> None:
    with pytest.raises(SpecRefused, match="/resources/deadline: Input should be a date and time with its offset"):
        a_read_job(resources={"deadline": text})


def test_a_moment_is_the_same_in_every_offset() -> None:
    assert moment("2027-01-31T18:00:00Z") == moment("2027-01-31t19:30:00.000+01:30") == 1801418400
