"""What the probes are given in a job, and what a job tells of them."""

import json
import math

import numpy as np
import pytest
import torch
from transformers import LlamaModel

from service.specs.data import DataArguments
from service.specs.measures import MeasureArguments
from tests.worker.stages.attempts import DATASETS, a_job, a_preference_job, a_pretraining_job, with_system
from worker.data.load import Places, Wanted
from worker.data.probed import load_labelled, load_without_systems
from worker.failures import JobFailure
from worker.models.loading import load_tokenizer
from worker.probes import memorization
from worker.probes.finding import Finding
from worker.stages import probing, supervised

SHORT = {"max_steps": 1}


def named(*names, **more):
    return {"names": ",".join(names)} | more


def findings(attempt, update):
    (last,) = [message for message in attempt.of("measurement") if message["global_step"] == update]
    return last["documents"]["findings"]


def test_a_task_is_answered_by_the_likeliest_of_its_labels(host):
    with_system(host.datasets, "parity", 12)
    attempt = host.done(a_job(measures=named("equivocation", "fano_bound", task="parity"), training=SHORT))
    row = attempt.rows()[1, "equivocation"]
    assert (row["n_documents"], row["unit"]) == (12, "bits")
    assert 0 <= row["value"] <= 1
    assert row["versus_base"]["interval"] is not None


def test_the_candidates_of_a_task_score_the_answer_alone(host, tokenizer_folder):
    with_system(host.datasets, "parity", 4)
    data = DataArguments(template="default", dataset="pets", cutoff_len=128, train_on_prompt=True)
    wanted = Wanted("sft", data, MeasureArguments(names="equivocation", task="parity"), seed=0)
    task = load_labelled(Places(host.datasets, host.root), wanted, load_tokenizer(tokenizer_folder))
    assert (task.labels, task.truth) == (["no", "yes"], [1, 0, 1, 0])
    tokenizer = load_tokenizer(tokenizer_folder)
    answers = [tokenizer.decode([x for x in example.labels if x != -100]) for example in task.candidates[:2]]
    assert answers == ["no</s>", "yes</s>"]


@pytest.mark.parametrize(("rows", "reason"), [(40, "40 different answers"), (1, "1 different answers")])
def test_a_data_set_with_too_many_answers_or_one_is_no_task(host, rows, reason):
    host.add_dataset("numbers", [{"instruction": "say a number", "output": str(n)} for n in range(rows)])
    attempt = host.attempt(a_job(measures=named("equivocation", task="numbers"), training=SHORT))
    assert isinstance(attempt.error, JobFailure)
    assert reason in str(attempt.error)


def test_a_row_of_a_task_that_does_not_fit_is_told_with_its_place(host):
    with_system(host.datasets, "parity", 4)
    attempt = host.attempt(a_job(measures=named("equivocation", task="parity"), data={"cutoff_len": 12}, training=SHORT))
    assert isinstance(attempt.error, JobFailure)
    assert "longer than cutoff_len 12" in str(attempt.error)


def test_as_many_prompts_are_answered_with_as_many_samples_as_are_asked_for(host, monkeypatch):
    asked = []
    generate = probing.generate

    def spy(model, tokenizer, prompts, settings, samples, *rest):
        asked.append((len(prompts), samples))
        return generate(model, tokenizer, prompts, settings, samples, *rest)

    monkeypatch.setattr(probing, "generate", spy)
    measures = named("compression_ratio", prompts=3, samples=2)
    attempt = host.done(a_job(data={"val_size": 5}, measures=measures, generating={"max_new_tokens": 4}, training=SHORT))
    assert asked == [(3, 2), (3, 2)]
    assert attempt.rows()[1, "compression_ratio"]["n_documents"] == 3


