"""Jobs through one real worker, which all tests of this file share: what clients wish of them, and how each of them ends.

What is done to workers is in test_jobs_survive.py.
"""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from transformers import AutoTokenizer, LlamaForCausalLM

from tests import servers
from tests.databases import migrated
from tests.running import Running, job, write_datasets

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, make_llama: Callable[..., LlamaForCausalLM], tokenizer_folder: Path
) -> Iterator[Running]:
    """With a broker of its own: its worker would take the bells of other tests' jobs."""
    home = tmp_path_factory.mktemp("home")
    make_llama().save_pretrained(home / "models" / "tiny")
    AutoTokenizer.from_pretrained(tokenizer_folder).save_pretrained(home / "models" / "tiny")
    write_datasets(home / "datasets" / "data")
    database = migrated(home / "finebits.db")
    with servers.broker() as broker_url:
        service = Running(home, database, broker_url)
        service.start_worker(FINEBITS_GRACE_SECONDS="600")  # beyond what a test waits: who does not hear is not killed
        yield service
        service.stop()
    database.close()


def test_a_cancelled_job_stops_at_the_update_after_the_heartbeat(running: Running) -> None:
    job_id = running.submit(job(training={"max_steps": 100_000, "save_steps": 100_000}))
    running.wait_for_update(job_id, 20)
    running.cancel(job_id)
    ended = running.wait_for_end(job_id)
    assert ended.state == "cancelled"
    assert (ended.progress or {})["global_step"] < 100_000
    assert running.children(running.workers[0]) == []
    assert "checkpoint_saved" not in running.kinds(job_id)


def test_what_a_client_wishes_is_obeyed_and_the_curves_are_those_of_a_job_that_was_left_in_peace(running: Running) -> None:
    long_enough = job(training={"max_steps": 240, "save_steps": 40})
    undisturbed = running.submit(long_enough)
    running.wait_for_end(undisturbed)

    job_id = running.submit(long_enough)
    running.wait_for_update(job_id, 15)
    running.wish("pause", job_id)
    paused = running.wait(job_id, lambda found: found.state == "paused")
    assert (paused.worker, paused.lost) == (None, 0)
    assert running.kinds(job_id)[-2:] in (["checkpoint_saved", "paused"], ["measured", "paused"])
    assert running.children(running.workers[0]) == []
    other = running.submit(job(training={"max_steps": 5}))
    assert running.wait_for_end(other).state == "succeeded", "the slot is free"
    running.wish("resume", job_id)
    running.wait_for_update(job_id, paused.progress["global_step"] + 5)
    running.cancel(job_id)
    assert running.wait_for_end(job_id).state == "cancelled"
    running.wish("retry", job_id)
    ended = running.wait_for_end(job_id)
    assert (ended.state, ended.attempt) == ("succeeded", 3)
    assert running.series(job_id) == pytest.approx(running.series(undisturbed), rel=1e-6)
    planned = running.cross_entropies(undisturbed)
    assert {at: running.cross_entropies(job_id)[at] for at in planned} == pytest.approx(planned, rel=1e-6)

    # a job whose time is over ends at a checkpoint, and only what is to be kept is kept
    training = {"max_steps": 100_000, "save_steps": 10, "save_total_limit": 2}
    job_id = running.submit(job(training=training, resources={"max_seconds": 3600}, measures={"names": ""}))
    running.wait_for_update(job_id, 45)
    with running.database.transaction() as session:
        session.connection().exec_driver_sql("UPDATE jobs SET max_seconds = 0.01")
    ended = running.wait_for_end(job_id)
    assert (ended.state, ended.reason) == ("failed", "too_long")
    assert running.kinds(job_id)[-1] == "failed"
    assert "files_removed" in running.kinds(job_id)
    made = running.artifacts / job_id / "1" / "sft"
    deadline = time.monotonic() + 60
    while len(folders := list(made.glob("checkpoint-*"))) > 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(folders) == 2
    newest = max(int(folder.name.split("-")[1]) for folder in folders)
    assert newest == ended.progress["global_step"], "the last was made because the time was over"


def test_bad_jobs_fail_with_their_reason_and_the_worker_goes_on(running: Running) -> None:
    no_output = running.submit(job(data={"dataset": "no_output"}))
    latin1 = running.submit(job(data={"dataset": "latin1"}))
    gone = running.submit(job(data={"dataset": "gone"}), ring=False)
    os.remove(running.home / "datasets" / "data" / "gone.json")
    no_module = running.submit(job(finetuning={"lora_target": "q_prog"}))
    not_finite = running.submit(job(training={"learning_rate": 1e12, "max_grad_norm": 0.0}))
    good = running.submit(job(training={"max_steps": 5}))
    ended = {name: running.wait_for_end(name) for name in (no_output, latin1, gone, no_module, not_finite, good)}

    assert ended[good].state == "succeeded"
    assert ended[no_output].reason == "bad_row"
    assert ended[no_output].details == {"file": "no_output.json", "row": 31, "column": "output"}
    assert "no_output.json" in ended[no_output].sentence
    assert "31" in ended[no_output].sentence
    assert ended[latin1].reason in ("bad_row", "bad_data")
    assert "UTF-8" in ended[latin1].sentence
    assert ended[gone].reason == "missing_data"
    assert ended[no_module].reason == "bad_model"
    assert "q_prog" in ended[no_module].sentence
    assert "q_proj" in ended[no_module].sentence
    assert ended[not_finite].reason == "diverged"
    assert all(found.attempt == 1 for found in ended.values())


def test_a_job_that_keeps_losing_its_process_fails_in_the_end(running: Running) -> None:
    job_id = running.submit(job(training={"max_steps": 100_000}, resources={"max_lost": 1, "gpus": 0}))
    for attempt in (1, 2):
        running.wait(job_id, lambda found, attempt=attempt: found.attempt == attempt and running.children(running.workers[0]))
        running.children(running.workers[0])[0].kill()
    ended = running.wait_for_end(job_id)
    assert (ended.state, ended.reason, ended.lost) == ("failed", "killed", 2)
    assert "max_lost" in ended.sentence
