"""An export under its name among the operator's exports: there whole, or not there.

It is put together in a hidden folder beside its place and moved there in one step, over an earlier one too: whoever looks finds
the one or the other, and never a part. What a killed attempt left in the hidden folder is thrown away by the next.
"""

import ctypes
import errno
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

from service.specs.reasons import Reason
from worker import checkpoints
from worker.failures import JobFailure

RECORD = "export.json"  # in every export: which job made it, of what
LINKED = (".safetensors", ".bin")  # files that nobody edits, and so may be the same on the disk as those of the artifacts

_NOREPLACE, _EXCHANGE = 1, 2  # of renameat2(2)
_AT_FDCWD = -100
_NOT_HERE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)


def refuse_taken(root: Path, name: str, job_id: str, step: str, overwrite: bool) -> None:
    """Raises JobFailure where there is something under the name that is not this step's own."""
    if (root / name).exists() and not overwrite and not _is_of(root / name, job_id, step):
        sentence = f"There is an export {name!r} already: give another name as export_dir, or set export.overwrite."
        raise JobFailure(Reason.EXPORT_EXISTS, sentence, export_dir=name)


def publish(folder: Path, root: Path, name: str, job_id: str, step: str, overwrite: bool) -> Path:
    """The sealed folder under its name. Raises JobFailure, or the OSError of a disk that is full; nothing is left of it then."""
    target = root / name
    if _is_same(folder, target):
        return target  # an earlier attempt came so far
    staging = root / f".{name}.{job_id}.{step}"
    shutil.rmtree(staging, ignore_errors=True)
    try:
        _copy(folder, staging)
        refuse_taken(root, name, job_id, step, overwrite)
        _move(staging, target, overwrite or _is_of(target, job_id, step))
    finally:
        shutil.rmtree(staging, ignore_errors=True)  # what was there before, or what could not be put together
    return target


def _is_of(folder: Path, job_id: str, step: str) -> bool:
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return bool((record["job_id"], record["step"]) == (job_id, step))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _is_same(folder: Path, target: Path) -> bool:
    """A manifest has every file's hash, so one that is equal and holds is of the same files."""
    with suppress(OSError):
        same = (folder / checkpoints.MANIFEST).read_bytes() == (target / checkpoints.MANIFEST).read_bytes()
        return same and checkpoints.is_complete(target)
    return False


def _copy(folder: Path, to: Path) -> None:
    """Weights are linked where both lie on one file system, and take no room there. Sealed like its original."""
    files = checkpoints.listed(folder)
    for file in files:
        source, target = folder / file["name"], to / file["name"]
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix in LINKED:
            with suppress(OSError):  # another file system, or one without links
                os.link(source, target)
                continue
        shutil.copyfile(source, target)
        checkpoints.flush(target)
    checkpoints.write_manifest(to, files)


def _move(staging: Path, target: Path, replace: bool) -> None:
    """In one step. What was there before is in `staging` afterwards."""
    is_there = target.exists()
    try:
        _renameat2(staging, target, _EXCHANGE if replace and is_there else _NOREPLACE)
    except FileExistsError:
        sentence = f"Another job exported {target.name!r} meanwhile: give another name as export_dir, or set export.overwrite."
        raise JobFailure(Reason.EXPORT_EXISTS, sentence, export_dir=target.name) from None
    except OSError as error:
        if error.errno not in _NOT_HERE:
            raise
        _move_in_two(staging, target, is_there)
    checkpoints.flush(target.parent)


def _move_in_two(staging: Path, target: Path, is_there: bool) -> None:
    """Where a file system cannot exchange names: for a moment there is nothing under the name, and never a part."""
    before = staging.with_name(f"{staging.name}.before")
    if is_there:
        target.rename(before)
    staging.rename(target)
    shutil.rmtree(before, ignore_errors=True)


def _renameat2(source: Path, target: Path, flags: int) -> None:
    """Linux's rename that replaces nothing, or exchanges two names. Raises OSError."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        raise OSError(errno.ENOSYS, "there is no renameat2 here")
    if call(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))
