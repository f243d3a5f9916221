import errno
import hashlib
import json
import os
from pathlib import Path

import pytest

from worker import checkpoints


@pytest.fixture
def folder(tmp_path):
    """A checkpoint of three files, one of them in a folder of its own and one empty."""
    folder = tmp_path / "checkpoint-2"
    (folder / "deeper").mkdir(parents=True)
    (folder / "model.bin").write_bytes(b"0123456789")
    (folder / "deeper" / "state.json").write_text("{}")
    (folder / "empty").write_bytes(b"")
    return folder


def test_files_are_told_by_name_size_and_hash(folder):
    described = {file["name"]: (file["size"], file["sha256"]) for file in checkpoints.seal(folder)}
    assert described == {
        "deeper/state.json": (2, hashlib.sha256(b"{}").hexdigest()),
        "empty": (0, hashlib.sha256(b"").hexdigest()),
        "model.bin": (10, hashlib.sha256(b"0123456789").hexdigest()),
    }


def test_the_manifest_lists_the_files_and_not_itself(folder):
    files = checkpoints.seal(folder)
    assert json.loads((folder / "manifest.json").read_text()) == {"files": files}
    assert checkpoints.seal(folder) == files, "a folder may be sealed again"


def test_a_sealed_folder_is_complete(folder):
    assert not checkpoints.is_complete(folder)
    checkpoints.seal(folder)
    assert checkpoints.is_complete(folder)


def test_a_folder_is_not_complete_before_the_last_rename(folder, monkeypatch):
    def crash(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", crash)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.seal(folder)
    assert not checkpoints.is_complete(folder)
    monkeypatch.undo()
    names = {file["name"] for file in checkpoints.seal(folder)}
    assert "model.bin" in names
    assert checkpoints.is_complete(folder)


def flip(file):
    content = bytearray(file.read_bytes())
    content[3] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: flip(folder / "model.bin"),
        lambda folder: (folder / "model.bin").write_bytes(b"012345678"),
        lambda folder: (folder / "model.bin").write_bytes(b"01234567890"),
        lambda folder: (folder / "model.bin").unlink(),
        lambda folder: (folder / "deeper" / "state.json").unlink(),
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: (folder / "manifest.json").write_text("{"),
        lambda folder: (folder / "manifest.json").write_text("[]"),
        lambda folder: (folder / "manifest.json").write_text('{"files": [{"size": 1}]}'),
        lambda folder: (folder / "manifest.json").write_text('{"files": null}'),
        lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe"),
    ],
)
def test_a_folder_that_was_harmed_is_not_complete(folder, harm):
    checkpoints.seal(folder)
    harm(folder)
    assert not checkpoints.is_complete(folder)


def test_a_folder_that_is_gone_is_not_complete(tmp_path):
    assert not checkpoints.is_complete(tmp_path / "nowhere")


def test_every_file_reaches_the_disk_before_the_manifest_has_its_name_and_the_name_before_sealing_ends(folder, monkeypatch):
    did = []
    flush, rename = os.fsync, Path.rename

    def note_flush(descriptor):
        did.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        flush(descriptor)

    def note_rename(self, target):
        did.append("renamed")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", note_flush)
    monkeypatch.setattr(Path, "rename", note_rename)
    checkpoints.seal(folder)
    before, after = did[: did.index("renamed")], did[did.index("renamed") + 1 :]
    assert {"model.bin", "state.json", "empty"} < set(before)
    assert before[-1] == ".manifest.json"
    assert after == ["checkpoint-2", folder.parent.name], "the folder's names, then the folder's own name"


def test_a_file_that_does_not_reach_the_disk_is_not_sealed(folder, monkeypatch):
    flush = checkpoints.flush

    def full(path):
        if path.name == "model.bin":
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(path)

    monkeypatch.setattr(checkpoints, "flush", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.seal(folder)
    assert not (folder / "manifest.json").exists()


def test_the_names_in_a_folder_inside_reach_the_disk_too(folder, monkeypatch):
    did = []
    flush = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: did.append(Path(os.readlink(f"/proc/self/fd/{fd}")).name) or flush(fd))
    checkpoints.seal(folder)
    assert "deeper" in did


def test_what_a_full_disk_left_unsealed_is_removed_and_nothing_else(tmp_path):
    for name in ("checkpoint-2", "checkpoint-4"):
        (tmp_path / "sft" / name).mkdir(parents=True)
        (tmp_path / "sft" / name / "model.bin").write_bytes(b"0123")
    (tmp_path / "sft" / "loss.png").write_bytes(b"png")
    checkpoints.seal(tmp_path / "sft" / "checkpoint-2")
    checkpoints.discard_torn(tmp_path)
    assert checkpoints.is_complete(tmp_path / "sft" / "checkpoint-2")
    assert sorted(path.name for path in (tmp_path / "sft").iterdir()) == ["checkpoint-2", "loss.png"]


def test_a_checkpoint_s_folder_has_the_name_that_the_trainer_gives_it():
    from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

    assert checkpoints.PREFIX == PREFIX_CHECKPOINT_DIR
