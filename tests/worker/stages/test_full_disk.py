"""Checkpoints and the room for them."""

import pytest

from service.library import space
from service.library.check import Roots
from service.specs.read import read_job
from service.specs.reasons import Reason
from tests.worker.stages.attempts import a_job, training
from worker import disk

GB = 10**9


@pytest.mark.parametrize("optim", ["adamw_torch", "sgd", "adafactor"])
@pytest.mark.parametrize("finetuning_type", ["lora", "full", "freeze"])
def test_a_checkpoint_takes_the_bytes_that_were_reckoned(host, finetuning_type, optim):
    arguments = {"lora": {"lora_rank": 2}, "full": {}, "freeze": {"num_layer_trainable": 1}}[finetuning_type]
    job = a_job(training=training(optim=optim, max_steps=2))
    job["finetuning"] = {"finetuning_type": finetuning_type, **arguments}
    reckoned = space.still_to_write(Roots(host.models, host.datasets), read_job(job).resolved, (), {})["sft"]
    folder = host.folder(host.done(job))
    taken = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    assert reckoned.n_checkpoints == 1
    # the reserve for what stands beside is 1 MB, and hides nothing of a real model
    assert taken < reckoned.checkpoint_bytes < taken + space.BESIDE_BYTES


def test_a_disk_that_fills_up_ends_the_attempt_before_a_checkpoint_is_begun(host, monkeypatch):
    monkeypatch.setattr(disk, "free_bytes", lambda folder: GB)

    def fill(message, run):
        if message["message"] == "checkpoint":
            monkeypatch.setattr(disk, "free_bytes", lambda folder: -1)

    attempt = host.attempt(a_job(), when=fill)
    assert attempt.error.reason == Reason.OUT_OF_DISK
    assert "Those before it are whole" in attempt.error.sentence
    assert attempt.checkpoints() == [2]
    assert [path.name for path in host.folder(attempt).parent.glob("checkpoint-*")] == ["checkpoint-2"]


def test_when_there_is_room_again_it_goes_on_from_where_it_was(host, monkeypatch):
    monkeypatch.setattr(disk, "free_bytes", lambda folder: -1)
    assert host.attempt(a_job()).error.reason == Reason.OUT_OF_DISK
    monkeypatch.undo()
    assert host.attempt(a_job()).checkpoints() == [2, 4]