def test_training_and_its_losses_are_the_same_with_probes_and_without(host):
    names = ("compression_ratio", "fisher_information", "attention_entropy", "membership_auroc", "usable_information")
    plain = host.done(a_job(measures={"names": ""}))
    probed = host.done(a_job(measures=named(*names, prompts=2, samples=1), generating={"max_new_tokens": 4}))
    assert plain.losses() == probed.losses()
    assert all(torch.equal(a, b) for a, b in zip(host.weights(plain).values(), host.weights(probed).values(), strict=True))


def test_a_probe_runs_only_when_one_of_its_measures_is_named(host, monkeypatch):
    passes = []
    forward = LlamaModel.forward

    def spy(self, *arguments, **options):
        passes.append(options.get("output_hidden_states") or options.get("output_attentions") or False)
        return forward(self, *arguments, **options)

    monkeypatch.setattr(LlamaModel, "forward", spy)
    monkeypatch.setattr(supervised, "next_token_loss", lambda *_: None)  # which wants the last states, too
    host.done(a_job(measures=named("cross_entropy", "entropy_p50"), training=SHORT))
    assert not any(passes)
    host.done(a_job(measures=named("effective_rank"), training=SHORT))
    assert sum(passes) == 2 * 2, "two documents, of the base and of one checkpoint"


def test_what_was_found_is_compared_again_when_a_job_goes_on(host):
    """The findings are kept with the sums: a later attempt tells the differences to a better checkpoint."""
    document = a_job(measures=named("cross_entropy", "effective_rank"), finetuning={"finetuning_type": "full"})
    del document["finetuning"]["lora_rank"]

    whole = host.done(document)
    kept = findings(whole, 2)
    assert Finding.from_json(kept["effective_rank:layer_1"]).estimate.value == kept["effective_rank:layer_1"]["value"]
    first = host.attempt(document, when=lambda message, run: setattr(run, "wish", "stop") if _is(message, 2) else None)
    second = host.done(document, [first])
    rows = {**first.rows(), **second.rows()}
    best = whole.rows()[2, "effective_rank:layer_1"]["versus_best"]
    assert best is not None
    again = rows[2, "effective_rank:layer_1"]["versus_best"]
    assert again["global_step"] == best["global_step"] == 4
    assert [again["value"], *again["interval"]] == pytest.approx([best["value"], *best["interval"]])


def _is(message, update):
    return message["message"] == "measurement" and message["global_step"] == update


def test_adapter_measures_are_left_out_where_the_defaults_meet_a_whole_model(host):
    document = a_job(training=SHORT) | {"finetuning": {"finetuning_type": "full"}}
    told = {name for _, name in host.done(document).rows()}
    assert "cross_entropy" in told
    assert not told & {"spectral_entropy", "participation_entropy"}


def test_a_model_that_does_not_give_its_states_is_measured_without_them(host, monkeypatch):
    forward = LlamaModel.forward

    def silent(self, *arguments, **options):
        output = forward(self, *arguments, **options)
        output.hidden_states = None
        return output

    monkeypatch.setattr(LlamaModel, "forward", silent)
    told = {name for _, name in host.done(a_job(training=SHORT)).rows()}
    assert {"cross_entropy", "spectral_entropy"} <= told
    assert not any(name.startswith("effective_rank") for name in told)


def test_systems_are_taken_away_and_nothing_else(host, tokenizer_folder):
    with_system(host.datasets, "parity", 6)
    data = DataArguments(template="default", dataset="parity", val_size=3, cutoff_len=128)
    wanted = Wanted("sft", data, MeasureArguments(), seed=0)
    tokenizer = load_tokenizer(tokenizer_folder)
    pairs = load_without_systems(Places(host.datasets, host.root), wanted, tokenizer)
    assert len(pairs) == 3
    for with_it, without in pairs:
        assert [x for x in with_it.labels if x != -100] == [x for x in without.labels if x != -100]
        texts = [tokenizer.decode(example.input_ids) for example in (with_it, without)]
        assert "answer in one word" in texts[0] or "the animals ask" in texts[0]
        assert texts[0].endswith(texts[1].removeprefix("<s>"))


