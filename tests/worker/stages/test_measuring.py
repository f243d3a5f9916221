import math

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaModel

from service.specs.data import DataArguments
from service.specs.measures import BY_NAME, CATALOGUE, OF_PAIRS, MeasureArguments, measure_of
from service.specs.reasons import Reason
from tests.worker.stages.attempts import a_job, a_pretraining_job
from worker.data.load import Places, Wanted, load_supervised
from worker.models.loading import load_tokenizer
from worker.probes.token import DocumentSums
from worker.stages import supervised
from worker.stages.measuring import by_document

FULL = {"finetuning_type": "full"}


def test_the_base_and_every_checkpoint_are_measured_with_every_measure(host):
    attempt = host.done(a_job())
    assert attempt.measured() == [None, 2, 4]
    names = {measure.name for measure in CATALOGUE if measure.default} - set(OF_PAIRS)
    told = {(update, measure_of(name)) for update, name in attempt.rows()}
    not_of_the_base = {"spectral_entropy", "participation_entropy", "memorized_bits", "membership_auroc", "membership_tpr"}
    assert told == {(update, name) for update in (None, 2, 4) for name in names} - {(None, name) for name in not_of_the_base}
    assert {message["split"] for message in attempt.of("measurement")} == {"validation"}


def test_a_cross_entropy_is_that_of_the_checkpoint_as_it_lies_on_disk(host):
    attempt = host.done(a_job() | {"finetuning": FULL})
    model = AutoModelForCausalLM.from_pretrained(host.folder(attempt), local_files_only=True).eval()
    data = DataArguments(template="default", dataset="pets", val_size=2, cutoff_len=64)
    tokenizer = load_tokenizer(host.models / "tiny")
    documents = load_supervised(
        Places(host.datasets, host.root), Wanted("sft", data, MeasureArguments(), seed=42), tokenizer
    ).evaluation
    bits, tokens = [], []
    for document in documents:
        ids, labels = torch.tensor([document.input_ids]), torch.tensor([document.labels])
        n = int((labels != -100).sum())
        with torch.no_grad():
            bits.append(float(model(input_ids=ids, labels=labels).loss) * n / math.log(2))
        tokens.append(n)
    row = attempt.rows()[4, "cross_entropy"]
    assert row["value"] == pytest.approx(sum(bits) / sum(tokens), rel=1e-5)
    assert (row["n_documents"], row["n_tokens"]) == (2, sum(tokens))
    (last,) = [message for message in attempt.of("measurement") if message["global_step"] == 4]
    assert last["documents"]["nll"] == pytest.approx(bits, rel=1e-5)
    assert last["documents"]["n_tokens"] == tokens
    (base,) = [message for message in attempt.of("measurement") if message["global_step"] is None]
    assert [len(text["scored"]) for text in base["documents"]["shown"]["texts"]] == tokens
    shown = [sum(bits) for bits in last["documents"]["shown"]["bits"]]
    assert shown == pytest.approx(last["documents"]["nll"], abs=0.001 * max(tokens)), "what is shown token by token is the same"
    assert last["documents"]["text"] == base["documents"]["text"]


def n_documents(attempt):
    """Of how many documents the measures of text were taken."""
    rows = attempt.rows().items()
    return {row["n_documents"] for (_, name), row in rows if BY_NAME[measure_of(name)].on in ("tokens", "hidden")}


def test_only_the_measures_that_are_named_are_told(host):
    attempt = host.done(a_job(measures={"names": "entropy, kl_to_base"}))
    assert {name for _, name in attempt.rows()} == {"entropy", "kl_to_base"}
    assert attempt.measured() == [None, 2, 4], "the sums are kept all the same"


def test_with_no_measure_named_nothing_is_measured(host, monkeypatch):
    in_evaluation = []
    forward = LlamaModel.forward

    def spy(self, *arguments, **named):
        in_evaluation.append(not self.training)
        return forward(self, *arguments, **named)

    monkeypatch.setattr(LlamaModel, "forward", spy)
    attempt = host.done(a_job(measures={"names": ""}, data={"val_size": 0}))
    assert attempt.of("measurement") == attempt.events("measured") == attempt.notices() == []
    before_training = in_evaluation.index(False)
    assert before_training <= 1, "the loss is held once against the model's own"
    assert not any(in_evaluation[before_training:])


@pytest.mark.parametrize(("every", "measured"), [(1, [None, 1, 2, 3, 4, 5]), (2, [None, 2, 4, 5]), (9, [None, 5])])
def test_every_nth_checkpoint_is_measured_and_the_last_always(host, every, measured):
    values = {"save_steps": 1, "max_steps": 5}
    assert host.done(a_job(training=values, measures={"every": every})).measured() == measured


def test_a_sample_of_documents_is_measured(host):
    attempt = host.done(a_job(data={"val_size": 6}, measures={"max_documents": 3}, training={"max_steps": 1}))
    assert n_documents(attempt) == {3}


def test_a_data_set_of_its_own_is_measured(host):
    attempt = host.done(a_job(measures={"dataset": "others"}, training={"max_steps": 1}))
    assert {message["split"] for message in attempt.of("measurement")} == {"dataset"}
    assert n_documents(attempt) == {5}
    assert attempt.notices() == []


