import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from sqlalchemy import update
from sqlalchemy.exc import OperationalError

from service.store import slots, workers
from service.store.clock import now
from service.store.errors import WorkerIsThere
from service.store.session import Database
from service.store.tables import Worker
from worker import extras, presence
from worker.gpus import Gpus
from worker.presence import Presence, is_dead
from worker.settings import WorkerSettings


@pytest.fixture
def settings(tmp_path: Path) -> WorkerSettings:
    return WorkerSettings(home=tmp_path, worker_name="host-a", concurrency=2, lease_seconds=60)


def present(database: Database, settings: WorkerSettings) -> Presence:
    return Presence(database, settings, Gpus((), None))


def row(database: Database) -> Worker:
    with database.reading() as session:
        return workers.get(session, "host-a")


def a_rival(pid: int, started_at: float, machine: str | None = None) -> Worker:
    return Worker(pid=pid, process_started_at=started_at, machine=machine or presence.machine())


def test_a_worker_says_who_it_is_and_has_a_slot_for_each_job_at_once(database: Database, settings: WorkerSettings) -> None:
    present(database, settings).enter()
    found = row(database)
    assert (found.pid, found.machine, found.queues, found.spec_versions) == (os.getpid(), presence.machine(), ["default"], [1])
    assert found.extras == list(extras.installed())
    with database.reading() as session:
        assert [slot.device for slot in slots.of_worker(session, "host-a")] == [None, None]


def test_a_process_that_ended_or_whose_number_is_another_s_is_dead_and_one_elsewhere_cannot_be_told() -> None:
    me, began = psutil.Process(), presence.started_at(psutil.Process())
    assert not is_dead(a_rival(me.pid, began))
    assert is_dead(a_rival(me.pid, began - 100)), "The number was given to another process."
    assert not is_dead(a_rival(me.pid, began - 100, machine="another host's"))
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    assert is_dead(a_rival(gone.pid, began))


@pytest.mark.skipif(not psutil.LINUX, reason="how a clock shows in the times of processes is each system's own")
@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_set_by_an_hour_makes_nobody_dead(monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    rival = a_rival(os.getpid(), presence.started_at(psutil.Process()))
    boot = psutil.boot_time()
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: boot + 3600 * hours)
    assert abs(psutil.Process().create_time() - time.time()) > 1800, "the system tells other times now"
    assert not is_dead(rival)


def test_one_whose_earlier_self_was_killed_is_there_at_once(database: Database, settings: WorkerSettings) -> None:
    before = present(database, settings)
    before.enter()
    with database.transaction() as session:
        session.execute(update(Worker).values(process_started_at=1.0))
    again = present(database, settings)
    again.enter()
    assert row(database).instance == again.me.instance != before.me.instance


def test_a_second_one_ends_as_soon_as_the_first_is_heard_of(database: Database, settings: WorkerSettings) -> None:
    first = present(database, settings)
    first.enter()
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(0.01):
            first.heartbeat()

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        with pytest.raises(WorkerIsThere, match=f"'host-a' already \\(process {os.getpid()} on .*FINEBITS_WORKER_NAME"):
            present(database, settings).enter(look_seconds=0.05)
    finally:
        stop.set()
        beating.join()


def test_one_that_says_nothing_is_waited_for_until_its_lease_has_run_out(database: Database, settings: WorkerSettings) -> None:
    present(database, settings).enter()
    second = present(database, settings)
    entering = threading.Thread(target=second.enter, args=(0.01,))
    entering.start()
    entering.join(0.3)
    assert entering.is_alive(), "It may only be slow."
    with database.transaction() as session:
        session.execute(update(Worker).values(heartbeat_at=now() - 61))
    entering.join(120)
    assert row(database).instance == second.me.instance


def test_a_database_that_goes_away_while_it_registers_is_waited_for(
    database: Database, settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    register, away = workers.register, [OperationalError("SELECT", None, Exception("terminating connection"))] * 2

    def broken(*given: object) -> None:
        if away:
            raise away.pop()
        register(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(workers, "register", broken)
    here = present(database, settings)
    here.enter(look_seconds=0.01)
    assert row(database).instance == here.me.instance
    assert caplog.text.count("the database does not answer") == 2


def test_a_gpu_takes_a_job_beside_those_that_use_none(settings: WorkerSettings, tmp_path: Path) -> None:
    assert settings.most_jobs == 2
    with_gpus = WorkerSettings(home=tmp_path, devices="0,1", concurrency=1)
    assert with_gpus.most_jobs == 3
    assert WorkerSettings(home=tmp_path, devices="0,1", concurrency=1, gpu_sharing=True).most_jobs == 41
