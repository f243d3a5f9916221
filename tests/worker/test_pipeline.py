from typing import get_args

import pytest
import torch

from service.specs.finetuning import FinetuningArguments
from service.specs.ledger import LEDGER
from service.specs.reasons import Reason
from tests.worker.stages.attempts import Host, a_job, changed, weights
from worker.pipeline import STAGES

FULL = {"finetuning_type": "full"}


@pytest.fixture
def host(tmp_path, make_llama, tokenizer_folder):
    return Host(tmp_path, make_llama, tokenizer_folder)


def two_steps(**groups):
    """A full step on the model "tiny", and a LoRA step on what it made."""
    second = {"model": {"model_name_or_path": "@first"}, "finetuning": {"finetuning_type": "lora"}}
    steps = [{"name": "first", "finetuning": FULL}, {"name": "second", **second}]
    return a_job(**{"training": {"max_steps": 2}, **groups}) | {"finetuning": {}, "steps": steps}


def test_every_stage_that_the_spec_takes_is_here():
    stages = get_args(FinetuningArguments.model_fields["stage"].annotation)
    allowed = LEDGER["finetuning.stage"].allowed or stages
    assert set(STAGES) == set(allowed)


def test_a_step_begins_with_what_an_earlier_one_made(host):
    attempt = host.done(two_steps())
    made = host.folder(attempt, "first")
    assert changed(weights(host.models / "tiny"), weights(made))
    begun_with = host.done(a_job(training={"max_steps": 2}, measures={"names": ""}) | {"finetuning": {}})
    assert attempt.losses("second")[0] < begun_with.losses()[0] - 0.1
    finished = attempt.of("step")
    assert [(step["position"], step["step"]) for step in finished] == [(0, "first"), (1, "second")]
    assert [step["output"] for step in finished] == ["job-1/1/first/checkpoint-2", "job-1/1/second/checkpoint-2"]


def test_steps_are_counted_in_the_progress_and_begin_with_an_event(host):
    attempt = host.done(two_steps(measures={"names": ""}))
    told = [message["progress"] for message in attempt.of("progress")]
    assert [(p["step"], p["position"], p["steps"]) for p in told if p["phase"] == "loading"] == [
        ("first", 1, 2),
        ("second", 2, 2),
    ]
    assert [event["text"] for event in attempt.events("step_started")] == [
        "Step first (1 of 2) begins.",
        "Step second (2 of 2) begins.",
    ]


def test_checkpoints_are_compared_with_the_jobs_first_model_or_with_their_own_steps(host):
    by_job, by_step = (host.done(two_steps(measures={"base": base})).rows("second") for base in ("job", "step"))
    first = host.done(two_steps()).rows("first")
    assert by_job[None, "cross_entropy"]["value"] == pytest.approx(first[None, "cross_entropy"]["value"])
    assert by_step[None, "cross_entropy"]["value"] == pytest.approx(first[2, "cross_entropy"]["value"])
    assert by_job[2, "cross_entropy"]["value"] == pytest.approx(by_step[2, "cross_entropy"]["value"])
    # the second step moved a little; the first had moved further
    assert 0 < by_step[2, "kl_from_base"]["value"] < 0.2 * by_job[2, "kl_from_base"]["value"]


@pytest.fixture
def others(host, make_llama, tmp_path, tokenizer):
    """A model "other" that reads other tokens than "tiny"."""
    tokenizer.add_tokens(["forest there"])
    tokenizer.save_pretrained(tmp_path / "other-tokenizer")
    model = make_llama()
    model.resize_token_embeddings(301, mean_resizing=False)
    host.add_model("other", model, tmp_path / "other-tokenizer")


