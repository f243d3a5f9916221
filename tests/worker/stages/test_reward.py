"""The stage rm: pairs through one model with a value head."""

import json
import math

import pytest
import torch

from service.library import plan
from service.library.check import Roots
from service.specs.data import DataArguments
from service.specs.measures import MeasureArguments
from service.specs.read import read_job
from tests.worker.stages.attempts import a_preference_job, changed, training
from worker.data.load import Places, Wanted, load_pairs
from worker.models import value_head
from worker.models.value_head import ValueHead
from worker.stages.reward_trainer import pairwise_losses

LN2 = math.log(2)
TYPES = {
    "lora": {"lora_rank": 2},
    "freeze": {"finetuning_type": "freeze", "num_layer_trainable": 1},
    "full": {"finetuning_type": "full"},
}


def a_job(finetuning=None, **groups):
    """An rm job of four updates on `better`, with checkpoints at 2 and 4."""
    return a_preference_job(finetuning={"stage": "rm"} | (finetuning or {}), **groups)


def head_of(folder):
    return value_head.load(folder, 32).state_dict()


def test_a_loss_is_the_bradley_terry_code_length_in_nats():
    """sigma(ln 3) = 3/4."""
    losses = pairwise_losses(torch.tensor([math.log(3), 0.0]), torch.tensor([0.0, math.log(3)]))
    assert losses.tolist() == pytest.approx([math.log(4 / 3), math.log(4)])


@pytest.mark.parametrize("finetuning_type", TYPES)
def test_a_new_head_begins_at_ln_2_and_learns_which_answer_is_better(host, finetuning_type):
    attempt = host.done(a_job(TYPES[finetuning_type], training=training(max_steps=16, save_steps=16)))
    losses = attempt.losses()
    assert losses[0] == pytest.approx(LN2, abs=1e-7)
    assert losses[-1] < 0.2
    first, last = attempt.points()[1], attempt.points()[16]
    assert [first[f"rewards/{name}"] for name in ("chosen", "rejected", "margins", "accuracies")] == [0, 0, 0, 0]
    assert last["rewards/margins"] == pytest.approx(last["rewards/chosen"] - last["rewards/rejected"], abs=1e-5)
    assert last["rewards/accuracies"] == 1
    rows = attempt.rows()
    assert (rows[None, "preference_cross_entropy"]["value"], rows[None, "reward_accuracy"]["value"]) == (1, 0)
    assert rows[16, "preference_cross_entropy"]["value"] < 0.3
    assert rows[16, "reward_accuracy"]["value"] == 1
    assert rows[16, "preference_cross_entropy"]["versus_base"]["value"] < -0.7
    assert attempt.events("measured")[0]["text"] == "The base: preferences 1.0000 ± 0.000 bits/pair on 2 documents."


def test_the_first_step_moves_the_head_by_half_the_mean_difference_of_last_states(host, make_llama, tokenizer):
    """At s = 0 the gradient of -log sigma(s_c - s_r) is -(h_c - h_r)/2, and the bias has none; SGD goes against it."""
    one = training(per_device_train_batch_size=12, max_steps=1, learning_rate=0.1, optim="sgd", lr_scheduler_type="constant")
    job = a_job({"finetuning_type": "full"}, training=one, data={"val_size": 0}, measures={"names": ""})
    attempt = host.done(job)
    wanted = Wanted("rm", DataArguments(dataset="better", template="default", cutoff_len=64), MeasureArguments(), 42)
    model, differences = make_llama().eval(), []
    for pair in load_pairs(Places(host.datasets, host.root / "cache"), wanted, tokenizer).train:
        ids = [torch.tensor([side.input_ids]) for side in (pair.chosen, pair.rejected)]
        chosen, rejected = (model.model(input_ids=one).last_hidden_state[0, -1] for one in ids)
        differences.append(chosen - rejected)
    expected = 0.1 / 2 * torch.stack(differences).mean(0).detach()
    head = head_of(host.folder(attempt))
    assert torch.allclose(head["summary.weight"][0], expected, atol=1e-6)
    assert head["summary.bias"].item() == pytest.approx(0, abs=1e-9)
    assert attempt.points()[1]["grad_norm"] == pytest.approx(float(expected.norm()) / 0.1, rel=1e-4)


def test_accumulated_batches_are_one_batch_of_pairs(host):
    values = {"max_steps": 3, "save_steps": 3, "per_device_train_batch_size": 4, "data_seed": 1}
    at_once = host.done(a_job(training=training(**values), measures={"names": ""}))
    values |= {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}
    apart = host.done(a_job(training=training(**values), measures={"names": ""}))
    assert apart.losses() == pytest.approx(at_once.losses(), abs=1e-6)
    for update, point in at_once.points().items():
        for name in ("rewards/accuracies", "rewards/margins"):
            assert apart.points()[update][name] == pytest.approx(point[name], abs=1e-5)


