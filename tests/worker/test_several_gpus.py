"""Jobs of two GPUs through a real worker, on processors that stand for them: a rank that dies costs nothing but time."""

import pytest

from service.store import slots
from service.store.session import Database
from tests.running import Running, is_alive, job

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.parametrize("database", ["sqlite"], indirect=True)]

TWO = {"resources": {"gpus": 2}}


@pytest.fixture
def running(running: Running) -> Running:
    running.start_worker(FINEBITS_DEVICES="cpu:0,cpu:1", FINEBITS_WORKER_NAME="two")
    return running


def test_a_job_whose_rank_is_killed_goes_on_from_its_last_checkpoint(running: Running, database: Database) -> None:
    undisturbed = running.submit(job(**TWO))
    assert running.wait_for_end(undisturbed).state == "succeeded"
    job_id = running.submit(job(**TWO))
    running.wait_for_update(job_id, 25)
    with database.reading() as session:
        assert [slot.used_permille for slot in slots.of_worker(session, "two") if slot.device] == [1000, 1000]
    (child,) = running.children(running.workers[0])
    ranks = sorted(child.children(), key=lambda process: process.pid)
    ranks[1].kill()
    ended = running.wait_for_end(job_id)
    assert (ended.state, ended.attempt, ended.lost) == ("succeeded", 2, 1)
    assert "resumed" in running.kinds(job_id)
    assert running.series(job_id) == pytest.approx(running.series(undisturbed), rel=1e-6)
    assert running.cross_entropies(job_id) == pytest.approx(running.cross_entropies(undisturbed), rel=1e-6)
    assert not any(is_alive(rank) for rank in ranks)


def test_a_job_that_is_paused_goes_on_with_as_many(running: Running) -> None:
    undisturbed = running.submit(job(**TWO))
    job_id = running.submit(job(**TWO))
    running.wait_for_update(job_id, 15)
    running.wish("pause", job_id)
    running.wait(job_id, lambda job: job.state == "paused")
    running.wish("resume", job_id)
    assert running.wait_for_end(job_id).state == "succeeded"
    assert running.wait_for_end(undisturbed).state == "succeeded"
    assert running.series(job_id) == pytest.approx(running.series(undisturbed), rel=1e-6)


def test_a_job_of_one_gpu_trains_there_too(running: Running) -> None:
    job_id = running.submit(job(resources={"gpus": 1}))
    assert running.wait_for_end(job_id).state == "succeeded"
