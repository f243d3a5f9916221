import pytest

from service.store import place
from service.store.place import Place
from service.store.session import Database
from tests.service.store.crowds import crowd
from tests.service.store.staffed import enter, place_all, reserve, want
from tests.service.store.stored import cancel, renew, submit


def place_of(database: Database, job_id: str) -> Place | None:
    with database.reading() as session:
        return place.of_job(session, job_id)


def position(database: Database, job_id: str) -> int | None:
    found = place_of(database, job_id)
    return found.position if found else None


def start(database: Database, job_id: str) -> float:
    found = place_of(database, job_id)
    assert found is not None
    assert found.starts_at is not None, found.why_unknown
    return found.starts_at


def test_the_position_is_that_of_the_claims_own_order(database: Database) -> None:
    me = enter(database, cpus=1)
    running = submit(database, "ann", created_at=0, priority=9)
    place_all(database, me)
    anns_old, anns_new = submit(database, "ann", created_at=1), submit(database, "ann", created_at=2)
    bobs = submit(database, "bob", created_at=3)
    urgent = want(database, 0, owner="ann", priority=1, created_at=4.0)
    other_queue = submit(database, queue="other")
    assert [position(database, job_id) for job_id in (urgent, bobs, anns_old, anns_new)] == [1, 2, 3, 4]
    assert position(database, other_queue) == 1
    assert place_of(database, running) is None
    cancel(database, urgent)
    assert place_of(database, urgent) is None
    assert position(database, anns_new) == 3


def test_the_start_is_when_enough_slots_are_free(database: Database) -> None:
    me = enter(database, cpus=2)
    for age in range(2):
        submit(database, created_at=age)
    first, second, third = (submit(database, created_at=age) for age in range(2, 5))
    early, late = place_all(database, me)
    assert place_of(database, first) == Place(1, None, "The jobs that run do not say yet when they end.")
    renew(database, early.held, {"position": 1, "steps": 1, "eta_seconds": 100})
    renew(database, late.held, {"position": 2, "steps": 2, "eta_seconds": 500})
    assert [position(database, job_id) for job_id in (first, second, third)] == [1, 2, 3]
    assert 350 < start(database, second) - start(database, first) < 450
    assert place_of(database, third) == Place(3, None, "How long the jobs before it take is known only when they run.")


def test_of_jobs_of_one_moment_each_has_a_place_of_its_own(database: Database) -> None:
    alike = sorted(submit(database, created_at=7) for _ in range(3))
    assert [position(database, job_id) for job_id in alike] == [1, 2, 3]


def test_a_job_that_no_worker_could_begin_now_says_so(database: Database) -> None:
    enter(database, gpus=1, cpus=1)
    assert place_of(database, want(database, 2)) == Place(1, None, "No worker that is there now could begin it.")


def test_a_free_slot_means_now_and_several_gpus_must_be_free_at_one_worker(database: Database) -> None:
    me = enter(database, gpus=2, cpus=0)
    want(database, 1)
    (placed,) = place_all(database, me)
    renew(database, placed.held, {"position": 1, "steps": 1, "eta_seconds": 1000})
    both = want(database, 2)
    when_both_are_free = start(database, both)
    small = want(database, 1, priority=1)
    assert 900 < when_both_are_free - start(database, small) < 1100
    assert place_of(database, both) == Place(2, None, "Several GPUs must come free at once, and jobs are before it.")


def test_the_rest_of_a_shared_gpu_is_free_now_and_more_of_it_when_a_part_is(database: Database) -> None:
    me = enter(database, gpus=1, cpus=0, sharing=True)
    for _ in range(2):
        want(database, 1, permille=350)
    early, late = place_all(database, me)
    renew(database, early.held, {"position": 1, "steps": 1, "eta_seconds": 1000})
    renew(database, late.held, {"position": 1, "steps": 1, "eta_seconds": 5000})
    small = want(database, 1, permille=300, priority=2)
    at_once = start(database, small)
    half = want(database, 1, permille=500, priority=1)
    assert position(database, half) == 2
    cancel(database, small)
    assert 900 < start(database, half) - at_once < 1100, "once the first of the two parts is free beside what is free now"
    cancel(database, half)
    assert 4900 < start(database, want(database, 1)) - at_once < 5100


def test_a_worker_that_is_kept_for_another_is_no_place_to_begin_soon(database: Database) -> None:
    me = enter(database, gpus=2, cpus=1)
    want(database, 1)
    place_all(database, me)
    both = want(database, 2)
    assert reserve(database) == (both, "one")
    small, urgent, on_cpu = want(database, 1), want(database, 1, priority=1), want(database, 0)
    told = place_of(database, small)
    assert told is not None
    assert (told.starts_at, told.why_unknown) == (
        None,
        "The workers that could begin it are kept free for jobs that need several GPUs, or a whole one.",
    )
    assert start(database, urgent) > 0, "a reservation keeps nothing from a higher priority"
    assert position(database, on_cpu) == 4


def test_beyond_a_thousand_nobody_counts(database: Database) -> None:
    crowd(database, n_queued=2500, n_ended=0)
    last = want(database, 0, owner="zoe", priority=-1, created_at=9e9)
    assert place_of(database, last) == Place(None, None, "More than 1,000 jobs are before it.")


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("by_age", [False, True])
def test_those_before_a_job_are_counted_without_a_look_at_their_rows(database: Database, by_age: bool) -> None:
    counting = place._alike(by_age).compile(database.engine)
    values = tuple(counting.params[name] for name in counting.positiontup or ())
    with database.engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {counting}", values).all()
    assert any("USING COVERING INDEX ix_jobs_waiting" in row.detail for row in plan), plan
