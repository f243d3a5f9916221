"""The promise: whatever happens to an attempt, the job's curves, weights and measures are as if nothing had happened."""

import json
import random
import shutil

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from transformers import Trainer

from service.specs.reasons import Reason
from tests.fake_rewards import fake_rewards
from tests.worker.stages.attempts import a_job, a_ppo_job, a_preference_job, a_pretraining_job, add_judge, changed
from worker import checkpoints
from worker.run import Stopped

# Ten rows in batches of two, two batches an update: three updates an epoch, the third of one batch. Windows of three updates
# are open at checkpoints 2, 4 and 8. The rate moves at every update, and dropout draws at every batch.
LONG = {
    "max_steps": 8,
    "gradient_accumulation_steps": 2,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 2,
    "logging_steps": 3,
    "save_steps": 2,
}
FULL, DROPOUT = {"finetuning_type": "full"}, {"lora_rank": 4, "lora_dropout": 0.3}
SFT = a_job(training=LONG, finetuning=DROPOUT)
STREAMED = {"streaming": True, "buffer_size": 4}  # the rows come round after two updates and a half
# An update of ppo is eight texts of ten prompts; windows of three are open at its checkpoint, too.
OF_PPO = LONG | {"max_steps": 4, "warmup_steps": 1}
NORMALISED = {"ppo_score_norm": True, "ppo_whiten_rewards": True}
EVERY = {
    "pt full": a_pretraining_job(training=LONG),
    "pt streamed": a_pretraining_job(training=LONG, data=STREAMED),
    "sft lora": SFT,
    "sft packed": a_job(training=LONG, finetuning=DROPOUT, data={"sft_packing": True}),
    "sft streamed": a_job(training=LONG, finetuning=DROPOUT, data=STREAMED),
    "rm lora": a_preference_job(training=LONG, finetuning={"stage": "rm", **DROPOUT}),
    "rm full": a_preference_job(training=LONG, finetuning={"stage": "rm", **FULL}),
    "dpo lora": a_preference_job(training=LONG, finetuning={**DROPOUT, "dpo_ftx": 0.1}),
    "dpo full": a_preference_job(training=LONG, finetuning={**FULL, "dpo_loss": "kto_pair"}),
    "dpo judged": a_preference_job(training=LONG, finetuning={"dpo_loss": "kto"}, data={"dataset": "judged"}),
    "ppo lora": a_ppo_job(training=OF_PPO, finetuning={**NORMALISED, **DROPOUT}),
    "ppo full": a_ppo_job(training=OF_PPO | {"data_seed": 5}, finetuning={**NORMALISED, **FULL}),
    "ppo streamed": a_ppo_job(training=OF_PPO, finetuning=NORMALISED, data=STREAMED),
}
FROZEN = {"finetuning_type": "freeze", "num_layer_trainable": 1}
MORE = {
    "pt frozen": a_pretraining_job(training=LONG, finetuning=FROZEN),
    "sft on four bits": a_job(training=LONG, finetuning=DROPOUT, model={"quantization_bit": 4}),
    "rm streamed": a_preference_job(training=LONG, finetuning={"stage": "rm", **DROPOUT}, data=STREAMED),
    "dpo streamed": a_preference_job(training=LONG, finetuning=DROPOUT, data=STREAMED),
    "dpo judged streamed": a_preference_job(
        training=LONG, finetuning={"dpo_loss": "kto"}, data={"dataset": "judged", **STREAMED}
    ),
}
ALL = EVERY | MORE


class Killed(Exception):
    """In place of a signal: the attempt ends where it stands."""


@pytest.fixture(autouse=True)
def _every_update_is_told(monkeypatch):
    monkeypatch.setattr("worker.stages.callbacks.PROGRESS_SECONDS", 0)


def killed_at_checkpoint(update, step=None):
    """Dies once the checkpoint is sealed and told, before it is measured."""

    def when(message, run):
        told = message["message"] == "checkpoint" and step in (None, message["step"])
        if told and message["global_step"] == update:
            raise Killed

    return when


def wished_after(update, wish):
    """The wish comes once the update is over, and is to be obeyed at the end of the next."""

    def when(message, run):
        progress = message.get("progress", {})
        if progress.get("phase") == "training" and progress["global_step"] == update:
            run.wish = wish

    return when


INTERRUPTIONS = {
    "killed in mid-epoch": killed_at_checkpoint(4),
    "killed where an epoch ends": killed_at_checkpoint(6),
    "stopped in mid-epoch": wished_after(4, "stop"),
    "stopped where an epoch ends": wished_after(2, "stop"),
    "stopped at a checkpoint": wished_after(3, "stop"),
}


