"""Checkpoints on disk: complete when the manifest, with every file's size and hash, has been renamed into place."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
PREFIX = "checkpoint"  # of a folder's name, as transformers has it
_UNFINISHED = f".{MANIFEST}"


def seal(folder: Path, hashed: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Writes the manifest of a folder whose files are all there, and answers its files as {name, size, sha256}.

    Files reach the disk before the manifest does, and the manifest's name before this returns: after a power cut there is
    either a whole checkpoint or one without a manifest. `hashed` has the SHA-256 of files that were hashed as they were written.
    """
    paths = sorted(folder.rglob("*"))
    own = (folder / MANIFEST, folder / _UNFINISHED)
    with ThreadPoolExecutor(1) as pool:  # the disk and the hash are two machines: neither waits for the other
        flushed = [pool.submit(flush, path) for path in paths if path.is_file() and path not in own]
        files = [_entry(folder, path, hashed) for path in paths if path.is_file() and path not in own]
        for each in flushed:
            each.result()
    for path in paths:
        if path.is_dir():
            flush(path)
    write_manifest(folder, files)
    return files


def write_manifest(folder: Path, files: list[dict[str, Any]]) -> None:
    """For files that are all there, and whose hashes are known."""
    temporary = folder / _UNFINISHED
    temporary.write_text(json.dumps({"files": files}, indent=1), encoding="utf-8")
    flush(temporary)
    temporary.rename(folder / MANIFEST)
    flush(folder)
    flush(folder.parent)


def listed(folder: Path) -> list[dict[str, Any]]:
    """The files of a sealed folder, as its manifest has them."""
    files: list[dict[str, Any]] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    return files


def describe(folder: Path, path: Path) -> dict[str, Any]:
    """A file's name in its folder, its size in bytes and its SHA-256, once its bytes are on the disk."""
    flush(path)
    return _entry(folder, path)


def is_complete(folder: Path) -> bool:
    """Whether every file that the manifest lists is there with its size and hash."""
    try:
        return all(_entry(folder, folder / file["name"]) == file for file in listed(folder))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def discard_torn(folder: Path) -> None:
    """Removes the checkpoints below that were never sealed: what a full disk left of them is of no use, and takes room."""
    for torn in folder.glob(f"*/{PREFIX}-*"):
        if not (torn / MANIFEST).exists():
            shutil.rmtree(torn, ignore_errors=True)


def flush(path: Path) -> None:
    """fsync, of a file or of a folder's names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _entry(folder: Path, path: Path, hashed: Mapping[str, str] | None = None) -> dict[str, Any]:
    name = str(path.relative_to(folder))
    return {"name": name, "size": path.stat().st_size, "sha256": (hashed or {}).get(name) or _sha256(path)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
