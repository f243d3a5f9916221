"""How a file that the service received comes into the artifact store, whole or not at all."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from service.storage.folder import Folder
from service.storage.storage import Storage

INCOMING = ".incoming"  # under the artifact root, so that a file is moved into place and not copied


def incoming(root: Path) -> "TemporaryDirectory[str]":
    """A folder for what is being received. It and all that is in it go when the block ends."""
    within = root / INCOMING
    within.mkdir(parents=True, exist_ok=True)
    return TemporaryDirectory(dir=within)


def sha256_of(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def keep(storage: Storage, root: Path, file: Path, key: str, sha256: str | None = None) -> tuple[int, str]:
    """Moves the file into the store as `key`; its (size, SHA-256), which is found out unless it is given. Raises StorageError."""
    size, sha256 = file.stat().st_size, sha256 or sha256_of(file)
    if not isinstance(storage, Folder):
        storage.put(file, key, size, sha256)
        return size, sha256
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())  # whoever is told that it is kept may rely on it
    to = root / key
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
        path = Path(folder, Path(key).name)
        storage.fetch(key, path, size, sha256)
        yield path
