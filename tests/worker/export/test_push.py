"""A push against a hub on loopback: made, gone on with, done twice, refused, and never a word of the token."""

import logging
import traceback

import huggingface_hub
import pytest
from huggingface_hub.utils._runtime import is_xet_available

from service.specs.reasons import RETRYABLE, Reason
from tests.fake_hub import COMMIT, fake_hub
from worker.export.push import push
from worker.failures import JobFailure
from worker.run import Stopped

SHARDS = {"model-00001-of-00002.safetensors": b"one" * 500, "model-00002-of-00002.safetensors": b"two" * 500}
OTHERS = {
    "README.md": b"---\nlibrary_name: transformers\n---\n# A model\n",
    "config.json": b"{}",
    "manifest.json": b'{"files": []}',
    "model.safetensors.index.json": b"{}",
}
FILES = SHARDS | OTHERS


@pytest.fixture
def hub(monkeypatch):
    with fake_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", "hf_operators")
        # the library waits 23 seconds before it gives a request up
        monkeypatch.setattr(huggingface_hub.utils._http.time, "sleep", lambda seconds: None)
        yield hub


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "export"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return folder


def pushed(folder, token="hf_writer", private=True, progress=lambda sent, of: None):
    return push(folder, "ann/tiny", token, private, "Export of job-1", progress)


def failure(folder, **how):
    with pytest.raises(JobFailure) as caught:
        pushed(folder, **how)
    return caught.value


def test_every_file_arrives_in_one_commit(hub, folder):
    done = pushed(folder)
    assert hub.repositories["ann/tiny"] == FILES
    assert hub.commits == [("ann/tiny", "Export of job-1", sorted(FILES))]
    assert (done.repository, done.commit, done.url) == ("ann/tiny", COMMIT, f"{hub.url}/ann/tiny/commit/{COMMIT}")


@pytest.mark.parametrize("private", [True, False])
def test_a_repository_that_is_made_is_as_private_as_was_asked(hub, folder, private):
    pushed(folder, private=private)
    assert hub.private == ({"ann/tiny"} if private else set())


def test_the_jobs_token_is_used_and_not_the_operators(hub, folder):
    pushed(folder)
    assert {token for method, _, token in hub.asked if method != "PUT"} == {"Bearer hf_writer"}


def test_large_files_go_by_lfs_whatever_the_library_would_take(hub, folder):
    """Here it would take Xet: the hub on loopback speaks none, and a real one's would not be what these tests have seen."""
    assert is_xet_available()
    pushed(folder)
    assert len(hub.uploads) == len(SHARDS)
    assert not [path for _, path, _ in hub.asked if "xet" in path]
    assert is_xet_available(), "and who downloads finds it as it was"


def test_a_push_that_is_cut_goes_on_with_the_file_that_it_was_cut_in(hub, folder):
    hub.cuts = 1
    pushed(folder)
    assert hub.repositories["ann/tiny"] == FILES
    assert len(hub.uploads) == 2


def test_a_push_that_failed_is_tried_again_without_what_the_hub_has(hub, folder):
    sent = []

    def progress(done, total):
        sent.append(done)
        if done > 1500 and len(sent) < 99:  # the first shard is there: the line is cut for good
            hub.cuts = 99

    found = failure(folder, progress=progress)
    assert found.reason is Reason.PUSH_FAILED
    assert found.reason in RETRYABLE
    assert len(hub.uploads) == 1
    assert hub.repositories["ann/tiny"] == {}, "nothing is to be seen before the commit"
    hub.cuts = 0
    pushed(folder)
    assert len(hub.uploads) == 2
    assert hub.repositories["ann/tiny"] == FILES


def test_pushing_again_what_is_there_changes_nothing(hub, folder):
    pushed(folder)
    again = pushed(folder)
    assert len(hub.commits) == 1
    assert len(hub.uploads) == 2
    assert again.commit == COMMIT


def test_weights_of_an_earlier_push_are_taken_away_and_nothing_else_is(hub, folder):
    hub.add("ann/tiny", LICENSE="mine", figure__png="drawn")
    hub.repositories["ann/tiny"] |= {"model.safetensors": b"old", "model-00003-of-00003.safetensors": b"old", "note.md": b"mine"}
    pushed(folder)
    mine = {"LICENSE": b"mine", "figure.png": b"drawn", "note.md": b"mine"}
    assert hub.repositories["ann/tiny"] == FILES | mine


def test_progress_is_told_between_files_in_bytes(hub, folder):
    told = []
    pushed(folder, progress=lambda sent, of: told.append((sent, of)))
    total = sum(map(len, FILES.values()))
    assert told[0] == (0, total)
    assert told[-1] == (total, total)
    assert told == sorted(told)
    assert len(told) == len(FILES) + 1


def test_a_wish_to_stop_is_heard_between_files(hub, folder):
    def progress(sent, of):
        if sent:
            raise Stopped("stop")

    with pytest.raises(Stopped):
        pushed(folder, progress=progress)
    assert hub.commits == []


def test_a_token_that_may_not_write_is_refused(hub, folder):
    found = failure(folder, token="hf_readers")
    assert found.reason is Reason.PUSH_REFUSED
    assert found.reason not in RETRYABLE
    assert found.sentence == (
        "The hub refuses to take 'ann/tiny' (401): hf_hub_token is none that the hub knows, or it has no right to write there."
    )


@pytest.mark.parametrize(
    ("path", "status", "reason", "told"),
    [
        ("/api/repos/create", 403, Reason.PUSH_REFUSED, "(403): hf_hub_token is none"),
        ("/preupload/main", 403, Reason.PUSH_REFUSED, "(403): hf_hub_token is none"),
        ("/objects/batch", 413, Reason.PUSH_REFUSED, "it answers 413"),
        ("/commit/main", 400, Reason.PUSH_REFUSED, "it answers 400"),
        ("/commit/main", 409, Reason.PUSH_FAILED, "it answers 409. What the hub has by now is not sent again"),
        ("/commit/main", 503, Reason.PUSH_FAILED, "it answers 503"),
        ("/objects/batch", 429, Reason.PUSH_FAILED, "it answers 429"),
    ],
)
def test_each_answer_that_is_none_has_its_reason(hub, folder, path, status, reason, told):
    hub.answers[path] = status
    found = failure(folder)
    assert found.reason is reason
    assert told in found.sentence


def test_a_hub_that_is_not_there_is_said(monkeypatch, folder):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    found = failure(folder)
    assert found.reason is Reason.PUSH_FAILED
    assert "it broke off (ConnectError)" in found.sentence


def test_a_name_that_is_none_is_said(hub, folder):
    with pytest.raises(JobFailure, match="'a/b/c' is no name of a repository"):
        push(folder, "a/b/c", "hf_writer", True, "Export", lambda sent, of: None)


@pytest.mark.parametrize("wrong", ["token", "cut", "status"])
def test_neither_the_token_nor_a_right_to_upload_is_in_what_is_said_or_logged(hub, folder, caplog, capfd, wrong):
    caplog.set_level(logging.DEBUG)
    secret = "hf_verysecret"
    hub.writer = secret if wrong != "token" else "hf_other"
    hub.cuts = 99 if wrong == "cut" else 0
    hub.answers = {"/commit/main": 503} if wrong == "status" else {}
    found = failure(folder, token=secret)
    printed = capfd.readouterr()
    said = [found.sentence, str(found.where), "".join(traceback.format_exception(found)), printed.out, printed.err]
    assert secret not in "".join(said) + caplog.text
    assert "/lfs/" not in "".join(said)
