"""Attempts at one job on hosts that share nothing but an artifact store."""

import shutil

import pytest

from service.specs.reasons import Reason
from tests.worker.stages.attempts import Host, a_job, changed
from worker import deliveries
from worker.run import Stopped


class Killed(Exception):
    """The end of a process, as far as one can be had inside another."""


@pytest.fixture
def host(tmp_path, make_llama, tokenizer_folder):
    host = Host(tmp_path, make_llama, tokenizer_folder)
    host.store_url = f"file://{tmp_path}/store"
    return host


def move(host, name="other-host"):
    host.artifacts = host.root / name
    host.artifacts.mkdir()


def killed_at_checkpoint(number, step=None):
    def when(message, run):
        if message["message"] == "checkpoint" and message["global_step"] == number and step in (None, message["step"]):
            raise Killed

    return when


def a_long_job(**groups):
    return a_job(**{"training": {"save_steps": 2, "max_steps": 40}, "measures": {"names": ""}} | groups)


def test_it_goes_on_from_a_checkpoint_that_it_fetched_and_from_that_alone(host):
    whole = host.done(a_long_job())
    weights = host.weights(whole)
    move(host, "first-host")
    first = host.attempt(a_long_job(), when=killed_at_checkpoint(6))
    assert isinstance(first.error, Killed)
    move(host, "second-host")
    second = host.done(a_long_job(), earlier=[first])
    assert second.notices() == ["sft: checkpoint 6 was fetched from the artifact store."]
    assert [event["data"]["global_step"] for event in second.events("resumed")] == [6]
    assert {**first.points(), **second.points()}.keys() == whole.points().keys()
    for update, values in second.points().items():
        assert values["loss"] == whole.points()[update]["loss"]
    assert changed(weights, host.weights(second)) == set()
    assert [path.name for path in (host.artifacts / "job-1").glob("*/sft/*")] == ["checkpoint-40"], "the rest is in the store"


def test_only_what_was_not_measured_is_fetched_beside_the_newest(host):
    job = a_job(training={"save_steps": 1, "max_steps": 6})
    first = host.done(job)
    first.messages = [
        message
        for message in first.messages
        if not (message["message"] == "checkpoint" and message["global_step"] > 4)
        and not (message["message"] == "measurement" and message["global_step"] in (2, 5, 6))
        and message["message"] != "step"
    ]
    move(host)
    second = host.attempt(job, earlier=[first], when=killed_at_checkpoint(6))
    assert second.notices() == [f"sft: checkpoint {number} was fetched from the artifact store." for number in (4, 2)]
    assert second.measured()[:2] == [None, 2]


def harm(host, attempt, number):
    (message,) = [message for message in attempt.of("checkpoint") if message["global_step"] == number]
    file = host.root / "store" / message["path"] / "optimizer.pt"
    body = bytearray(file.read_bytes())
    body[len(body) // 2] ^= 1
    file.write_bytes(body)


def test_a_checkpoint_that_was_changed_in_the_store_is_passed_over_for_the_one_before(host):
    first = host.attempt(a_long_job(), when=killed_at_checkpoint(6))
    harm(host, first, 6)
    move(host)
    second = host.done(a_long_job(), earlier=[first])
    assert second.notices() == [
        "sft: checkpoint 6 is no longer whole and is passed over.",
        "sft: checkpoint 4 was fetched from the artifact store.",
    ]


def test_a_step_begins_with_what_an_earlier_step_made_on_another_host(host):
    first = {"name": "first", "finetuning": {"finetuning_type": "full"}}
    second = {"name": "second", "model": {"model_name_or_path": "@first"}, "finetuning": {"finetuning_type": "lora"}}
    job = a_job(measures={"names": ""}) | {"finetuning": {}, "steps": [first, second]}
    whole = host.done(job)
    weights = host.weights(whole, "second")
    whole.messages = [message for message in whole.messages if message.get("step") != "second"]
    move(host)
    again = host.done(job, earlier=[whole])
    assert again.notices() == ["first: checkpoint 4 was fetched from the artifact store."]
    assert changed(weights, host.weights(again, "second")) == set()

    move(host, "third-host")
    shutil.rmtree(host.root / "store" / whole.of("checkpoint", "first")[-1]["path"])
    error = host.attempt(job, earlier=[whole]).error
    assert error.reason == Reason.ARTIFACT_STORE


def test_a_checkpoint_that_was_sealed_and_not_sent_is_sent_by_the_next_attempt_on_the_host(host):
    whole = host.done(a_job(training={"max_steps": 6}))
    shutil.rmtree(host.root / "store")
    # of a lost attempt the store has nothing and nobody was told anything: not its points, not its checkpoint
    lost = type(whole)()
    shutil.rmtree(host.artifacts / "job-1")
    host.store_url = ""
    host.attempt(a_job(training={"max_steps": 6}), when=killed_at_checkpoint(4))
    host.store_url = f"file://{host.root}/store"
    second = host.done(a_job(training={"max_steps": 6}), earlier=[lost])
    assert [message["path"] for message in second.of("checkpoint")] == [
        "job-1/1/sft/checkpoint-2",
        "job-1/1/sft/checkpoint-4",
        "job-1/2/sft/checkpoint-6",
    ]
    assert second.losses() == whole.losses()
    assert second.measured() == [None, 2, 4, 6]
    assert (host.root / "store/job-1/1/sft/checkpoint-2/manifest.json").exists()


def test_a_store_that_stays_away_fails_the_job_and_a_run_that_must_stop_has_not_failed(host, monkeypatch):
    monkeypatch.setattr(deliveries, "FIRST_PAUSE_SECONDS", 0.01)
    (host.root / "store").write_text("no folder")  # nothing can be put below it
    error = host.attempt(a_long_job()).error
    assert error.reason == Reason.ARTIFACT_STORE
    assert host.store_url in error.sentence

    def stop_at_the_end(message, run):
        if message["message"] == "points" and message["global_step"] == 4:
            run.wish = "stop"

    move(host)
    error = host.attempt(a_job(measures={"names": ""}, training={"save_steps": 10}), when=stop_at_the_end).error
    assert isinstance(error, Stopped)
