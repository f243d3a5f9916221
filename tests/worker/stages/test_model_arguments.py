"""Whole steps with each model argument: adapters, vocabulary, positions, attention, precision and quantization."""

import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from service.specs.reasons import Reason
from tests.worker.stages.attempts import a_job, a_pretraining_job, changed
from worker.models import attention

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft's own call

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
    told = [file.read_text() for file in host.folder(attempt).glob("*.json")]
    assert not [text for text in told if str(host.root) in text], "a path on this host is nobody's business"


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
    assert new.losses()[0] == pytest.approx(expected.losses()[0], abs=1e-5)
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
    job = steps_on({}, {"model": {"adapter_name_or_path": "@first"}}, training={"max_steps": 2, "lr_scheduler_type": "constant"})
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
    next_one = {"model": {"model_name_or_path": "@first"}}
    by_step = host.done(steps_on({}, next_one, training=ONE, measures={"base": "step"}))
    made = by_step.rows("first")[1, "cross_entropy"]["value"]
    assert by_step.rows("second")[None, "cross_entropy"]["value"] == pytest.approx(made, abs=1e-5)
    by_job = host.done(steps_on({}, next_one, training=ONE))
    base = by_job.rows("first")[None, "cross_entropy"]["value"]
    assert by_job.rows("second")[None, "cross_entropy"]["value"] == pytest.approx(base, abs=1e-5)


def test_a_full_step_on_what_was_made_as_an_adapter_saves_a_whole_model(host):
    job = steps_on({}, {"model": {"model_name_or_path": "@first"}, "finetuning": FULL}, training=ONE, measures=UNMEASURED)
    job["training"]["learning_rate"] = 1e-9
    attempt = host.done(job | {"finetuning": {}})
    expected = whole(host.models / "tiny", host.folder(attempt, "first")).state_dict()
    found = host.weights(attempt, "second")
    assert found.keys() == expected.keys()
    assert all(torch.allclose(found[name], expected[name], atol=1e-6) for name in found)


def test_a_chain_of_adapters_resumes_on_the_same_model(host):
    job = steps_on({}, {"model": {"model_name_or_path": "@first"}}, training={"save_steps": 1, "max_steps": 3})
    expected = host.done(job)

    def stop(message, run):
        if message["message"] == "points" and (message["step"], message["global_step"]) == ("second", 1):
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


# -- vocabulary ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def host_with_marks(host, tmp_path, tokenizer, make_llama):
    """A model "marked" whose tokenizer has two tokens more than the model has rows."""
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.save_pretrained(tmp_path / "marked")
    host.add_model("marked", make_llama(), tmp_path / "marked")
    return host


MARKED = {"template": "chatml"}


def test_the_vocabulary_grows_to_the_tokenizer_when_asked_and_is_refused_otherwise(host_with_marks):
    refused = host_with_marks.attempt(a_job(model=on(model="marked"), data=MARKED)).error
    assert refused.reason == Reason.BAD_MODEL
    assert "With resize_vocab the model grows" in refused.sentence
    attempt = host_with_marks.done(a_job(model=on(model="marked", resize_vocab=True), data=MARKED) | {"finetuning": FULL})
    assert loaded(attempt)["vocabulary"] == 320
    assert {host_with_marks.weights(attempt)[name].shape[0] for name in ("model.embed_tokens.weight", "lm_head.weight")} == {320}


def test_rows_that_grew_under_an_adapter_are_trained_and_live_in_it(host_with_marks):
    host = host_with_marks
    job = a_job(model=on(model="marked", resize_vocab=True), data=MARKED, training={"max_steps": 2})
    attempt = host.done(job)
    assert any("so embed_tokens and lm_head are trained whole" in notice for notice in attempt.notices())
    saved = host.weights(attempt)
    assert saved["base_model.model.model.embed_tokens.weight"].shape == (320, 32)
    # what a later step makes of the checkpoint is what was measured
    steps = [{"name": "first"}, {"name": "second", "model": {"model_name_or_path": "@first"}}]
    chained = host.done(job | {"steps": steps, "measures": {"base": "step"}})
    assert chained.rows("second")[None, "cross_entropy"]["value"] == pytest.approx(
        chained.rows("first")[2, "cross_entropy"]["value"], abs=1e-5
    )
    assert loaded(chained, "second")["vocabulary"] == 320


def test_a_run_whose_vocabulary_grew_resumes_on_the_same_rows(host_with_marks):
    host = host_with_marks
    job = a_job(model=on(model="marked", resize_vocab=True), data=MARKED, training={"save_steps": 1, "max_steps": 3})
    expected = host.done(job)
    resumed = host.done(job, [host.attempt(job, when=stop_after(1))])
    assert resumed.losses() == pytest.approx(expected.losses()[-1:], abs=1e-6)
    assert not changed(host.weights(resumed), host.weights(expected))
    assert resumed.rows()[3, "kl_from_base"]["value"] == pytest.approx(expected.rows()[3, "kl_from_base"]["value"], abs=1e-5)


def stop_after(update):
    def when(message, run):
        if message["message"] == "points" and message["global_step"] == update:
            run.wish = "stop"

    return when