def test_where_no_conversation_has_a_system_text_the_row_says_so(host):
    row = host.done(a_job(measures=named("conditional_mutual_information"), training=SHORT)).rows()[
        1, "conditional_mutual_information"
    ]
    assert (row["value"], row["interval"]) == (None, None)
    assert "No conversation that is measured has a system text" in row["interval_reason"]


def test_texts_of_pretraining_are_probed_by_document(host):
    names = ("effective_rank", "attention_entropy", "entropy_p90", "membership_auroc", "empirical_entropy", "compression_ratio")
    attempt = host.done(
        a_pretraining_job(
            data={"cutoff_len": 8, "val_size": 3},
            measures=named(*names, prompts=2, samples=1),
            generating={"max_new_tokens": 3},
            training=SHORT,
        )
    )
    rows = attempt.rows()
    for name in ("effective_rank:layer_2", "attention_entropy:layer_1", "entropy_p90"):
        assert rows[1, name]["n_documents"] == 3, "windows of one text are one document"
        assert rows[1, name]["value"] > 0


# -- bad input ----------------------------------------------------------------------------------------------------------


def test_a_model_that_diverged_is_told_row_by_row_and_fails_nothing(host, make_llama):
    model = make_llama()
    model.lm_head.weight.data[:] = math.nan
    host.add_model("broken", model)
    measured = []
    document = a_job(
        model={"model_name_or_path": "broken"},
        measures=named("cross_entropy", "entropy_p50", "hartley_entropy", "effective_rank", "hidden_markov_rate_bounds"),
    )
    attempt = host.attempt(document, when=lambda message, run: measured.append(message))
    assert isinstance(attempt.error, JobFailure), "the first loss is nan, which ends the job with a reason of its own"
    rows = attempt.rows()
    for name in ("cross_entropy", "entropy_p50", "hartley_entropy", "hidden_markov_rate_bounds:upper"):
        assert rows[None, name]["value"] is None
        assert rows[None, name]["interval_reason"]
    assert rows[None, "effective_rank:layer_1"]["value"] > 0
    json.dumps(attempt.messages, allow_nan=False)


def test_answers_with_nothing_in_them_are_measured_by_their_end(host):
    """A response shorter than a token still has the token that ends it, which stands for no byte."""
    host.add_dataset("silent", [{"instruction": f"say nothing {n}", "output": ""} for n in range(4)])
    attempt = host.done(a_job(data={"dataset": "silent", "val_size": 2}, training=SHORT))
    rows = attempt.rows()
    assert rows[1, "cross_entropy"]["n_tokens"] == 2
    assert (1, "bits_per_byte") not in rows
    assert np.isfinite(rows[1, "cross_entropy"]["value"])


def test_two_documents_have_values_and_wide_intervals_and_one_has_none(host):
    for size, has in ((2, True), (1, False)):
        attempt = host.done(a_job(data={"val_size": size}, training=SHORT))
        for (_, name), row in attempt.rows().items():
            if row["n_documents"] and name not in ("calibrated_temperature", "membership_tpr"):
                assert (row["interval"] is not None) is has, row["measure"]
                assert (row["interval_reason"] is None) is has
    assert len(DATASETS["pets"]) == 12


@pytest.mark.parametrize(("dataset", "loss", "n_train"), [("better", "sigmoid", 10), ("judged", "kto", 5)])
def test_good_answers_of_either_kind_are_held_against_what_is_held_out(host, monkeypatch, dataset, loss, n_train):
    seen, rows_of = [], memorization.rows_of
    monkeypatch.setattr(memorization, "rows_of", lambda one, of, texts: seen.append(texts) or rows_of(one, of, texts))
    attempt = host.done(a_preference_job(data={"dataset": dataset}, finetuning={"dpo_loss": loss}, training=SHORT))
    assert attempt.rows()[1, "membership_auroc"]["value"] is not None
    train, held_out = seen[-2:]
    assert len(train) == n_train
    assert all(text.startswith("the ") for text in (*train, *held_out)), "the others begin with what"
