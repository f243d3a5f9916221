"""How a file that the service received comes into the artifact store, whole or not at all."""

import hashlib
import os
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


def keep(storage: Storage, root: Path, file: Path, key: str) -> tuple[int, str]:
    """Moves the file into the store as `key`; its (size, SHA-256). Raises StorageError."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    if not isinstance(storage, Folder):
        storage.put(file, key, size, sha256)
        return size, sha256
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())  # whoever is told that it is kept may rely on it
    to = root / key
    to.parent.mkdir(parents=True, exist_ok=True)
    file.replace(to)
    return size, sha256