@pytest.fixture
def whole_and_joined(host, tmp_path):
    """The same job twice: nothing happens to the one, the other is interrupted and goes on."""

    def run(job, when):
        whole = host.done(job)
        weights = host.weights(whole)
        # the same folders for the same numbers of attempts
        (host.artifacts / "job-1").rename(tmp_path / "whole")
        first = host.attempt(job, when=when)
        second = host.done(job, earlier=[first])
        return whole, weights, first, second

    return run


def require_equal_series(whole, *attempts):
    joined = {update: point for attempt in attempts for update, point in attempt.points().items()}
    assert list(joined) == list(whole.points())
    for update, expected in whole.points().items():
        assert joined[update].keys() == expected.keys()
        for name in expected.keys() - {"tokens_per_second"}:
            assert joined[update][name] == pytest.approx(expected[name], rel=1e-6, abs=1e-6), (update, name)


def killed_after(update):
    """Dies once the update is over and told, wherever the last checkpoint was."""

    def when(message, run):
        progress = message.get("progress", {})
        if progress.get("phase") == "training" and progress.get("epoch") is not None and progress["global_step"] == update:
            raise Killed

    return when


@pytest.mark.parametrize("job", [*EVERY, *(pytest.param(name, marks=pytest.mark.long) for name in MORE)])
def test_in_every_stage_a_run_that_was_killed_at_any_update_equals_one_that_was_not(host, make_llama, tmp_path, job):
    """All that is told and all that is saved: weights, heads, moments, schedules, generators, the state of ppo."""
    add_judge(host, "judge", make_llama(seed=1))
    require_the_same_after_a_kill(host, ALL[job], tmp_path)


@pytest.mark.long
def test_so_does_ppo_that_an_api_scores(host, tmp_path):
    with fake_rewards() as server:
        host.reward_hosts = server.host
        rewarded = {**NORMALISED, "reward_model": server.url, "reward_model_type": "api"}
        require_the_same_after_a_kill(host, a_ppo_job(training=OF_PPO, finetuning=rewarded), tmp_path)


@pytest.mark.long
def test_so_does_ppo_that_an_adapter_scores_which_is_swapped_in_on_the_policys_base(host, tmp_path):
    learned = host.done(a_preference_job(finetuning={"stage": "rm"}, training={"max_steps": 3}, measures={"names": ""}))
    shutil.copytree(host.folder(learned), host.models / "scorer")
    shutil.rmtree(host.artifacts / "job-1")
    rewarded = {**NORMALISED, "reward_model": "scorer", "reward_model_type": "lora"}
    require_the_same_after_a_kill(host, a_ppo_job(training=OF_PPO, finetuning=rewarded), tmp_path)


