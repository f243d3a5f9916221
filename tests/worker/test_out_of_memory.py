"""A training process that really has too little memory: a limit of the system's, under which torch's allocator is refused."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from service.store.session import Database
from tests.running import Running

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
def running(
    tmp_path: Path,
    database: Database,
    broker_url: str,
    make_llama: Callable[..., LlamaForCausalLM],
    tokenizer: PreTrainedTokenizerBase,
) -> Iterator[Running]:
    make_llama(max_position_embeddings=LENGTH).save_pretrained(tmp_path / "models" / "tiny")
    tokenizer.save_pretrained(tmp_path / "models" / "tiny")
    folder = tmp_path / "datasets" / "data"
    folder.mkdir(parents=True)
    rows = [{"text": "the quick brown fox jumps over the lazy dog " * 400}] * BATCH
    (folder / "texts.json").write_text(json.dumps(rows))
    (folder / "dataset_info.json").write_text(json.dumps({"texts": {"file_name": "texts.json", "columns": {"prompt": "text"}}}))
    service = Running(tmp_path, database, broker_url)
    service.wipe_broker()
    yield service
    service.stop()


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