def test_training_rows_stand_in_with_a_notice_where_nothing_is_held_out(host):
    attempt = host.done(a_job(data={"val_size": 0}, measures={"train_documents": 4}, training={"max_steps": 1}))
    assert {message["split"] for message in attempt.of("measurement")} == {"train"}
    assert n_documents(attempt) == {4}
    (notice,) = attempt.notices()
    assert "measured on training rows, marked split: train" in notice


@pytest.mark.parametrize("size", [1, 2, 8])
def test_a_measuring_pass_takes_no_more_documents_at_once_than_it_may(host, monkeypatch, size):
    batches = []
    forward = LlamaModel.forward

    def spy(self, *arguments, **named):
        if not self.training and "attention_mask" in named and named["attention_mask"] is not None:
            batches.append(len(named["input_ids"]))
        return forward(self, *arguments, **named)

    monkeypatch.setattr(LlamaModel, "forward", spy)
    monkeypatch.setattr(supervised, "next_token_loss", lambda *_: None)  # which looks at a few tokens, too
    values = {"per_device_eval_batch_size": size, "max_steps": 1}
    attempt = host.done(a_job(training=values, data={"val_size": 5}, measures={"names": "cross_entropy"}))
    assert max(batches) == min(size, 5)
    assert sum(batches) == 2 * 5, "the base and one checkpoint"
    assert attempt.rows()[1, "cross_entropy"]["n_documents"] == 5


def test_a_checkpoint_that_is_better_changes_the_distance_of_the_others_to_the_best(host):
    attempt = host.done(a_job() | {"finetuning": FULL})
    first, second, third = (message["metrics"] for message in attempt.of("measurement"))
    assert {row["global_step"] for row in first} == {None}
    assert {(row["global_step"], (row["versus_best"] or {}).get("global_step")) for row in second} == {(None, 2), (2, None)}
    best = {(row["global_step"], (row["versus_best"] or {}).get("global_step")) for row in third}
    assert best == {(None, 4), (2, 4), (4, None)}


def test_a_measurement_is_told_in_a_sentence(host):
    attempt = host.done(a_job(training={"max_steps": 1}))
    base, checkpoint = (event["text"] for event in attempt.events("measured"))
    value = attempt.rows()[None, "cross_entropy"]["value"]
    assert base.startswith(f"The base: cross-entropy {value:.4f} ± ")
    assert base.endswith(" bits/token on 2 documents.")
    assert checkpoint.startswith("Checkpoint 1: cross-entropy ")


def test_windows_of_one_text_are_one_document(host):
    attempt = host.done(a_pretraining_job(data={"cutoff_len": 8}, training={"max_steps": 1}))
    (base, _) = attempt.of("measurement")
    tokenizer = load_tokenizer(host.models / "tiny")
    tokens = len(tokenizer("the quick brown fox jumps over the lazy dog 10", add_special_tokens=False)["input_ids"])
    assert len(base["documents"]["nll"]) == 2
    assert tokens - 1 <= min(base["documents"]["n_tokens"]) <= max(base["documents"]["n_tokens"]) <= tokens
    assert tokens > 8, "or a text would be one window"


def test_texts_of_a_token_or_none_are_measured_as_far_as_they_go(host):
    """A text without a token is no document; one of a single token costs what that costs behind EOS."""
    host.add_dataset("short", [{"text": text} for text in ("", "a", "ab", "", "日")], columns={"prompt": "text"})
    attempt = host.done(a_pretraining_job(data={"val_size": 0}, measures={"dataset": "short"}))
    row, in_bytes = attempt.rows()[4, "cross_entropy"], attempt.rows()[4, "bits_per_byte"]
    assert (row["n_documents"], in_bytes["n_documents"]) == (3, 3)
    assert row["value"] * row["n_tokens"] == pytest.approx(in_bytes["value"] * 6), "six bytes in all"
    assert math.isfinite(row["standard_error"])
    assert len(attempt.of("measurement")[-1]["documents"]["nll"]) == 3


def test_answers_of_nothing_score_what_ends_them_and_have_no_bytes(host):
    host.add_dataset("silent", [{"instruction": "what says the cat", "output": ""}] * 4)
    attempt = host.done(a_job(measures={"dataset": "silent"}))
    rows = attempt.rows()
    assert rows[4, "cross_entropy"]["n_tokens"] == 4
    assert (4, "bits_per_byte") not in rows
    assert rows[4, "kl_from_base"]["value"] > 0
    (row, *_) = [row for (step, name), row in rows.items() if step == 4 and name.startswith("effective_rank:")]
    assert (row["value"], row["interval_reason"]) == (None, "The hidden states are all alike.")


def test_texts_without_any_token_are_refused_with_the_reason(host):
    host.add_dataset("silent", [{"text": ""}] * 4, columns={"prompt": "text"})
    error = host.attempt(a_pretraining_job(data={"val_size": 0}, measures={"dataset": "silent"})).error
    assert (error.reason, error.sentence) == (Reason.BAD_DATA, "No rows are left to measure on.")


def test_sums_of_windows_add_up_to_their_documents_sums():
    windows = DocumentSums([1, 2, 3], [4, 5, 6], [0.5, 1.0, 2.0], [1.0, 1.0, 1.0], None, [0.0, 0.25, 0.5])
    assert by_document(windows, [0, 0, 1]) == DocumentSums([3, 3], [9, 6], [1.5, 2.0], [2.0, 1.0], None, [0.25, 0.5])