def test_a_continued_adapter_has_no_rows_for_new_tokens(host_with_marks):
    add_adapter(host_with_marks, "a")
    job = a_job(model=on("a", model="marked", resize_vocab=True), data=MARKED) | {"finetuning": {}}
    assert "with create_new_adapter it is merged" in host_with_marks.attempt(job).error.sentence


@pytest.mark.parametrize("resize_vocab", [True, False])
def test_an_adapter_that_brings_the_rows_of_new_tokens_is_gone_on_with(host_with_marks, resize_vocab):
    host = host_with_marks
    steps = [
        {"name": "first", "model": {"resize_vocab": True}},
        {"name": "second", "model": {"adapter_name_or_path": "@first", "resize_vocab": resize_vocab}},
    ]
    job = a_job(model=on(model="marked"), data=MARKED, training={"max_steps": 2}) | {"steps": steps, "measures": {"base": "step"}}
    chained = host.done(job)
    assert loaded(chained, "second")["vocabulary"] == 320
    assert chained.rows("second")[None, "cross_entropy"]["value"] == pytest.approx(
        chained.rows("first")[2, "cross_entropy"]["value"], abs=1e-5
    )
    before, after = (host.weights(chained, step)["base_model.model.model.embed_tokens.weight"] for step in ("first", "second"))
    assert after.shape == (320, 32)
    assert not before.equal(after), "the rows go on training"


def test_nothing_grows_where_every_token_has_a_row(host):
    attempt = host.done(a_job(model=on(resize_vocab=True), training=ONE, measures=UNMEASURED))
    assert loaded(attempt)["vocabulary"] == 300
    assert attempt.notices() == []


# -- positions and attention -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cutoff", "factor"), [(256, 1), (300, 2), (513, 3)])
@pytest.mark.parametrize("rope_scaling", ["linear", "dynamic"])
def test_rope_scaling_stretches_the_positions_to_the_cutoff(host, rope_scaling, cutoff, factor):
    job = a_job(model=on(rope_scaling=rope_scaling), data={"cutoff_len": cutoff}, training=ONE, measures=UNMEASURED)
    attempt = host.done(job | {"finetuning": FULL})
    assert (loaded(attempt)["rope"]["rope_type"], loaded(attempt)["rope"]["factor"]) == (rope_scaling, factor)
    saved = json.loads((host.folder(attempt) / "config.json").read_text())
    assert (saved["rope_parameters"]["rope_type"], saved["rope_parameters"]["factor"]) == (rope_scaling, factor)
    (notice,) = attempt.notices()
    assert ("has the factor 1" in notice) == (factor == 1)


def test_stretched_positions_change_the_loss(host):
    plain, linear = (
        host.done(a_job(model=model, data={"cutoff_len": 300}, training=ONE, measures=UNMEASURED))
        for model in (on(), on(rope_scaling="linear"))
    )
    assert plain.losses() != linear.losses()


def test_what_was_trained_on_stretched_positions_is_merged_into_them(host):
    """The second step does not ask for rope_scaling: the adapter remembers."""
    steps = [
        {"name": "first", "model": {"rope_scaling": "linear"}},
        {"name": "second", "model": {"model_name_or_path": "@first"}},
    ]
    attempt = host.done(a_job(data={"cutoff_len": 300}, training=ONE, measures={"base": "step"}) | {"steps": steps})
    assert loaded(attempt, "second")["rope"] == loaded(attempt, "first")["rope"]
    assert attempt.rows("second")[None, "cross_entropy"]["value"] == pytest.approx(
        attempt.rows("first")[1, "cross_entropy"]["value"], abs=1e-5
    )


def test_shift_attn_trains_in_groups_and_measures_fully(host):
    groups = {"data": {"cutoff_len": 8}, "training": {"max_steps": 2}}
    plain, shifted = (host.done(a_pretraining_job(model=on(shift_attn=shift), **groups)) for shift in (False, True))
    assert (loaded(plain)["attention"], loaded(shifted)["attention"]) == ("sdpa", attention.SHIFTED)
    assert shifted.losses()[0] != pytest.approx(plain.losses()[0], abs=1e-6)
    assert shifted.rows()[None, "cross_entropy"]["value"] == plain.rows()[None, "cross_entropy"]["value"]


def test_shift_attn_goes_with_checkpointed_activations(host):
    groups = {"data": {"cutoff_len": 8}, "training": {"max_steps": 2}, "measures": UNMEASURED}
    again, kept = (
        host.done(a_pretraining_job(model=on(shift_attn=True, disable_gradient_checkpointing=kept), **groups)).losses()
        for kept in (False, True)
    )
    assert again == pytest.approx(kept, abs=1e-6)


def test_flash_attn_says_what_is_used_where_it_is_not_there(host):
    attempt = host.done(a_job(model=on(flash_attn=True), training=ONE, measures=UNMEASURED))
    assert loaded(attempt)["attention"] == "sdpa"
    (notice,) = attempt.notices()
    assert notice == "sft: flash_attn: flash_attn is not installed on this worker; scaled dot product attention is used."


