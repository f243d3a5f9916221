"""Checkpoints and the room for them."""

import errno

import pytest
from transformers import TrainerState

from service.library import space
from service.library.check import Roots
from service.specs.read import read_job
from service.specs.reasons import Reason
from tests.worker.stages.attempts import a_job, a_ppo_job, a_preference_job, add_judge, training
from worker import checkpoints, disk
from worker.child import explained
from worker.models import value_head
from worker.ppo.progress import Progress

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


UNMEASURED = {"names": ""}
HALF_WRITTEN = {
    "sft": (a_job(measures=UNMEASURED), TrainerState, "save_to_json"),
    "dpo": (a_preference_job(measures=UNMEASURED), TrainerState, "save_to_json"),
    "rm, at its head": (a_preference_job(finetuning={"stage": "rm"}, measures=UNMEASURED), value_head, "save"),
    "ppo, at its critic": (a_ppo_job(measures=UNMEASURED), value_head, "save"),
    "ppo, at its own state": (a_ppo_job(measures=UNMEASURED), Progress, "save"),
}


@pytest.mark.parametrize("stage", HALF_WRITTEN)
def test_a_disk_that_is_full_in_the_midst_of_a_checkpoint_leaves_none_that_counts(host, make_llama, monkeypatch, stage):
    """Whatever the check before had seen: other programs write, too."""
    job, owner, name = HALF_WRITTEN[stage]
    add_judge(host, "judge", make_llama(seed=1))
    write = getattr(owner, name)

    def full(*arguments):
        if any("checkpoint-4" in str(argument) for argument in arguments):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, full)
        first = host.attempt(job)
    assert explained(first.error).reason == Reason.OUT_OF_DISK
    assert first.checkpoints() == [2]
    torn = host.folder(first).with_name("checkpoint-4")
    assert (torn / "adapter_model.safetensors").exists(), "the model was written, what stands beside it was not"
    assert not (torn / checkpoints.MANIFEST).exists()
    second = host.done(job, earlier=[first])
    assert second.events("resumed")[0]["data"]["global_step"] == 2
    assert second.checkpoints() == [4]
