"""Jobs through real workers: whatever is killed, paused, wiped or lost, every job ends properly and its curves are whole.

Two jobs with the same spec give the same curves, so each disturbed job is compared with one that was left in peace.
"""

import signal
import time
from collections.abc import Callable

import pytest

from service.store import counters, slots, workers
from tests.running import Running, job

pytestmark = pytest.mark.slow


ON_SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
# half a minute on each
EACH = pytest.mark.parametrize("database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.long)], indirect=True)


def whole(running: Running, job_id: str, undisturbed: str) -> None:
    """Every point of the curve and every measured checkpoint is there, and as it would have been."""
    assert running.series(job_id) == pytest.approx(running.series(undisturbed), rel=1e-6)
    assert running.cross_entropies(job_id) == pytest.approx(running.cross_entropies(undisturbed), rel=1e-6)
    assert sorted(running.cross_entropies(undisturbed)) == [-1, 10, 20, 30, 40, 50, 60]


def test_a_job_goes_its_whole_way_and_says_so(running: Running) -> None:
    running.start_worker()
    job_id = running.submit(job())
    ended = running.wait_for_end(job_id)
    assert (ended.state, ended.attempt, ended.lost) == ("succeeded", 1, 0)
    kinds = running.kinds(job_id)
    assert kinds[:5] == ["submitted", "started", "step_started", "data_loaded", "model_loaded"]
    assert kinds.count("checkpoint_saved") == 6
    assert kinds.count("measured") == 7
    assert kinds[-2:] == ["step_finished", "succeeded"]
    measured = running.cross_entropies(job_id)
    assert measured[60] < measured[-1]
    assert ended.progress["global_step"] == ended.progress["max_steps"] == 60


@ON_SQLITE
def test_killed_children_and_workers_and_a_wiped_broker_lose_nothing(running: Running) -> None:
    worker = running.start_worker()
    undisturbed = running.submit(job())
    running.wait_for_end(undisturbed)

    # the training process is killed: the worker lives, and tries again from the last checkpoint
    job_id = running.submit(job())
    running.wait_for_update(job_id, 11)
    running.children(worker)[0].kill()
    ended = running.wait_for_end(job_id)
    assert (ended.state, ended.attempt, ended.lost) == ("succeeded", 2, 1)
    assert "SIGKILL" in sentences(running, job_id)
    assert running.kinds(job_id).count("resumed") == 1
    whole(running, job_id, undisturbed)

    # the broker forgets everything, a bell among it: the sweep rings again
    job_id = running.submit(job(training={"max_steps": 5}), ring=False)
    running.wipe_broker()
    with running.database.transaction() as session:
        session.connection().exec_driver_sql("UPDATE jobs SET bell_rung_at = 0 WHERE state = 'queued'")
    assert running.wait_for_end(job_id).state == "succeeded"

    # the worker is killed: its child ends by itself, and the next worker takes the job when the lease has run out
    job_id = running.submit(job())
    running.wait_for_update(job_id, 11)
    (child,) = running.children(worker)
    worker.kill()
    running.wait_until_ended([child])
    running.forget_the_dead()
    running.start_worker()
    ended = running.wait_for_end(job_id)
    assert (ended.state, ended.attempt, ended.lost) == ("succeeded", 2, 1)
    assert "lease_lost" in running.kinds(job_id)
    whole(running, job_id, undisturbed)


@ON_SQLITE
def test_a_worker_told_to_stop_saves_and_gives_its_job_back_at_no_cost(running: Running) -> None:
    rarely_saved = job(training={"max_steps": 400, "save_steps": 1000})
    worker = running.start_worker()
    undisturbed = running.submit(rarely_saved)
    running.wait_for_end(undisturbed)
    job_id = running.submit(rarely_saved)
    running.wait_for_update(job_id, 15)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(120) == 0
    released = running.job(job_id)
    assert (released.state, released.lost) == ("queued", 0)
    assert running.kinds(job_id)[-2:] in (["checkpoint_saved", "released"], ["measured", "released"])
    assert 15 <= released.progress["global_step"] < 400
    running.start_worker()
    ended = running.wait_for_end(job_id)
    assert (ended.state, ended.attempt, ended.lost) == ("succeeded", 2, 0)
    assert running.series(job_id) == pytest.approx(running.series(undisturbed), rel=1e-6)
    assert running.cross_entropies(job_id)[400] == pytest.approx(running.cross_entropies(undisturbed)[400], rel=1e-6)


@EACH
def test_a_worker_that_was_paused_beyond_its_lease_can_write_nothing_any_more(running: Running) -> None:
    sleeper = running.start_worker(FINEBITS_LEASE_SECONDS="12")
    job_id = running.submit(job(training={"max_steps": 300, "save_steps": 100}))
    running.wait_for_update(job_id, 20)
    children = running.children(sleeper)
    running.suspend(sleeper)
    running.start_worker()
    running.wait(job_id, lambda found: found.attempt == 2)
    running.wait_until_ended(children)  # a child that hears nothing for a lease ends itself
    sleeper.send_signal(signal.SIGCONT)
    ended = running.wait_for_end(job_id)
    assert (ended.state, ended.attempt) == ("succeeded", 2)
    assert len(running.kinds(job_id)) == len(set(range(1, ended.event_count + 1)))
    with running.database.reading() as session:
        late = session.connection().exec_driver_sql(
            "SELECT count(*) FROM events AS e WHERE e.attempt = 1 AND e.number > "
            "(SELECT number FROM events WHERE kind = 'lease_lost')"
        )
        assert late.scalar() == 0
    deadline = time.monotonic() + 60
    while not counts(running)["writes_fenced"] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [counts(running)[what] for what in ("leases_lost", "writes_fenced")] == [{("", ""): 1}, {("", ""): 1}]


def counts(running: Running) -> dict[str, counters.Counts]:
    with running.database.reading() as session:
        return counters.totals(session)


@ON_SQLITE
def test_a_job_that_would_fill_the_disk_is_held_with_the_reason_until_there_is_room(running: Running) -> None:
    full = running.start_worker(FINEBITS_MIN_FREE_BYTES=str(10**18))
    job_id = running.submit(job(training={"max_steps": 5}))
    held = running.wait(job_id, lambda found: "held" in (found.progress or {}))
    assert (held.state, held.attempt) == ("queued", 0)
    assert "its checkpoint would take" in held.progress["held"]
    time.sleep(2)  # some sweeps later
    assert running.kinds(job_id) == ["submitted", "held"]
    full.terminate()
    full.wait(120)
    running.start_worker()
    ended = running.wait_for_end(job_id)
    assert (ended.state, ended.attempt, ended.lost) == ("succeeded", 1, 0)
    assert "held" not in ended.progress


def sentences(running: Running, job_id: str) -> str:
    from service.store import events

    with running.database.reading() as session:
        return " ".join(event.message for event in events.after(session, job_id, 0, 1000))


@ON_SQLITE
def test_a_worker_that_is_drained_now_gives_its_job_back_and_takes_it_again_when_it_may(running: Running) -> None:
    worker = running.start_worker(FINEBITS_WORKER_NAME="host-a")
    job_id = running.submit(job(training={"max_steps": 400, "save_steps": 1000}))
    running.wait_for_update(job_id, 10)
    with running.database.transaction() as session:
        workers.drain(session, "host-a", stop_jobs=True)
    released = running.wait(job_id, lambda job: job.state == "queued")
    assert running.kinds(job_id)[-2:] in (["checkpoint_saved", "released"], ["measured", "released"])
    assert released.lost == 0
    with running.database.transaction() as session:
        assert [slot.used_permille for slot in slots.of_worker(session, "host-a")] == [0]
        workers.undrain(session, "host-a")
    ended = running.wait_for_end(job_id)
    assert (ended.state, ended.attempt, ended.lost) == ("succeeded", 2, 0)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(120) == 0
    with running.database.reading() as session:
        assert workers.status(session, workers.get(session, "host-a")) == "stopped"


@ON_SQLITE
def test_a_second_worker_of_one_name_does_not_start(running: Running) -> None:
    first = running.start_worker(FINEBITS_WORKER_NAME="host-a")
    _until(lambda: "host-a" in known(running), 120)
    second = running.start_worker(FINEBITS_WORKER_NAME="host-a")
    assert second.wait(120) == 1
    said = (running.home / "worker-1.log").read_text()
    assert said.splitlines()[-1].startswith(f"There is a worker 'host-a' already (process {first.pid} on ")
    assert first.poll() is None


def known(running: Running) -> list[str]:
    with running.database.reading() as session:
        return [worker.name for worker in workers.known(session)]


def _until(holds: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