# -- precision and quantization ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("argument", ["upcast_layernorm", "upcast_lmhead_output"])
def test_an_upcast_is_told_where_all_is_fp32_anyway(host, argument):
    attempt = host.done(a_job(model=on(**{argument: True}), training=ONE, measures=UNMEASURED))
    assert attempt.notices() == [f"sft: {argument}: everything is computed in fp32 here anyway."]


QUANTIZED = [
    {"quantization_bit": 4},
    {"quantization_bit": 4, "quantization_type": "fp4", "double_quantization": False},
    {"quantization_bit": 8},
]


@pytest.mark.parametrize("arguments", QUANTIZED)
def test_only_the_adapter_of_a_quantized_model_trains_and_is_measured(host, arguments):
    attempt = host.done(a_job(model=on(**arguments)))
    assert loaded(attempt)["quantization"] == "bitsandbytes"
    plain = host.done(a_job())
    assert loaded(attempt)["trainable_parameters"] == loaded(plain)["trainable_parameters"]
    assert host.weights(attempt).keys() == host.weights(plain).keys()
    # the quantized model is near the whole one, and not the same
    base, whole_base = (run.rows()[None, "cross_entropy"]["value"] for run in (attempt, plain))
    assert base == pytest.approx(whole_base, abs=0.1)
    assert base != whole_base
    assert attempt.rows()[4, "cross_entropy"]["value"] < base
    assert attempt.rows()[4, "kl_from_base"]["value"] > 0


@pytest.mark.parametrize("arguments", QUANTIZED[::2])
def test_a_quantized_run_resumes_where_it_was(host, arguments):
    job = a_job(model=on(**arguments), training={"save_steps": 1, "max_steps": 3})
    expected = host.done(job)
    resumed = host.done(job, [host.attempt(job, when=stop_after(1))])
    assert resumed.losses() == pytest.approx(expected.losses()[-1:], abs=1e-6)
    assert not changed(host.weights(resumed), host.weights(expected))


def test_a_quantized_model_goes_on_with_its_adapter_and_is_merged_in_full_precision(host):
    steps = [
        {"name": "first", "model": {"quantization_bit": 4}},
        {"name": "second", "model": {"quantization_bit": 4, "adapter_name_or_path": "@first"}},
        {"name": "third", "model": {"model_name_or_path": "@second"}, "finetuning": FULL},
    ]
    job = a_job(training={"max_steps": 1, "learning_rate": 1e-9}, measures=UNMEASURED) | {"steps": steps, "finetuning": {}}
    attempt = host.done(job)
    assert loaded(attempt, "third")["quantization"] is None
    expected = whole(host.models / "tiny", host.folder(attempt, "second")).state_dict()
    found = host.weights(attempt, "third")
    assert all(torch.allclose(found[name], expected[name], atol=1e-6) for name in found)


def quantize(host, name, **arguments):
    """Saves the tiny model as it is after quantizing."""
    config = BitsAndBytesConfig(bnb_4bit_compute_dtype=torch.float32, **arguments)
    folder = host.models / "tiny"
    model = AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=config, device_map={"": "cpu"}, local_files_only=True
    )
    model.save_pretrained(host.models / name)
    copy_tokenizer(host, name)


@pytest.mark.parametrize("arguments", [{"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, {"load_in_8bit": True}])
def test_a_model_that_is_quantized_in_its_files_is_taken_as_it_is(host, arguments):
    quantize(host, "packed", **arguments)
    attempt = host.done(a_job(model=on(model="packed", quantization_bit=8)))
    assert any("quantization_bit 8 is not used" in notice for notice in attempt.notices())
    assert attempt.rows()[4, "cross_entropy"]["value"] < attempt.rows()[None, "cross_entropy"]["value"]
    bits = {"quantization_bit": 8 if "load_in_8bit" in arguments else 4, "double_quantization": False}
    if bits["quantization_bit"] == 8:
        del bits["double_quantization"]
    assert attempt.losses() == pytest.approx(host.done(a_job(model=on(**bits))).losses(), abs=1e-5)


def test_a_quantized_model_in_files_is_neither_merged_into_nor_trained_whole(host):
    quantize(host, "packed", load_in_4bit=True)
    add_adapter(host, "a")
    error = host.attempt(a_job(model=on(model="packed"), finetuning=FULL) | {"finetuning": FULL}).error
    assert "can only be trained with finetuning_type lora" in error.sentence
    job = a_job(model=on("a", model="packed"), finetuning={"create_new_adapter": True})
    assert "no adapter can be merged into it ('a')" in host.attempt(job).error.sentence


def test_a_gptq_model_needs_a_library_that_is_named(host, monkeypatch):
    config = host.models / "tiny" / "config.json"
    quantized = {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}}
    config.write_text(json.dumps(json.loads(config.read_text()) | quantized))
    monkeypatch.setattr("worker.models.quantization.find_spec", lambda name: None if name == "gptqmodel" else object())
    error = host.attempt(a_job()).error
    assert error.reason == Reason.MISSING_LIBRARY
    assert error.sentence == "The model is quantized with gptq, and this worker does not have gptqmodel, which reads it."