def test_a_first_model_with_another_tokenizer_gives_way_to_the_steps_own_with_a_notice(host, others):
    job = two_steps()
    job["steps"][1]["model"]["model_name_or_path"] = "other"
    attempt = host.done(job)
    (notice,) = attempt.notices()
    assert notice.startswith("second: the model that the job began with has another tokenizer")
    alone = host.done(a_job(model={"model_name_or_path": "other"}, training={"max_steps": 2}) | {"finetuning": {}})
    assert attempt.rows("second")[None, "cross_entropy"] == alone.rows()[None, "cross_entropy"]
    assert attempt.rows("second")[2, "kl_from_base"]["value"] > 0
    in_bytes, of_job = attempt.rows("second")[2, "bits_per_byte"], attempt.rows("first")[None, "bits_per_byte"]
    assert notice.endswith("and in bits per byte with that of the job.")
    assert attempt.rows("second")[None, "bits_per_byte"]["value"] == pytest.approx(of_job["value"]), "in its own tokens"
    assert of_job["value"] != pytest.approx(alone.rows()[None, "bits_per_byte"]["value"], rel=1e-4)
    assert in_bytes["versus_base"]["value"] == pytest.approx(in_bytes["value"] - of_job["value"])
    assert in_bytes["versus_base"]["standard_error"] > 0, "paired on the same bytes"


@pytest.mark.parametrize(
    ("dataset", "finetuning"),
    [("better", {"stage": "dpo"}), ("better", {"stage": "rm"}), ("judged", {"stage": "dpo", "dpo_loss": "kto"})],
    ids=["dpo", "rm", "kto"],
)
def test_answers_of_pairs_are_compared_in_bits_per_byte_with_a_first_model_of_other_tokens(host, others, dataset, finetuning):
    """The very answers, by the model that the job began with and in its tokens."""
    data, measures = {"data": {"dataset": dataset}}, {"measures": {"names": "bits_per_byte"}}
    short = {"training": {"max_steps": 1}, **measures}
    steps = [{"name": "first"}, {"name": "second", "model": {"model_name_or_path": "other"}, "finetuning": finetuning, **data}]
    attempt = host.done(a_job(**short) | {"steps": steps})
    base, last = attempt.rows("second")[None, "bits_per_byte"], attempt.rows("second")[1, "bits_per_byte"]
    alone = host.done(a_job(**short, **data, finetuning=finetuning)).rows()[None, "bits_per_byte"]
    assert (base["value"], base["n_documents"]) == (pytest.approx(alone["value"]), alone["n_documents"])
    assert last["versus_base"]["value"] == pytest.approx(last["value"] - base["value"])
    assert last["versus_base"]["value"] != 0


@pytest.mark.parametrize("name", ["nowhere", "../tiny", "/etc"])
def test_a_model_that_is_not_in_the_models_folder_is_refused(host, name):
    error = host.attempt(a_job(model={"model_name_or_path": name})).error
    assert error.reason == Reason.MISSING_MODEL
    assert str(host.root) not in error.sentence


def without_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize("groups", [{"resources": {"gpus": 1}}, {"training": {"fp16": True}}])
def test_a_job_that_needs_a_gpu_says_so_before_anything_is_loaded(host, monkeypatch, groups):
    without_gpu(monkeypatch)
    attempt = host.attempt(a_job(**groups))
    assert attempt.error.reason == Reason.NO_GPU
    assert attempt.error.sentence.endswith("and this worker has none.")
    assert attempt.messages == []


def test_half_precision_needs_a_gpu_that_the_job_lets_itself_have(host, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    error = host.attempt(a_job(training={"fp16": True}, resources={"gpus": 0})).error
    assert error.reason == Reason.NO_GPU
    assert error.sentence.endswith("and resources.gpus is 0.")


def test_a_job_may_ask_for_the_cpu(host):
    attempt = host.done(a_job(resources={"gpus": 0}, training={"max_steps": 1}, measures={"names": ""}))
    assert list(attempt.points()) == [1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("finetuning", [FULL, {"finetuning_type": "freeze", "num_layer_trainable": 1}, {}])
def test_a_gpu_trains_as_a_cpu_does(host, finetuning):
    on_cpu, on_gpu = (host.done(a_job(resources={"gpus": gpus}) | {"finetuning": finetuning}) for gpus in (0, 1))
    assert on_gpu.losses()[0] == pytest.approx(on_cpu.losses()[0], abs=1e-2)
    assert on_gpu.losses()[-1] < on_gpu.losses()[0]
    assert on_gpu.measured() == [None, 2, 4]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_half_precision_trains_on_a_gpu(host):
    attempt = host.done(a_job(training={"fp16": True}))
    assert attempt.losses()[0] == pytest.approx(host.done(a_job(resources={"gpus": 0})).losses()[0], abs=1e-2)
