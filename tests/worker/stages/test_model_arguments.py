"""Whole steps with each model argument: adapters, vocabulary, positions, attention, precision and quantization."""

import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from service.specs.reasons import Reason
from tests.worker.stages.attempts import a_job, a_pretraining_job, changed, weights
from worker.models import attention

FULL = {"finetuning_type": "full"}
ONE = {"max_steps": 1}
UNMEASURED = {"names": ""}


def on(*adapters, model="tiny", **arguments):
    return {"model_name_or_path": model} | ({"adapter_name_or_path": ", ".join(adapters)} if adapters else {}) | arguments


def loaded(attempt, step=None):
    """What the event of the step's loaded model says."""
    return next(event["data"] for event in attempt.events("model_loaded") if step in (None, event["data"]["step"]))


def add_adapter(host, name, job=None):
    """A trained adapter among the operator's."""
    made = host.folder(host.done(job or a_job(measures=UNMEASURED)))
    folder = host.models / name
    folder.mkdir()
    for file in ("adapter_config.json", "adapter_model.safetensors", "base_config.json"):
        (folder / file).write_bytes((made / file).read_bytes())
    return folder


def whole(folder, *adapters):
    """The model with the adapters merged into it in order, by peft's own hand."""
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    for adapter in adapters:
        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    return model.eval()


# -- adapters ------------------------------------------------------------------------------------------------------------


def test_training_goes_on_with_the_last_adapter_given(host):
    folder = add_adapter(host, "a")
    once = host.done(a_job(measures=UNMEASURED, training=ONE))
    attempt = host.done(a_job(model=on("a"), measures=UNMEASURED, training=ONE) | {"finetuning": {}})
    assert attempt.losses()[0] < once.losses()[0] - 0.1, "the adapter had learned something"
    before, after = load_file(folder / "adapter_model.safetensors"), host.weights(attempt)
    assert changed(before, after)
    assert all(torch.allclose(before[name], after[name], atol=0.03) for name in before), "it started from its file"
    config = json.loads((host.folder(attempt) / "adapter_config.json").read_text())
    assert (config["r"], config["base_model_name_or_path"]) == (2, "tiny")


def test_the_other_adapters_are_merged_first(host):
    a, b = add_adapter(host, "a"), add_adapter(host, "b", a_job(training={"seed": 7}, measures=UNMEASURED))
    whole(host.models / "tiny", a).save_pretrained(host.models / "merged")
    copy_tokenizer(host, "merged")
    chained = host.done(a_job(model=on("a", "b"), measures=UNMEASURED) | {"finetuning": {}})
    expected = host.done(a_job(model=on("b", model="merged"), measures=UNMEASURED) | {"finetuning": {}})
    assert chained.losses() == pytest.approx(expected.losses(), abs=1e-5)
    assert b.exists()


def copy_tokenizer(host, name):
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (host.models / name / file).write_bytes((host.models / "tiny" / file).read_bytes())


def test_a_new_adapter_begins_where_the_merged_ones_ended(host):
    """B is 0, so the first loss is the merged model's, and create_new_adapter leaves the file given as it was."""
    a = add_adapter(host, "a")
    whole(host.models / "tiny", a).save_pretrained(host.models / "merged")
    copy_tokenizer(host, "merged")
    new = host.done(a_job(model=on("a"), finetuning={"create_new_adapter": True}, measures=UNMEASURED))
    expected = host.done(a_job(model=on(model="merged"), measures=UNMEASURED))
    assert new.losses() == pytest.approx(expected.losses(), abs=1e-5)
    assert loaded(new)["trainable_parameters"] == loaded(expected)["trainable_parameters"]


def test_a_full_training_merges_its_adapter_first(host):
    a = add_adapter(host, "a")
    attempt = host.done(a_job(model=on("a"), training=ONE | {"learning_rate": 1e-9}, measures=UNMEASURED) | {"finetuning": FULL})
    expected = whole(host.models / "tiny", a).state_dict()
    found = host.weights(attempt)
    assert all(torch.allclose(found[name], expected[name], atol=1e-6) for name in found)


