"""Real workers on odd hosts: their clocks are wrong by an hour, or their software is of another time."""

import os
import time
from pathlib import Path

import pytest

from tests.running import Running, job
from tests.service.store.staffed import assert_slots_add_up
from tests.service.store.stored import attempts_of, events_of

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]

ON_POSTGRESQL = pytest.mark.parametrize("database", ["postgresql"], indirect=True)  # SQLite's clock is that of its only host
HOUR = 3600.0
LONG = 1200.0  # seconds: on a busy machine it takes minutes until a worker is warm

# Python reads a module of this name as it starts, and so do the fork server and the children. It shifts what Python asks of the
# clock; that of the system can be moved by root alone.
ODD = """
import os, time

shift = float(os.environ.get("SHIFT_SECONDS", "0"))
right, right_ns = time.time, time.time_ns
time.time, time.time_ns = lambda: right() + shift, lambda: right_ns() + int(shift * 1e9)
if "READS_VERSION" in os.environ:
    from service.specs import version
    version.READABLE = frozenset({int(os.environ["READS_VERSION"])})
"""


@pytest.fixture
def odd(tmp_path: Path) -> dict[str, str]:
    """The environment of a worker that is made odd by what else is in it."""
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "sitecustomize.py").write_text(ODD)
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(tmp_path / "odd"), os.environ.get("PYTHONPATH"))))}


@ON_POSTGRESQL
def test_clocks_that_differ_by_an_hour_lose_nothing(running: Running, odd: dict[str, str]) -> None:
    fast = running.start_worker(**odd, FINEBITS_WORKER_NAME="fast", SHIFT_SECONDS=str(HOUR), FINEBITS_LEASE_SECONDS="60")
    slow = running.start_worker(**odd, FINEBITS_WORKER_NAME="slow", SHIFT_SECONDS=str(-HOUR), FINEBITS_LEASE_SECONDS="60")
    both = [running.submit(job(training={"max_steps": 300, "save_steps": 20})) for _ in range(2)]
    for job_id in both:
        running.wait(job_id, lambda job: ((job.progress or {}).get("global_step") or 0) >= 40, LONG)
    assert {running.job(job_id).worker for job_id in both} == {"fast", "slow"}
    assert {running.job(job_id).lost for job_id in both} == {0}, "neither was taken for dead by the other"
    of_fast = next(job_id for job_id in both if running.job(job_id).worker == "fast")
    fast.kill()
    for job_id in both:
        ended = running.wait_for_end(job_id, LONG)
        assert (ended.state, ended.worker, ended.lost) == ("succeeded", None, int(job_id == of_fast))
        times = [event.at for event in events_of(running.database, job_id)]
        assert times == sorted(times), "the database's clock alone is written"
        assert abs(times[0] - time.time()) < HOUR / 2
    assert attempts_of(running.database, of_fast) == [(1, "lost"), (2, "succeeded")]
    assert slow.poll() is None
    with running.database.transaction() as session:
        assert_slots_add_up(session)


@ON_POSTGRESQL
def test_a_worker_of_another_version_leaves_jobs_alone_and_they_say_so(running: Running, odd: dict[str, str]) -> None:
    newer = running.start_worker(**odd, FINEBITS_WORKER_NAME="newer", READS_VERSION="2")
    job_id = running.submit(job(training={"max_steps": 2}))
    held = running.wait(job_id, lambda job: "held" in (job.progress or {}), LONG)
    assert held.state == "queued"
    assert (held.progress or {})["held"].startswith(
        "Held: it is written in version 1 of the language of jobs, and the workers of queue default read 2."
    )
    running.start_worker(FINEBITS_WORKER_NAME="own")
    assert running.wait_for_end(job_id, LONG).state == "succeeded"
    assert newer.poll() is None
    started = next(event for event in events_of(running.database, job_id) if event.kind == "started")
    assert started.data == {"worker": "own"}