def require_the_same_after_a_kill(host, job, tmp_path):
    update = random.SystemRandom().randint(3, job["training"]["max_steps"])
    print(f"killed after update {update}")  # pytest shows it where the test fails
    whole = host.done(job)
    kept = saved_in(host.folder(whole))
    (host.artifacts / "job-1").rename(tmp_path / "whole")
    first = host.attempt(job, when=killed_after(update))
    assert isinstance(first.error, Killed)
    second = host.done(job, earlier=[first])
    assert second.events("resumed")[0]["data"]["global_step"] == 2 * ((update - 1) // 2)
    require_equal_series(whole, first, second)
    again = saved_in(host.folder(second))
    assert again.keys() == kept.keys()
    assert [name for name in kept if not same(kept[name], again[name])] == []
    assert first.rows() | second.rows() == whole.rows()


def saved_in(folder):
    """What of a checkpoint the next update depends on."""
    read = {".safetensors": load_file, ".pt": unpickled, ".pth": unpickled, ".json": lambda file: file.read_text()}
    not_ours = ("manifest.json", "trainer_state.json")  # these have speeds in them
    return {
        file.name: read[file.suffix](file)
        for file in sorted(folder.iterdir())
        if file.suffix in read and file.name not in not_ours
    }


def unpickled(file):
    return torch.load(file, weights_only=False)


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(np.array_equal(one, other))


THE_BEST = {"versus_best": None, "versus_leader": None}


@pytest.mark.parametrize("interruption", INTERRUPTIONS)
def test_a_run_that_was_interrupted_equals_one_that_was_not(host, whole_and_joined, interruption):
    whole, weights, first, second = whole_and_joined(SFT, INTERRUPTIONS[interruption])
    assert isinstance(first.error, Killed | Stopped)
    assert max(first.points(), default=0) < 8
    require_equal_series(whole, first, second)
    assert changed(weights, host.weights(second)) == set()
    rows = first.rows() | second.rows()
    expected = whole.rows()
    if set(first.checkpoints()) <= set(whole.checkpoints()):
        assert rows == expected
    else:  # a stop makes a checkpoint more, and what is best may be that one
        for place, row in expected.items():
            assert {**rows[place], **THE_BEST} == {**row, **THE_BEST}


@pytest.mark.parametrize(
    "values",
    [
        {"group_by_length": True},
        pytest.param({"group_by_length": True, "data_seed": 3}, marks=pytest.mark.long),
        pytest.param({"data_seed": 3}, marks=pytest.mark.long),
        {"neftune_noise_alpha": 5.0},
        pytest.param({"optim": "adafactor"}, marks=pytest.mark.long),
        {"bf16": True},
        {"save_strategy": "epoch"},
    ],
    ids=str,
)
def test_so_it_does_with_other_arguments(host, whole_and_joined, values):
    job = a_job(training=LONG | values, finetuning={"lora_dropout": 0.3}, measures={"names": ""})
    if "save_strategy" in values:
        del job["training"]["save_steps"]
    whole, weights, first, second = whole_and_joined(job, wished_after(4, "stop"))
    assert first.checkpoints()[-1] == 5
    require_equal_series(whole, first, second)
    assert changed(weights, host.weights(second)) == set()


def test_so_does_one_whose_gradients_are_scaled(host, whole_and_joined, monkeypatch):
    """As for fp16, which a CPU does not train in: accelerate makes no scaler there. At this scale some updates overflow."""
    begin = Trainer.train

    def train(trainer, *arguments, **named):
        trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=2)
        trainer.accelerator.native_amp = trainer.args.fp16 = True
        return begin(trainer, *arguments, **named)

    monkeypatch.setattr(Trainer, "train", train)
    monkeypatch.setattr(Accelerator, "mixed_precision", "fp16")
    job = a_job(training=LONG, finetuning=DROPOUT, measures={"names": ""})
    whole, weights, first, second = whole_and_joined(job, killed_at_checkpoint(4))
    assert (first.checkpoints(), second.checkpoints()) == ([2, 4], [6, 8])
    require_equal_series(whole, first, second)
    assert changed(weights, host.weights(second)) == set()
    scaler = unpickled(host.folder(second) / "scaler.pt")
    assert 1 < scaler["scale"] < 2.0**127, "some updates were left out"


def test_so_does_one_that_goes_on_with_half_its_batch(host, tmp_path):
    """The rows of every update are the same ones. Without dropout, which draws for each batch."""
    job = a_job(training=LONG, finetuning={"lora_rank": 4}, measures={"names": ""})
    whole = host.done(job)
    (host.artifacts / "job-1").rename(tmp_path / "whole")
    first = host.attempt(job, when=killed_at_checkpoint(4))
    halves = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}
    second = host.done(job | {"training": job["training"] | halves}, earlier=[first])
    assert second.events("resumed")[0]["data"]["global_step"] == 4
    assert [*first.losses(), *second.losses()] == pytest.approx(whole.losses(), rel=1e-5)


def test_so_does_one_that_was_interrupted_again_and_again(host, tmp_path):
    job = SFT
    whole = host.done(job)
    weights = host.weights(whole)
    (host.artifacts / "job-1").rename(tmp_path / "whole")
    attempts = []
    for when in (wished_after(1, "stop"), wished_after(2, "stop"), killed_at_checkpoint(4), wished_after(6, "stop"), None):
        attempts.append(host.attempt(job, earlier=attempts, when=when))
    assert [attempt.checkpoints() for attempt in attempts] == [[2], [3], [4], [6, 7], [8]]
    require_equal_series(whole, *attempts)
    assert changed(weights, host.weights(attempts[-1])) == set()


def test_an_attempt_writes_into_its_own_folder_only(host):
    first = host.attempt(a_job(), when=killed_at_checkpoint(2))
    before = {path: path.stat().st_mtime_ns for path in (host.artifacts / "job-1" / "1").rglob("*")}
    second = host.done(a_job(), earlier=[first])
    assert [message["path"] for message in second.of("checkpoint")] == ["job-1/2/sft/checkpoint-4"]
    assert {path: path.stat().st_mtime_ns for path in (host.artifacts / "job-1" / "1").rglob("*")} == before


# -- which checkpoint it goes on from ----------------------------------------------------------------------------------


def flip_a_byte(folder):
    file = folder / "optimizer.pt"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut_short(folder):
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


