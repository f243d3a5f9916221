"""A training process that really has too little memory: a limit of the system's, under which torch's allocator is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from transformers import LlamaForCausalLM

from tests.running import Running, add_texts

pytestmark = [pytest.mark.long, pytest.mark.skipif(not psutil.LINUX, reason="other systems have no limit of that kind")]

BATCH, LENGTH = 32, 2048
# Beside what the warm server has when it forks, in which a child of this job took 430 MB with half of its batch and 700 with all.
ROOM_BYTES = 565 * 2**20

JOB: dict[str, Any] = {
    "model": {"model_name_or_path": "tiny"},
    "data": {"dataset": "texts", "cutoff_len": LENGTH},
    "finetuning": {"stage": "pt", "lora_rank": 4},
    "training": {"per_device_train_batch_size": BATCH, "max_steps": 1, "logging_steps": 1},
    "measures": {"names": ""},
    "resources": {"gpus": 0, "on_out_of_memory": "halve_batch"},
}


@pytest.fixture
def running(running: Running, make_llama: Callable[..., LlamaForCausalLM]) -> Running:
    """With longer positions, and texts that fill them."""
    make_llama(max_position_embeddings=LENGTH).save_pretrained(running.home / "models" / "tiny")
    add_texts(running.home / "datasets" / "data", BATCH)
    return running


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.timeout(600)
def test_a_job_that_runs_out_of_memory_goes_on_with_half_its_batch_to_the_same_loss(running: Running) -> None:
    worker = running.start_worker(FINEBITS_LEASE_SECONDS="120")
    undisturbed = running.submit(JOB)
    running.wait(undisturbed, lambda job: bool(running.children(worker)))
    server = psutil.Process(running.children(worker)[0].ppid())
    assert running.wait_for_end(undisturbed).attempt == 1
    server.rlimit(psutil.RLIMIT_DATA, (data_of(server) + ROOM_BYTES,) * 2)  # which its children have, too

    job_id = running.submit(JOB)
    ended = running.wait_for_end(job_id)
    assert (ended.state, ended.attempt, ended.lost) == ("succeeded", 2, 0)
    training = ended.resolved["steps"][0]["training"]
    assert (training["per_device_train_batch_size"], training["gradient_accumulation_steps"]) == (BATCH // 2, 2)
    assert running.kinds(job_id).count("batch_halved") == 1
    assert "allocate memory" in running.log(job_id, 1), "the allocator itself was refused"
    assert running.series(job_id, step="pt") == pytest.approx(running.series(undisturbed, step="pt"), rel=1e-5)


def data_of(process: psutil.Process) -> int:
    """Bytes that the limit counts: private memory that can be written."""
    (line,) = (line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if line.startswith("VmData:"))
    return int(line.split()[1]) * 1024