def steps_on(first, second, **groups):
    steps = [{"name": "first", **first}, {"name": "second", **second}]
    return a_job(**groups) | {"steps": steps}


def test_what_a_step_made_as_an_adapter_may_be_gone_on_with(host):
    whole_way = host.done(a_job(training={"max_steps": 4, "lr_scheduler_type": "constant"}, measures=UNMEASURED))
    job = steps_on(
        {}, {"model": {"adapter_name_or_path": "@first"}}, training={"max_steps": 2, "lr_scheduler_type": "constant"}
    )
    attempt = host.done(job)
    assert attempt.losses("first") == pytest.approx(whole_way.losses()[:2])
    before, after = host.weights(attempt, "first"), host.weights(attempt, "second")
    assert changed(before, after)
    # the second step's base is what it began with: the first step's last checkpoint
    by_step = host.done(job | {"measures": {"base": "step"}})
    assert by_step.rows("second")[None, "cross_entropy"]["value"] == pytest.approx(
        by_step.rows("first")[2, "cross_entropy"]["value"], abs=1e-5
    )
    assert attempt.rows("second")[None, "cross_entropy"]["value"] == pytest.approx(
        attempt.rows("first")[None, "cross_entropy"]["value"], abs=1e-5
    )


def test_what_a_step_made_as_an_adapter_is_a_whole_model_to_the_next(host):
    attempt = host.done(steps_on({}, {"model": {"model_name_or_path": "@first"}, "finetuning": FULL | {"lora_rank": 8}}
        if False else {"model": {"model_name_or_path": "@first"}}, training={"max_steps": 2}))
    first = attempt.rows("first")
    by_step = host.done(steps_on({}, {"model": {"model_name_or_path": "@first"}}, training=ONE, measures={"base": "step"}))
    assert by_step.rows("second")[None, "cross_entropy"]["value"] == pytest.approx(
        by_step.rows("first")[1, "cross_entropy"]["value"], abs=1e-5
    )
    assert attempt.rows("second")[None, "cross_entropy"]["value"] == pytest.approx(
        first[None, "cross_entropy"]["value"], abs=1e-5
    )
    # its adapter lies on the merged model
    merged = whole(host.models / "tiny", host.folder(attempt, "first"), host.folder(attempt, "second"))
    assert not torch.equal(merged.state_dict()["lm_head.weight"], torch.empty(0))


def test_a_chain_of_adapters_resumes_on_the_same_model(host):
    job = steps_on({}, {"model": {"model_name_or_path": "@first"}}, training={"save_steps": 1, "max_steps": 3})
    expected = host.done(job)

    def stop(message, run):
        if message["message"] == "points" and (message["step"], message["global_step"]) == ("second", 2):
            run.wish = "stop"

    broken = host.attempt(job, when=stop)
    resumed = host.done(job, [broken])
    assert resumed.losses("second") == pytest.approx(expected.losses("second")[-1:], abs=1e-6)
    assert not changed(host.weights(resumed, "second"), host.weights(expected, "second"))


def test_an_adapter_of_another_base_ends_the_job_with_both_named(host, make_llama):
    add_adapter(host, "a")
    host.add_model("wide", make_llama(hidden_size=64))
    error = host.attempt(a_job(model=on("a", model="wide")) | {"finetuning": {}}).error
    assert error.reason == Reason.BAD_MODEL
    assert error.sentence.startswith("The adapter 'a' was made on 'tiny' and does not fit the model 'wide'")


def test_an_adapter_in_bf16_trains_in_bf16(host):
    attempt = host.done(a_job(finetuning={"lora_bf16_mode": True}, measures=UNMEASURED))
    assert {tensor.dtype for tensor in host.weights(attempt).values()} == {torch.bfloat16}
    plain = host.done(a_job(measures=UNMEASURED))
    assert {tensor.dtype for tensor in host.weights(plain).values()} == {torch.float32}
    assert attempt.losses() == pytest.approx(plain.losses(), abs=0.1)
    assert attempt.losses() != plain.losses()
