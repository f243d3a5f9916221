"""A step that exports to a hub: after its certificate, again without a second commit, and never with a word of the token."""

import json
from dataclasses import replace

import pytest

from service.specs.reasons import Reason
from tests.fake_hub import COMMIT, fake_hub
from worker.export import push
from worker.failures import JobFailure

TOKEN = "hf_verysecret"


@pytest.fixture
def hub(monkeypatch):
    with fake_hub() as hub:
        hub.writer = TOKEN
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
        yield hub


@pytest.fixture
def pushing(host, monkeypatch):
    """A host whose operator lets jobs push, and which has the job's token."""
    plain = host.work

    def work(document, earlier=()):
        return replace(plain(document, earlier), hub=True, hub_push=True, tokens={"export": TOKEN})

    monkeypatch.setattr(host, "work", work)
    return host


def an_export(**groups):
    model = {"model_name_or_path": "tiny", "export_hub_model_id": "ann/tiny", "hf_hub_token": TOKEN}
    data = {"template": "default", "dataset": "pets", "val_size": 2, "cutoff_len": 64}
    return {"do": "export", "model": model, "data": data, **groups}


def test_an_export_is_pushed_after_its_certificate(pushing, hub):
    """export_hub_model_id"""
    attempt = pushing.done(an_export())
    folder = pushing.folder(attempt)
    assert hub.repositories["ann/tiny"] == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert json.loads(hub.repositories["ann/tiny"]["certificate.json"])["passed"] is True
    assert hub.commits[0][:2] == ("ann/tiny", "Export of the step export of job-1")
    done = {"repository": "ann/tiny", "commit": COMMIT, "url": f"{hub.url}/ann/tiny/commit/{COMMIT}"}
    (event,) = attempt.events("pushed")
    assert event["data"] == done
    assert attempt.of("step")[0]["summary"]["pushed"] == done


@pytest.mark.parametrize("private", [True, False])
def test_hub_private_is_what_the_repository_is(pushing, hub, private):
    pushing.done(an_export(export={"hub_private": private}))
    assert hub.private == ({"ann/tiny"} if private else set())


def test_what_does_not_hold_to_its_certificate_is_not_pushed(pushing, hub, monkeypatch):
    monkeypatch.setattr("worker.stages.exporting.certify", lambda *how: fail())
    assert pushing.attempt(an_export()).error.reason is Reason.CERTIFICATE_FAILED
    assert hub.asked == []


def fail():
    raise JobFailure(Reason.CERTIFICATE_FAILED, "It is another model.")


def test_a_job_that_is_tried_again_pushes_what_it_had_written_and_sends_nothing_twice(pushing, hub):
    hub.answers["/commit/main"] = 503
    first = pushing.attempt(an_export())
    assert first.error.reason is Reason.PUSH_FAILED
    assert hub.repositories["ann/tiny"] == {}
    hub.answers.clear()
    second = pushing.done(an_export(), [first])
    assert second.checkpoints() == [], "the export was whole, and is not written again"
    assert len(hub.uploads) == 1
    third = pushing.done(an_export(), [first])
    assert len(hub.commits) == 1
    assert third.of("step")[0]["summary"]["pushed"]["commit"] == COMMIT


def test_the_token_is_in_nothing_that_is_told_written_or_logged(pushing, hub, caplog, capfd):
    caplog.set_level("DEBUG")
    hub.answers["/commit/main"] = 403
    refused = pushing.attempt(an_export())
    assert refused.error.reason is Reason.PUSH_REFUSED
    hub.answers.clear()
    done = pushing.done(an_export())
    printed = capfd.readouterr()
    told = json.dumps([refused.messages, done.messages]) + str(refused.error.where) + str(refused.error)
    assert TOKEN not in told + caplog.text + printed.out + printed.err
    assert not [file for file in pushing.root.rglob("*") if file.is_file() and TOKEN.encode() in file.read_bytes()]
    assert not [name for name, content in hub.repositories["ann/tiny"].items() if TOKEN.encode() in content]


@pytest.mark.parametrize(("allowed", "token", "told"), [(False, TOKEN, "FINEBITS_HUB_PUSH"), (True, None, "hf_hub_token")])
def test_a_worker_that_may_not_or_has_no_token_says_so(pushing, hub, monkeypatch, allowed, token, told):
    work = pushing.work
    tokens = {} if token is None else {"export": token}
    monkeypatch.setattr(pushing, "work", lambda *how: replace(work(*how), hub_push=allowed, tokens=tokens))
    error = pushing.attempt(an_export()).error
    assert error.reason is Reason.PUSH_REFUSED
    assert told in error.sentence
    assert hub.asked == []


def test_progress_says_how_much_is_there(pushing, hub):
    attempt = pushing.done(an_export())
    pushed = [it["progress"] for it in attempt.of("progress") if it["progress"].get("phase") == "pushing"]
    assert pushed[-1]["pushed_bytes"] == pushed[-1]["bytes_to_push"] > 0


def test_every_form_of_weights_that_is_written_is_known_as_one(pushing, hub):
    """Or an earlier push's would stay beside the new ones."""
    attempt = pushing.done(an_export())
    weights = {path.name for path in pushing.folder(attempt).glob("*.safetensors")}
    assert weights
    assert weights <= set(push._weights_of(weights))
