import pytest

from service.store import workers
from service.store.errors import NotFound, WorkerIsThere, WorkerReplaced
from service.store.session import Database
from service.store.tables import Slot, Worker
from service.store.workers import Identity, Orders, Reading, Status
from tests.service.store.staffed import GB, a_report, enter, place, silence, used
from tests.service.store.stored import attempts_of, job_of, submit
from tests.service.store.threads import at_once


def status_of(database: Database, name: str = "one") -> Status:
    with database.reading() as session:
        return workers.status(session, workers.get(session, name))


def beat(database: Database, me: Identity, readings: dict[int, Reading] | None = None) -> Orders:
    with database.transaction() as session:
        return workers.heartbeat(session, me, readings)


def test_a_worker_is_entered_as_it_reports_itself(database: Database) -> None:
    enter(database, gpus=1, cpus=1, queues=("a100", "default"))
    with database.reading() as session:
        worker = workers.get(session, "one")
        own = [session.get(Slot, ("one", position)) for position in range(2)]
    assert (worker.host, worker.pid, worker.software, worker.queues) == ("host-1", 4242, "0.1.0", ["a100", "default"])
    assert [(slot.gpu, slot.gpu_name, slot.memory_bytes, slot.used_permille) for slot in own if slot] == [
        ("GPU-one-0", "H100", 80 * GB, 0),
        (None, None, None, 0),
    ]
    assert status_of(database) == Status.UP


def test_a_second_worker_of_a_live_ones_name_is_refused_with_whose_it_is_and_what_to_set(database: Database) -> None:
    me = enter(database)
    with pytest.raises(WorkerIsThere, match=r"'one' already \(process 4242 on host-1\).*FINEBITS_WORKER_NAME"):
        enter(database, instance="2")
    assert beat(database, me) == Orders(draining=False, stop_jobs=False)


def test_two_that_start_at_once_under_one_name_are_one_and_a_refusal(database: Database) -> None:
    outcomes = at_once(*[lambda number=number: enter(database, instance=str(number)) for number in range(4)])
    assert len([outcome for outcome in outcomes if isinstance(outcome, Identity)]) == 1


def test_two_workers_do_not_own_one_gpu(database: Database) -> None:
    enter(database, gpus=1)
    report = a_report("two", slots=a_report("one", gpus=1).slots)
    with database.transaction() as session, pytest.raises(WorkerIsThere, match=r"'one' .*owns a GPU.*FINEBITS_DEVICES"):
        workers.register(session, report)


def test_one_whose_earlier_self_is_dead_takes_over_its_name_its_gpus_and_its_jobs(database: Database) -> None:
    job_id = submit(database)
    before = enter(database, gpus=1)
    assert place(database, before) is not None
    with database.transaction() as session:
        workers.register(session, a_report(instance="2", gpus=1), is_dead=lambda rival: rival.instance == "1")
    assert used(database) == [0, 0]
    assert attempts_of(database, job_id) == [(1, "lost")]
    assert job_of(database, job_id).state == "queued"
    with pytest.raises(WorkerReplaced):
        beat(database, before)
    with pytest.raises(WorkerReplaced):
        place(database, before)


def test_gpus_of_a_dead_worker_of_another_name_are_taken_over(database: Database) -> None:
    enter(database, gpus=1)
    silence(database, "one")
    with database.transaction() as session:
        workers.register(session, a_report("two", slots=a_report("one", gpus=1).slots))
        assert [worker.name for worker in workers.known(session)] == ["two"]


def test_one_that_is_not_heard_of_within_its_lease_is_lost_until_it_is_heard_of(database: Database) -> None:
    me = enter(database, lease_seconds=60)
    silence(database, "one", 59)
    assert status_of(database) == Status.UP
    silence(database, "one", 61)
    assert status_of(database) == Status.LOST
    beat(database, me)
    assert status_of(database) == Status.UP


def test_one_that_leaves_has_stopped_and_its_next_self_needs_no_proof(database: Database) -> None:
    me = enter(database)
    with database.transaction() as session:
        workers.leave(session, me)
    assert status_of(database) == Status.STOPPED
    enter(database, instance="2")
    assert status_of(database) == Status.UP


def test_draining_is_kept_over_a_restart_and_stopping_jobs_is_not(database: Database) -> None:
    me = enter(database)
    with database.transaction() as session:
        workers.drain(session, "one", stop_jobs=True)
    assert beat(database, me) == Orders(draining=True, stop_jobs=True)
    assert status_of(database) == Status.DRAINING
    with database.transaction() as session:
        workers.leave(session, me)
    again = enter(database, instance="2")
    assert beat(database, again) == Orders(draining=True, stop_jobs=False)
    with database.transaction() as session:
        workers.undrain(session, "one")
    assert beat(database, again) == Orders(draining=False, stop_jobs=False)


def test_a_worker_that_nobody_knows_cannot_be_drained(database: Database) -> None:
    with database.transaction() as session, pytest.raises(NotFound, match="worker 'nobody'"):
        workers.drain(session, "nobody")


def test_readings_are_kept_and_a_gpu_that_another_process_uses_is_no_place_for_a_job(database: Database) -> None:
    me = enter(database, gpus=2, cpus=0)
    busy = Reading({"temperature_celsius": 60}, occupied="Process 9, which is no job of this worker, runs on it.")
    beat(database, me, {0: busy, 1: busy})
    job_id = submit(database)
    assert place(database, me) is None
    beat(database, me, {0: busy, 1: Reading({"temperature_celsius": 30})})
    placed = place(database, me)
    assert placed is not None
    assert placed.devices == ("GPU-one-1",)
    beat(database, me, {1: busy})  # the process is the job's own child now
    with database.reading() as session:
        slot = session.get(Slot, ("one", 1))
    assert slot is not None
    assert (slot.readings, slot.trouble) == ({"temperature_celsius": 60}, None)
    assert job_of(database, job_id).state == "running"


def test_long_gone_workers_are_forgotten_unless_they_hold_something(database: Database) -> None:
    submit(database)
    holder = enter(database, "holder")
    assert place(database, holder) is not None
    for name in ("old", "new"):
        enter(database, name)
    silence(database, "old", 8 * 24 * 3600)
    silence(database, "holder", 8 * 24 * 3600)
    with database.transaction() as session:
        assert workers.forget(session) == ["old"]
        assert {worker.name for worker in workers.known(session)} == {"holder", "new"}
        assert session.get(Slot, ("old", 0)) is None


def test_the_fence_of_the_name_is_the_instance(database: Database) -> None:
    enter(database)
    for stranger in (Identity("one", "2"), Identity("two", "1")):
        with pytest.raises(WorkerReplaced):
            beat(database, stranger)
    with database.reading() as session:
        assert session.get(Worker, "one") is not None
