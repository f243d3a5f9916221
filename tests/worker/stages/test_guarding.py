"""Alerts and guards of whole steps. The thresholds are of measures, which a tiny model passes when it should."""

import math

import pytest
import torch

from service.specs.reasons import Reason
from tests.worker.stages.attempts import a_job, a_pretraining_job
from worker.run import Stopped
from worker.stages.measuring import Measuring

# Six updates, a checkpoint after each.
VALUES = {"max_steps": 6, "save_steps": 1, "lr_scheduler_type": "constant", "learning_rate": 5e-3}
FULL = {"finetuning_type": "full"}


def a_guarded_job(*guards, **groups):
    measures = {"guards": [{"when": when, "then": then} for when, then in guards]} | groups.pop("measures", {})
    return a_job(measures=measures, training=VALUES | groups.pop("training", {}), **groups) | {"finetuning": FULL}


def acted(attempt):
    return [
        (message["global_step"], guard["data"]["when"], guard["data"]["then"])
        for message in attempt.of("measurement")
        for guard in message["guards"]
    ]


def output(attempt):
    (step,) = attempt.of("step")
    return int(step["output"].rpartition("-")[2])


def cross_entropies(attempt, split="validation"):
    """By checkpoint, as they were told."""
    return {
        row["global_step"]: row["value"]
        for message in attempt.of("measurement")
        if message["split"] == split
        for row in message["metrics"]
        if row["measure"] == "cross_entropy" and row["global_step"] is not None
    }


class Killed(Exception):
    """In place of a signal."""


def killed_after_measuring(update):
    def when(message, run):
        if message["message"] == "measurement" and message["global_step"] == update:
            raise Killed

    return when


def test_without_guards_a_step_ends_with_its_last_checkpoint(host):
    attempt = host.done(a_guarded_job())
    assert (acted(attempt), output(attempt)) == ([], 6)


def test_a_guard_stops_a_step_at_its_checkpoint_and_keeps_the_best(host, monkeypatch):
    # which is the best of one measured checkpoint is no question: another is named here, to see that it is taken
    monkeypatch.setattr(Measuring, "kept", lambda self: 1 if "stop" in self._guards.acted else None)
    attempt = host.done(a_guarded_job(("cross_entropy < 100", "stop"), measures={"every": 2}))
    assert acted(attempt) == [(2, "cross_entropy < 100", "stop")]
    assert attempt.checkpoints() == [1, 2], "no update after it"
    assert output(attempt) == 1
    (step,) = attempt.of("step")
    assert step["summary"]["updates"] == 2


def test_a_later_step_goes_on_from_the_checkpoint_that_was_kept(host):
    steps = [
        {"name": "one", "measures": {"guards": [{"when": "cross_entropy > 0", "then": "stop"}]}},
        {"name": "two", "model": {"model_name_or_path": "@one"}},
    ]
    attempt = host.done(a_guarded_job() | {"steps": steps})
    assert attempt.checkpoints("one") == [1]
    assert attempt.checkpoints("two") == [1, 2, 3, 4, 5, 6]
    assert [step["output"].split("/")[-2:] for step in attempt.of("step")] == [["one", "checkpoint-1"], ["two", "checkpoint-6"]]


def test_keep_best_goes_on_and_ends_with_the_best(host):
    """At so high a rate the model gets worse after a while."""
    job = a_guarded_job(("cross_entropy > 0", "keep_best"), training={"learning_rate": 0.3})
    attempt = host.done(job)
    assert attempt.checkpoints() == [1, 2, 3, 4, 5, 6]
    assert acted(attempt) == [(at, "cross_entropy > 0", "keep_best") for at in range(1, 7)]
    bits = cross_entropies(attempt)
    assert min(bits, key=bits.get) != 6, "or the last would be the best"
    assert output(attempt) == min(bits, key=bits.get)


def test_an_attempt_that_dies_of_nothing_but_bad_luck_stops_all_the_same(host):
    """The guard's word went with the measurement; what it means is found again from what was measured."""
    job = a_guarded_job(("cross_entropy > 0", "stop"), measures={"every": 2})
    first = host.attempt(job, when=killed_after_measuring(2))
    assert isinstance(first.error, Killed)
    second = host.done(job, earlier=[first])
    assert second.checkpoints() == []
    assert acted(first) + acted(second) == [(2, "cross_entropy > 0", "stop")], "told once"
    assert output(second) == output(host.done(job)) == 2


def test_a_guard_that_pauses_stops_at_its_checkpoint_and_once(host):
    job = a_guarded_job(("cross_entropy > 0", "pause"), measures={"every": 3})
    first = host.attempt(job)
    assert isinstance(first.error, Stopped)
    assert first.checkpoints() == [1, 2, 3], "no update after it"
    assert first.of("step") == []
    second = host.attempt(job, earlier=[first])
    assert acted(first) + acted(second) == [(at, "cross_entropy > 0", "pause") for at in (3, 6)], "of what was seen, no more"
    assert second.checkpoints() == [4, 5, 6]
    assert output(host.done(job, earlier=[first, second])) == 6


