"""How a file that the service received comes into the artifact store, whole or not at all."""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from service.storage.errors import Away
from service.storage.folder import Folder
from service.storage.storage import Storage

INCOMING = ".incoming"  # under the artifact root, so that a file is moved into place and not copied

# Whoever still receives something in a folder, or reads it, has written there since.
ABANDONED_SECONDS = 86_400.0


@contextmanager
def incoming(root: Path) -> Iterator[Path]:
    """A folder for what is being received; it and all that is in it go when the block ends. What cannot be written is Away."""
    within = root / INCOMING
    with _writing():
        within.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=within))
    try:
        with _writing():
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def clear_incoming(root: Path, files_seconds: float) -> None:
    """Removes what a process that died was receiving: folders that nobody wrote to for a day, and files for `files_seconds`.

    Any number of processes may do so at once.
    """
    for path in (root / INCOMING).glob("*"):
        with suppress(OSError):  # another process is at it, too
            if path.is_dir() and _idle_seconds(path) > ABANDONED_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
            elif path.is_file() and _idle_seconds(path) > files_seconds:
                path.unlink()


def _idle_seconds(path: Path) -> float:
    """Since it, or what is in it, was written to. Its folder's own time is that of the last file that came or went."""
    return time.time() - max(one.stat().st_mtime for one in (path, *path.rglob("*")))


def keep(storage: Storage, root: Path, file: Path, key: str, sha256: str | None = None) -> tuple[int, str]:
    """Moves the file into the store as `key`; its (size, SHA-256), which is found out unless it is given. Raises StorageError."""
    with _writing():
        size, sha256 = file.stat().st_size, sha256 or sha256_of(file)
        with file.open("rb+") as opened:
            os.fsync(opened.fileno())  # whoever is told that it is kept may rely on it
    if not isinstance(storage, Folder):
        storage.put(file, key, size, sha256)
        return size, sha256
    to = root / key
    with _writing():
        to.parent.mkdir(parents=True, exist_ok=True)
        file.replace(to)
    return size, sha256


@contextmanager
def here(storage: Storage, root: Path, key: str, size: int, sha256: str) -> Iterator[Path]:
    """A file of the store on this host, to read until the block ends. Raises StorageError."""
    if isinstance(storage, Folder):
        yield storage.path(key)
        return
    with incoming(root) as folder:
        path = folder / Path(key).name
        storage.fetch(key, path, size, sha256)
        yield path


def sha256_of(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Away(f"What is uploaded cannot be written among the artifacts: {error.strerror or error}.") from error