@pytest.mark.parametrize("finetuning_type", TYPES)
def test_the_head_is_in_every_checkpoint_beside_the_model_or_the_adapter(host, finetuning_type):
    attempt = host.done(a_job(TYPES[finetuning_type], measures={"names": ""}))
    weights = "adapter_model.safetensors" if finetuning_type == "lora" else "model.safetensors"
    for message in attempt.of("checkpoint"):
        assert {weights, "value_head.safetensors", "tokenizer.json"} <= {file["name"] for file in message["files"]}
    two, four = (host.artifacts / message["path"] for message in attempt.of("checkpoint"))
    assert changed(head_of(two), head_of(four)) == {"summary.weight"}, "the bias cancels, and is no place for rounding to gather"
    assert head_of(four)["summary.bias"].item() == 0


def killed_at_2(message, run):
    if message["message"] == "checkpoint" and message["global_step"] == 2:
        raise KeyError("killed")


@pytest.mark.parametrize("finetuning_type", TYPES)
def test_a_dry_run_counts_what_trains_with_the_head(host, finetuning_type):
    job = a_job(TYPES[finetuning_type], training=training(max_steps=1), measures={"names": ""})
    (event,) = host.done(job).events("model_loaded")
    (planned,) = plan.plan(Roots(host.models, host.datasets), read_job(job).resolved)
    assert planned.trainable_parameters == event["data"]["trainable_parameters"]


@pytest.mark.parametrize("bits", [4, 8])
def test_an_adapter_and_a_head_learn_on_a_quantized_base(host, bits):
    values = {"model": {"quantization_bit": bits}, "measures": {"names": "reward_accuracy"}}
    attempt = host.done(a_job(training=training(max_steps=12, save_steps=12), **values))
    assert attempt.losses()[0] == pytest.approx(LN2, abs=1e-7)
    assert attempt.losses()[-1] < 0.5
    assert attempt.rows()[12, "reward_accuracy"]["value"] == 1


def test_a_reward_model_is_gone_on_with_where_its_head_lies_beside_it(host):
    first = host.done(a_job(TYPES["full"], measures={"names": ""}, training=training(max_steps=8)))
    (host.models / "scorer").mkdir()
    for file in host.folder(first).iterdir():
        if file.name not in ("manifest.json", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"):
            file.rename(host.models / "scorer" / file.name)
    (host.artifacts / "job-1").rename(host.root / "first")
    second = host.done(a_job(model={"model_name_or_path": "scorer"}, measures={"names": "preference_cross_entropy"}))
    assert second.losses()[0] < 0.5
    assert second.rows()[None, "preference_cross_entropy"]["value"] < 0.7


def test_a_checkpoint_without_its_head_is_no_longer_whole(host):
    first = host.attempt(a_job(measures={"names": ""}), when=killed_at_2)
    (host.folder(first) / "value_head.safetensors").unlink()
    second = host.done(a_job(measures={"names": ""}), earlier=[first])
    assert "rm: checkpoint 2 is no longer whole and is passed over." in second.notices()
    assert second.checkpoints() == [2, 4]


def test_pairs_stream_and_are_grouped_by_length(host):
    streamed = host.done(a_job(data={"streaming": True, "buffer_size": 4}, measures={"names": ""}))
    grouped = host.done(a_job(training=training(group_by_length=True), measures={"names": ""}))
    assert len(streamed.losses()) == len(grouped.losses()) == 4
    assert streamed.events("data_loaded")[-1]["data"]["rows"] > 0


def test_bf16_computes_the_score_in_fp32(host, monkeypatch):
    seen = []
    forward = ValueHead.forward

    def spied(self, hidden):
        values = forward(self, hidden)
        seen.append((hidden.dtype, values.dtype))
        return values

    monkeypatch.setattr(ValueHead, "forward", spied)
    host.done(a_job(training=training(bf16=True, max_steps=1), measures={"names": ""}))
    assert torch.float32 in {values for _, values in seen}
    assert {values for _, values in seen} == {torch.float32}


def test_only_the_measures_that_are_named_are_told_and_language_is_measured_on_the_chosen_answers(host):
    attempt = host.done(a_job(measures={"names": "reward_accuracy,cross_entropy"}))
    assert {measure for _, measure in attempt.rows()} == {"reward_accuracy", "cross_entropy"}
    row = attempt.rows()[4, "cross_entropy"]
    assert row["n_documents"] == 2
    rows = {row["instruction"]: row for row in json.loads((host.datasets / "data" / "better.json").read_text())}
    assert row["n_tokens"] < sum(len(row["chosen"]) + 1 for row in rows.values())
