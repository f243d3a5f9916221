"""A real worker on a real GPU: what the driver says of it, and jobs that share it, outgrow it, are killed on it.

Nothing else may run on the GPU meanwhile: a worker gives no job to one on which another's process runs.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from service.library import memory
from service.library.check import Roots
from service.specs.read import read_job
from service.store import slots, steps
from service.store.tables import Slot
from tests.running import Running, add_texts, job

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.parametrize("database", ["sqlite"], indirect=True),
]

LENGTH = 1024
SHAPE = {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 8}
ON_GPU = {"resources": {"gpus": 1}}

# Holds a GPU until it is told to end.
A_STRANGER = "import torch; held = torch.zeros(2**26, device='cuda'); print('held', flush=True); input()"


@pytest.fixture
def running(running: Running, make_llama: Callable[..., LlamaForCausalLM], tokenizer: PreTrainedTokenizerBase) -> Running:
    """With a model that takes some memory beside the tiny one, and texts that fill its positions."""
    make_llama(**SHAPE, max_position_embeddings=LENGTH).save_pretrained(running.home / "models" / "larger")
    tokenizer.save_pretrained(running.home / "models" / "larger")
    add_texts(running.home / "datasets" / "data", 64)
    return running


def what_torch_sees() -> tuple[str, int]:
    """(name, bytes) of the first GPU. Asked elsewhere: a process that has used CUDA is on the GPU until it ends."""
    code = "import torch; print(torch.cuda.get_device_name()); print(torch.cuda.mem_get_info()[1])"
    name, whole = subprocess.check_output([sys.executable, "-c", code], text=True).splitlines()
    return name, int(whole)


def the_slot(running: Running) -> Slot | None:
    with running.database.reading() as session:
        return next((slot for slot in slots.of_worker(session, "host-a") if slot.device is not None), None)


def wait_for_slot(running: Running, holds: Callable[[Slot], Any], seconds: float = 120) -> Slot:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        slot = the_slot(running)
        if slot is not None and slot.readings and holds(slot):
            return slot
        time.sleep(0.05)
    log = (running.home / "worker-0.log").read_text()
    raise AssertionError(f"not in {seconds} s: {vars(slot) if slot else None}\n{log[-3000:]}")


def test_the_driver_is_asked_what_the_gpu_is_and_reads_and_a_stranger_on_it_is_seen(running: Running) -> None:
    with subprocess.Popen([sys.executable, "-c", A_STRANGER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as stranger:
        assert stranger.stdin is not None
        assert stranger.stdout is not None
        assert stranger.stdout.readline() == b"held\n"
        running.start_worker(FINEBITS_WORKER_NAME="host-a")
        seen = wait_for_slot(running, lambda slot: slot.trouble)
        assert "which is no job of this worker, runs on it" in (seen.trouble or "")
        kept_waiting = running.submit(job(training={"max_steps": 4}, measures={"names": ""}, **ON_GPU))
        elsewhere = running.submit(job(training={"max_steps": 4}, measures={"names": ""}))
        assert running.wait_for_end(elsewhere).state == "succeeded", "which uses no GPU, and came later"
        assert running.job(kept_waiting).state == "queued"
        stranger.stdin.write(b"\n")
        stranger.stdin.close()
        stranger.wait()
    slot = wait_for_slot(running, lambda slot: slot.trouble is None)
    assert running.wait_for_end(kept_waiting).state == "succeeded"
    name, whole = what_torch_sees()
    assert slot.gpu == slot.device
    assert str(slot.gpu).startswith("GPU-")
    assert slot.gpu_name == name
    assert slot.memory_bytes == pytest.approx(whole, rel=0.05)
    readings = slot.readings or {}
    assert 0 <= readings["memory_used_bytes"] <= whole
    assert 10 < readings["temperature_celsius"] < 110
    assert 0 <= readings["utilization_percent"] <= 100


@pytest.mark.parametrize("precision", [{}, {"fp16": True}, {"bf16": True}], ids=["fp32", "fp16", "bf16"])
def test_a_job_that_is_killed_on_the_gpu_goes_on_to_the_same_losses(running: Running, precision: dict[str, bool]) -> None:
    worker = running.start_worker(FINEBITS_WORKER_NAME="host-a")
    document = job(training={"max_steps": 120, "save_steps": 10, "logging_steps": 1, **precision}, **ON_GPU)
    undisturbed = running.submit(document)
    assert running.wait_for_end(undisturbed).state == "succeeded"
    job_id = running.submit(document)
    running.wait_for_update(job_id, 15)
    for child in running.children(worker):
        child.send_signal(signal.SIGKILL)
    ended = running.wait_for_end(job_id)
    assert (ended.state, ended.attempt) == ("succeeded", 2)
    assert running.kinds(job_id).count("resumed") == 1
    whole, resumed = running.series(undisturbed), running.series(job_id)
    assert list(resumed) == list(range(1, 121))
    assert resumed == pytest.approx(whole, rel=2e-2 if precision else 1e-4)


def bytes_estimated(running: Running, document: dict[str, Any]) -> memory.Memory:
    (known,) = memory.of_job(Roots(running.home / "models", running.home / "datasets"), read_job(document).resolved).values()
    assert isinstance(known, memory.Memory)
    return known


def a_large_job(batch: int, **resources: Any) -> dict[str, Any]:
    return {
        "model": {"model_name_or_path": "larger", "disable_gradient_checkpointing": True},
        "data": {"dataset": "texts", "cutoff_len": LENGTH},
        "finetuning": {"stage": "pt", "finetuning_type": "full"},
        "training": {"per_device_train_batch_size": batch, "max_steps": 2, "logging_steps": 1},
        "measures": {"names": ""},
        "resources": {"gpus": 1, **resources},
    }


def test_a_job_that_outgrows_its_part_goes_on_with_half_its_batch_to_the_same_loss(running: Running) -> None:
    running.start_worker(FINEBITS_WORKER_NAME="host-a", FINEBITS_GPU_SHARING="1")
    _, whole = what_torch_sees()
    undisturbed = running.submit(a_large_job(64))
    needs = bytes_estimated(running, a_large_job(64))
    part = 0.75 * (needs.peak - needs.context) / whole  # more than with half of its batch, less than with all
    job_id = running.submit(a_large_job(64, gpu_memory_fraction=max(part, 0.05), on_out_of_memory="halve_batch"))
    alone = running.submit(a_large_job(64, gpu_memory_fraction=max(part, 0.05)))
    ended = running.wait_for_end(job_id)
    assert (ended.state, ended.attempt, ended.lost) == ("succeeded", 2, 0)
    training = ended.resolved["steps"][0]["training"]
    assert (training["per_device_train_batch_size"], training["gradient_accumulation_steps"]) == (32, 2)
    assert running.kinds(job_id).count("batch_halved") == 1
    assert running.wait_for_end(undisturbed).state == "succeeded"
    assert running.series(job_id, step="pt") == pytest.approx(running.series(undisturbed, step="pt"), rel=1e-3)
    failed = running.wait_for_end(alone)
    assert (failed.state, failed.reason) == ("failed", "out_of_memory")
    assert "halve_batch" in (failed.sentence or "")


def test_two_jobs_share_the_gpu_where_the_operator_allows_it(running: Running) -> None:
    running.start_worker(FINEBITS_WORKER_NAME="host-a", FINEBITS_GPU_SHARING="1")
    document = job(training={"max_steps": 400}, measures={"names": ""}, resources={"gpus": 1, "gpu_memory_fraction": 0.5})
    both = [running.submit(document) for _ in range(2)]
    running.wait(both[0], lambda _: all(running.job(job_id).state == "running" for job_id in both))
    slot = the_slot(running)
    assert slot is not None
    assert slot.used_permille == 1000
    assert {running.wait_for_end(job_id).state for job_id in both} == {"succeeded"}
    wait_for_slot(running, lambda slot: slot.used_permille == 0)


def test_what_is_quantized_trains_on_the_gpu_and_what_leaves_is_what_was_trained(running: Running) -> None:
    running.start_worker(FINEBITS_WORKER_NAME="host-a")
    export = {"name": "export", "do": "export", "model": {"model_name_or_path": "@sft", "export_dir": "sums"}}
    model = {"quantization_bit": 4}
    job_id = running.submit(job(model=model, measures={"names": ""}, steps=[{"name": "sft"}, export], **ON_GPU))
    ended = running.wait_for_end(job_id)
    assert ended.state == "succeeded", ended.sentence
    losses = list(running.series(job_id).values())
    assert losses[-1] < losses[0] - 0.1
    with running.database.reading() as session:
        certificate = steps.of_job(session, job_id)[-1].summary["certificate"]
    assert certificate["passed"] is True