def test_the_tests_of_a_job_that_was_interrupted_are_those_of_one_that_was_not(host):
    job = a_guarded_job(data={"val_size": 6})
    first = host.attempt(job, when=killed_after_measuring(3))
    second = host.done(job, earlier=[first])
    joined = [test for attempt in (first, second) for message in attempt.of("measurement") for test in message["alerts"]]
    whole = [test for message in host.done(job).of("measurement") for test in message["alerts"]]
    assert [(test["global_step"], test["alert"], test["k"]) for test in joined] == [
        (test["global_step"], test["alert"], test["k"]) for test in whole
    ]
    for ours, theirs in zip(joined, whole, strict=True):
        assert ours == {**theirs, "statistic": pytest.approx(theirs["statistic"], rel=1e-4, abs=1e-4)}
    assert {test["k"] for test in joined} == {1, 2, 3, 4, 5, 6}


def test_with_few_documents_there_are_values_and_no_alerts(host):
    attempt = host.done(a_guarded_job(("over_fit", "stop"), ("entropy_collapse", "stop"), training={"learning_rate": 0.3}))
    tests = [test for message in attempt.of("measurement") for test in message["alerts"]]
    assert {test["fires"] for test in tests if test["alert"] != "numeric"} == {None}
    assert {test["fires"] for test in tests if test["alert"] == "numeric"} == {False}
    assert attempt.checkpoints()[-1] == 6
    assert all(attempt.rows()[at, "cross_entropy"]["value"] is not None for at in range(1, 7))


def test_the_anchor_is_measured_beside_the_text_of_the_task(host):
    attempt = host.done(a_guarded_job(("kl_from_base on anchor > 0", "stop"), measures={"anchor": "others"}))
    told = [(message["global_step"], message["split"]) for message in attempt.of("measurement")]
    assert told == [(None, "validation"), (None, "anchor"), (1, "validation"), (1, "anchor")]
    (base, now) = (message for message in attempt.of("measurement") if message["split"] == "anchor")
    assert len(base["documents"]["nll"]) == 5, "the rows of the data set"
    assert base["documents"]["kl_from_base"] == [0.0] * 5
    assert all(bits > 0 for bits in now["documents"]["kl_from_base"])
    assert acted(attempt) == [(1, "kl_from_base on anchor > 0", "stop")]
    assert {test["alert"] for test in now["alerts"]} == {"forgetting", "numeric"}


def test_the_anchor_of_texts_is_measured_by_its_texts(host):
    host.add_dataset("more", [f"the lazy dog sleeps {n}" for n in range(7)])
    attempt = host.done(a_pretraining_job(measures={"anchor": "more", "max_documents": 6}, training={"max_steps": 1}))
    (base, _) = (message for message in attempt.of("measurement") if message["split"] == "anchor")
    assert len(base["documents"]["nll"]) == 6


def test_a_checkpoint_measured_on_one_text_only_is_measured_on_the_other(host):
    job = a_guarded_job(measures={"anchor": "others", "every": 6})
    first = host.attempt(job, when=killed_after_measuring(6))
    assert [message["split"] for message in first.of("measurement") if message["global_step"] == 6] == ["validation"]
    second = host.done(job, earlier=[first])
    assert [message["split"] for message in second.of("measurement") if message["global_step"] == 6] == ["anchor"]


def test_an_empty_anchor_is_refused_with_the_reason(host):
    host.add_dataset("hollow", [{"instruction": "what says the cat" * 30, "output": "the cat"}])
    job = a_guarded_job(measures={"anchor": "hollow"}, data={"overlength": "drop"})
    error = host.attempt(job).error
    assert (error.reason, "No rows are left to measure on" in error.sentence) == (Reason.BAD_DATA, True)


def test_a_checkpoint_whose_logits_are_no_numbers_has_no_values_and_the_numeric_alert(host, monkeypatch):
    """Training goes on to where its own loss is not finite: that ends the job, with its reason."""
    measured = Measuring.checkpoint

    def spoilt(self, model, global_step, history):
        if global_step == 3:
            with torch.no_grad():
                model.get_output_embeddings().weight[0] = math.nan
        measured(self, model, global_step, history)

    monkeypatch.setattr(Measuring, "checkpoint", spoilt)
    attempt = host.attempt(a_guarded_job())
    (third,) = [message for message in attempt.of("measurement") if message["global_step"] == 3]
    values = {row["measure"]: row["value"] for row in third["metrics"] if row["global_step"] == 3}
    assert {values[name] for name in ("cross_entropy", "entropy", "bits_per_byte", "kl_from_base")} == {None}
    assert {test["alert"] for test in third["alerts"] if test["fires"]} == {"numeric"}
    assert attempt.error.reason == Reason.NOT_FINITE
    stopped = host.done(a_guarded_job(("numeric", "stop")))
    assert stopped.checkpoints() == [1, 2, 3]
    assert output(stopped) in (1, 2), "one that has numbers"
