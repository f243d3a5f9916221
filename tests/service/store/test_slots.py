from collections.abc import Callable

import pytest
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from service.specs.reasons import Reason
from service.store import leases, scheduling, slots
from service.store.leases import Claim
from service.store.session import Database
from service.store.tables import Slot
from tests.service.store.staffed import assert_slots_add_up, enter, place, place_all, used, want
from tests.service.store.stored import break_off, cancel, expire, job_of
from tests.service.store.threads import at_once


def test_a_job_takes_a_gpu_where_there_is_one_and_a_cpu_slot_where_there_is_none(database: Database) -> None:
    with_gpus, without = enter(database, "with", gpus=1, cpus=1), enter(database, "without", cpus=1)
    want(database)
    want(database)
    first, second = place_all(database, with_gpus, without)
    assert first.devices == ("GPU-with-0",)
    assert second.devices == ()
    assert (used(database, "with"), used(database, "without")) == ([1000, 0], [1000])
    want(database, gpus=0)
    third = place(database, with_gpus)
    assert third is not None
    assert third.devices == ()


def test_several_gpus_come_from_one_worker_all_or_none(database: Database) -> None:
    two, three = enter(database, "two", gpus=2), enter(database, "three", gpus=3)
    job_id = want(database, gpus=3)
    assert place(database, two) is None
    placed = place(database, three)
    assert placed is not None
    assert placed.held.job_id == job_id
    assert placed.devices == ("GPU-three-0", "GPU-three-1", "GPU-three-2")
    assert (used(database, "two"), used(database, "three")) == ([0, 0, 0], [1000, 1000, 1000, 0])


def test_a_slot_has_one_job_unless_jobs_may_share_it(database: Database) -> None:
    alone, sharing = enter(database, "alone", gpus=1, cpus=0), enter(database, "sharing", gpus=1, cpus=0, sharing=True)
    for _ in range(5):
        want(database, permille=400)
    assert [placed.fraction for placed in place_all(database, alone)] == [1.0]
    assert [placed.fraction for placed in place_all(database, sharing)] == [0.4, 0.4]
    assert used(database, "sharing") == [800]


def test_parts_go_together_so_that_a_whole_gpu_stays_free(database: Database) -> None:
    me = enter(database, gpus=2, cpus=0, sharing=True)
    want(database, permille=500)
    want(database, permille=500)
    place_all(database, me)
    assert used(database) == [1000, 0]


def test_a_gpu_with_less_memory_than_the_job_must_have_is_passed_over(database: Database) -> None:
    small, large = enter(database, "small", gpus=1, gb=24, cpus=0), enter(database, "large", gpus=1, gb=80, cpus=0)
    job_id = want(database, gpu_gb=40)
    assert place(database, small) is None
    placed = place(database, large)
    assert placed is not None
    assert placed.held.job_id == job_id


def succeed(session: Session, held: Claim) -> None:
    leases.succeed(session, held)


ENDS: dict[str, Callable[[Session, Claim], object]] = {
    "success": succeed,
    "failure": lambda session, held: leases.fail(session, held, Reason.KILLED, "Killed."),
    "given back": lambda session, held: leases.give_back(session, held, "Draining."),
    "lost": lambda session, held: leases.lose(session, held, Reason.KILLED, "Killed."),
}


@pytest.mark.parametrize("end", ENDS)
def test_slots_are_free_once_the_attempt_has_ended_whichever_way(database: Database, end: str) -> None:
    me = enter(database, gpus=3)
    want(database, gpus=2)
    placed = place(database, me)
    assert placed is not None
    assert used(database) == [1000, 1000, 0, 0]
    with database.transaction() as session:
        ENDS[end](session, placed.held)
        assert_slots_add_up(session)
    assert used(database) == [0, 0, 0, 0]


def test_slots_are_free_once_the_job_is_rescued_or_cancelled(database: Database) -> None:
    me = enter(database, gpus=1)
    job_id = want(database)
    placed = place(database, me)
    assert placed is not None
    expire(database, placed.held)
    with database.transaction() as session:
        leases.rescue(session)
    assert used(database) == [0, 0]
    again = place(database, me)
    assert again is not None
    cancel(database, job_id)
    with database.transaction() as session:
        leases.give_back(session, again.held, "Cancelled.")
    assert used(database) == [0, 0]
    assert job_of(database, job_id).state == "cancelled"


def test_an_end_that_is_rolled_back_frees_nothing(database: Database) -> None:
    me = enter(database)
    want(database)
    placed = place(database, me)
    assert placed is not None
    break_off(database, lambda session: leases.succeed(session, placed.held))
    assert used(database) == [1000]


def test_the_database_itself_refuses_more_than_a_slot_has(database: Database) -> None:
    enter(database, gpus=1, cpus=0)
    first, second = want(database), want(database)
    with database.transaction() as session:
        slots.take(session, first, slots.of_worker(session, "one"), 600)
    with pytest.raises(IntegrityError, match="never_more_than_all"), database.transaction() as session:
        slots.take(session, second, slots.of_worker(session, "one"), 600)
    with pytest.raises(IntegrityError, match="never_more_than_all"), database.transaction() as session:
        session.execute(update(Slot).values(used_permille=-1))
    assert used(database) == [600]


def test_threads_of_one_worker_that_claim_and_end_at_once_never_take_more_than_there_is(database: Database) -> None:
    me = enter(database, gpus=4, cpus=0)
    submitted = {want(database, gpus=number % 3 + 1) for number in range(18)}
    done: list[str] = []

    def work() -> None:
        while placed := place(database, me):
            with database.transaction() as session:
                assert_slots_add_up(session)
                leases.succeed(session, placed.held)
            done.append(placed.held.job_id)

    assert at_once(*[work] * 4) == [None] * 4
    while placed := place(database, me):  # what a look saw that came just before an end
        with database.transaction() as session:
            leases.succeed(session, placed.held)
        done.append(placed.held.job_id)
    assert sorted(done) == sorted(submitted)
    assert used(database) == [0, 0, 0, 0]


def test_a_claim_that_loses_the_race_for_the_slots_takes_nothing(database: Database) -> None:
    """Two looks saw the same free slot; the second claim finds it taken."""
    me = enter(database, gpus=1, cpus=0)
    first, second = want(database), want(database)
    with database.transaction() as session:
        assert scheduling.claim(session, me, 60, first) is not None
    with database.transaction() as session:
        assert scheduling.claim(session, me, 60, second) is None
    assert job_of(database, second).state == "queued"