DAMAGES = {
    "a byte is flipped": flip_a_byte,
    "a file is cut short": cut_short,
    "there is no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "a file is missing": lambda folder: (folder / "adapter_model.safetensors").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_checkpoint_that_is_not_whole_is_passed_over_for_the_one_before(host, damage):
    job = a_job(training={"save_steps": 1, "max_steps": 3}, measures={"names": ""})
    first = host.attempt(job, when=killed_at_checkpoint(2))
    DAMAGES[damage](host.folder(first))
    second = host.done(job, earlier=[first])
    assert second.notices() == ["sft: checkpoint 2 is no longer whole and is passed over."]
    assert [event["data"]["global_step"] for event in second.events("resumed")] == [1]
    assert second.checkpoints() == [2, 3]
    assert list(second.points()) == [2, 3]


def test_with_no_checkpoint_that_is_whole_it_begins_again(host):
    first = host.attempt(a_job(), when=killed_at_checkpoint(2))
    flip_a_byte(host.folder(first))
    second = host.done(a_job(), earlier=[first])
    assert second.events("resumed") == []
    assert list(second.points()) == [1, 2, 3, 4]


def test_a_checkpoint_that_was_saved_but_not_measured_is_measured_by_the_next_attempt(host):
    whole = host.done(a_job())
    first = host.attempt(a_job(), when=killed_at_checkpoint(2))
    assert first.measured() == [None]
    second = host.done(a_job(), earlier=[first])
    assert second.measured() == [None, 2, 4]
    assert second.rows() == whole.rows()


def test_what_was_measured_is_not_measured_again_and_the_base_is_no_checkpoint(host):
    def killed_at_update_three(message, run):
        if message["message"] == "points" and message["global_step"] == 3:
            raise Killed

    whole = host.done(a_job())
    first = host.attempt(a_job(), when=killed_at_update_three)
    assert first.measured() == [None, 2]
    second = host.done(a_job(), earlier=[first])
    assert second.measured() == [None, 4]
    assert second.rows() == whole.rows()


def test_every_nth_checkpoint_is_counted_over_the_attempts(host):
    job = a_job(training={"save_steps": 1, "max_steps": 5}, measures={"every": 2})
    first = host.attempt(job, when=killed_at_checkpoint(3))
    second = host.done(job, earlier=[first])
    assert first.measured() + second.measured() == [None, 2, None, 4, 5]


def test_a_checkpoint_that_a_stop_made_does_not_shift_which_are_measured(host):
    job = a_job(training={"save_steps": 2, "max_steps": 8}, measures={"every": 2})
    first = host.attempt(job, when=wished_after(2, "stop"))
    assert first.checkpoints() == [2, 3]
    second = host.done(job, earlier=[first])
    assert first.measured() + second.measured() == [None, None, 4, 8]


# -- steps that are done, and wishes -----------------------------------------------------------------------------------


def test_a_step_whose_training_had_ended_is_finished_without_training_again(host):
    job = a_job(finetuning={"plot_loss": True})
    first = host.attempt(job, when=killed_at_checkpoint(4))
    second = host.done(job, earlier=[first])
    assert second.of("points") == second.of("checkpoint") == []
    assert second.measured() == [None, 4]
    (step,) = second.of("step")
    assert (step["output"], step["summary"]) == ("job-1/1/sft/checkpoint-4", {"updates": 4, "epochs": 0.8})
    (picture,) = second.of("artifact")
    assert picture["path"] == "job-1/2/sft/training_loss.png", "an attempt writes into its own folder only"


def two_steps():
    first = {"name": "first", "finetuning": {"finetuning_type": "full"}}
    second = {"name": "second", "model": {"model_name_or_path": "@first"}, "finetuning": {"finetuning_type": "lora"}}
    job = a_job(measures={"names": ""})
    return job | {"finetuning": {}, "steps": [first, second]}


def test_a_finished_step_is_not_run_again(host):
    first = host.attempt(two_steps(), when=killed_at_checkpoint(2, "second"))
    assert isinstance(first.error, Killed)
    second = host.done(two_steps(), earlier=[first])
    assert {message.get("step") for message in second.messages if message["message"] != "progress"} <= {"second", None}
    assert second.checkpoints() == [4]
    assert [message["step"] for message in first.of("step") + second.of("step")] == ["first", "second"]
    assert (second.of("step")[0]["position"], second.of("progress")[0]["progress"]["position"]) == (1, 2)


def test_a_cancelled_run_stops_at_the_next_update_without_a_checkpoint(host):
    attempt = host.attempt(a_job(training={"save_steps": 3, "max_steps": 9}), when=wished_after(2, "cancel"))
    assert isinstance(attempt.error, Stopped)
    assert list(attempt.points()) == [1, 2]
    assert attempt.checkpoints() == attempt.of("step") == []


def test_a_stopped_run_saves_the_next_update_and_leaves_its_measures_to_the_next_attempt(host):
    attempt = host.attempt(a_job(training={"save_steps": 9, "max_steps": 9}), when=wished_after(2, "stop"))
    assert isinstance(attempt.error, Stopped)
    assert list(attempt.points()) == [1, 2, 3]
    assert (attempt.checkpoints(), attempt.measured(), attempt.of("step")) == ([3], [None], [])


def test_a_wish_that_comes_before_training_is_heard_before_a_model_is_loaded(host):
    def between_the_steps(message, run):
        if message["message"] == "step":
            run.wish = "stop"

    job = two_steps()
    first = host.attempt(job, when=between_the_steps)
    assert isinstance(first.error, Stopped)
    assert [event["data"]["step"] for event in first.events("step_started")] == ["first"]
    second = host.done(job, earlier=[first])
    assert [event["data"]["step"] for event in second.events("step_started")] == ["second"]


# -- the loss must be a number -----------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_ends_the_job_and_names_the_update(host):
    job = a_job(training={"learning_rate": 1e30, "lr_scheduler_type": "constant"}, measures={"names": ""})
    error = host.attempt(job | {"finetuning": {"finetuning_type": "full"}}).error
    assert (error.reason, error.where) == (Reason.DIVERGED, {"global_step": 2})
    assert error.sentence.startswith("The loss became nan at update 2. A lower learning_rate")


def test_a_gradient_that_is_not_finite_ends_the_job_though_the_loss_is_a_number(host, monkeypatch):
    """Before the checkpoint that its update would have spoiled; the one before stays, and a retry goes on from it."""
    job = a_job(training={"save_steps": 1}, measures={"names": ""})
    whole = host.done(job)
    norm, calls = torch.nn.utils.clip_grad_norm_, []

    def spoilt(parameters, *arguments, **named):
        parameters = list(parameters)
        calls.append(1)
        if len(calls) == 3:
            next(parameter for parameter in parameters if parameter.grad is not None).grad.fill_(float("inf"))
        return norm(parameters, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.utils, "clip_grad_norm_", spoilt)
        first = host.attempt(job)
    assert (first.error.reason, first.error.where) == (Reason.DIVERGED, {"global_step": 3})
    assert first.error.sentence.startswith("The length of the gradient became ")
    assert (first.checkpoints(), list(first.points())) == ([1, 2], [1, 2])
    assert checkpoints.is_complete(host.folder(first))
    second = host.done(job, earlier=[first])
    assert [event["data"]["global_step"] for event in second.events("resumed")] == [2]
    assert [*first.losses(), *second.losses()] == pytest.approx(whole.losses(), rel=1e-6)


@pytest.mark.parametrize("job", [a_job, a_preference_job])
def test_weights_that_are_not_finite_make_no_checkpoint(host, job):
    """The loss that they give would be known an update later, and there is none after the last."""

    def spoil(message, run):
        if message["message"] == "points" and message["global_step"] == 4:
            next(parameter for parameter in spoilt if parameter.requires_grad).data.fill_(float("nan"))

    spoilt = []
    begin = Trainer.train

    def train(trainer, *arguments, **named):
        spoilt.extend(trainer.model.parameters())
        return begin(trainer, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train", train)
        attempt = host.attempt(job(measures={"names": ""}), when=spoil)
    assert (attempt.error.reason, attempt.error.where) == (Reason.DIVERGED, {"global_step": 4})
    assert attempt.error.sentence.startswith("The weights are no longer all finite after update 4.")
    assert attempt.checkpoints() == [2]
    checkpoints.discard_torn(host.artifacts / "job-1" / "1")
    assert [folder.name for folder in host.folder(attempt).parent.iterdir()] == ["checkpoint-2"]


def test_a_model_that_is_not_finite_is_measured_so_and_not_trained(host, make_llama):
    model = make_llama()
    model.lm_head.weight.data.fill_(float("inf"))
    host.add_model("broken", model)
    attempt = host.attempt(a_job(model={"model_name_or_path": "broken"}))
    assert (attempt.error.reason, attempt.error.where) == (Reason.DIVERGED, {"global_step": 1})
    assert attempt.rows()[None, "cross_entropy"]["value"] is None
    assert attempt.of("points") == attempt.checkpoints() == []
    json.dumps(attempt.messages, allow_nan=False)
