import errno
import json
import os
import shutil

import pytest

from service.specs.reasons import Reason
from worker import checkpoints
from worker.export import publishing
from worker.export.publishing import publish, refuse_taken
from worker.failures import JobFailure

JOB, STEP = "job-1", "export"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "exports").mkdir()
    return tmp_path / "exports"


@pytest.fixture
def make(tmp_path):
    """A sealed folder as a step leaves it among the artifacts."""

    def make(name="made", weights=b"weights", job_id=JOB):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(weights)
        (folder / "config.json").write_text("{}")
        (folder / "export.json").write_text(json.dumps({"job_id": job_id, "step": STEP}))
        checkpoints.seal(folder)
        return folder

    return make


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_published_is_the_folder_whole_and_weights_take_no_second_room(root, make):
    folder = make()
    target = publish(folder, root, "pets", JOB, STEP, overwrite=False)
    assert content(target) == content(folder)
    assert checkpoints.is_complete(target)
    assert (target / "model.safetensors").samefile(folder / "model.safetensors")
    assert not (target / "config.json").samefile(folder / "config.json"), "somebody may edit it"
    shutil.rmtree(folder)
    assert checkpoints.is_complete(target), "it outlives the artifacts"


def test_where_no_link_can_be_made_files_are_copied(root, make, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(os, "link", refuse)
    folder = make()
    target = publish(folder, root, "pets", JOB, STEP, overwrite=False)
    assert content(target) == content(folder)
    assert not (target / "model.safetensors").samefile(folder / "model.safetensors")


@pytest.mark.parametrize("exchanges", [True, False])
def test_another_jobs_export_stays_unless_it_may_be_replaced(root, make, monkeypatch, exchanges):
    if not exchanges:

        def refuse(*_):
            raise OSError(errno.EINVAL, "this file system cannot")

        monkeypatch.setattr(publishing, "_renameat2", refuse)
    publish(make("first", b"one", job_id="job-0"), root, "pets", "job-0", STEP, overwrite=False)
    second = make("second", b"two")
    with pytest.raises(JobFailure, match="There is an export 'pets' already") as failure:
        publish(second, root, "pets", JOB, STEP, overwrite=False)
    assert failure.value.reason == Reason.EXPORT_EXISTS
    assert (root / "pets" / "model.safetensors").read_bytes() == b"one"
    publish(second, root, "pets", JOB, STEP, overwrite=True)
    assert (root / "pets" / "model.safetensors").read_bytes() == b"two"
    assert [path.name for path in root.iterdir()] == ["pets"]


def test_one_that_came_meanwhile_is_not_replaced(root, make, monkeypatch):
    monkeypatch.setattr(publishing, "refuse_taken", lambda *_: None)  # it was not there yet when it was looked for
    (root / "pets").mkdir()
    with pytest.raises(JobFailure, match="meanwhile") as failure:
        publish(make(), root, "pets", JOB, STEP, overwrite=False)
    assert failure.value.reason == Reason.EXPORT_EXISTS
    assert [*root.iterdir()] == [root / "pets"]


def test_there_is_always_one_of_the_two_whole_under_the_name(root, make, monkeypatch):
    """At each step of putting the second in the first's place."""
    publish(make("first", b"one", job_id="job-0"), root, "pets", "job-0", STEP, overwrite=False)
    seen = []
    for name in ("_copy", "_move"):
        done = getattr(publishing, name)

        def look(*arguments, done=done):
            seen.append(checkpoints.is_complete(root / "pets"))
            done(*arguments)
            seen.append(checkpoints.is_complete(root / "pets"))

        monkeypatch.setattr(publishing, name, look)
    publish(make("second", b"two"), root, "pets", JOB, STEP, overwrite=True)
    assert seen == [True] * 4


def test_a_disk_that_fills_leaves_what_was_there_and_no_part_of_the_new(root, make, monkeypatch):
    publish(make("first", b"one", job_id="job-0"), root, "pets", "job-0", STEP, overwrite=False)

    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    for name in ("pets", "dogs"):
        with pytest.raises(OSError, match="No space left"):
            publish(make(f"second-{name}", b"two"), root, name, JOB, STEP, overwrite=True)
    assert (root / "pets" / "model.safetensors").read_bytes() == b"one"
    assert [path.name for path in root.iterdir()] == ["pets"]


def test_ones_own_export_is_no_obstacle_and_one_that_is_the_same_is_left_alone(root, make, monkeypatch):
    folder = make()
    publish(folder, root, "pets", JOB, STEP, overwrite=False)
    refuse_taken(root, "pets", JOB, STEP, overwrite=False)
    monkeypatch.setattr(publishing, "_move", None)
    publish(folder, root, "pets", JOB, STEP, overwrite=False)
    monkeypatch.undo()
    publish(make("again", b"other numbers"), root, "pets", JOB, STEP, overwrite=False)
    assert (root / "pets" / "model.safetensors").read_bytes() == b"other numbers"


def test_what_was_damaged_under_its_name_is_put_there_again(root, make):
    folder = make()
    target = publish(folder, root, "pets", JOB, STEP, overwrite=False)
    (target / "config.json").write_text('{"edited": 1}')
    publish(folder, root, "pets", JOB, STEP, overwrite=False)
    assert checkpoints.is_complete(target)


@pytest.mark.parametrize("record", [None, "no JSON", "[]", "{}"])
def test_a_folder_that_no_export_made_is_somebodys(root, record):
    (root / "pets").mkdir()
    if record is not None:
        (root / "pets" / "export.json").write_text(record)
    with pytest.raises(JobFailure, match="already"):
        refuse_taken(root, "pets", JOB, STEP, overwrite=False)
