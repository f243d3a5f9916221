"""A file that comes piece by piece, at its end: a thread writes what has come, while more comes and is hashed.

What has come is the file's size: a sender that was cut off asks for it, and goes on from there.
"""

import asyncio
import fcntl
import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Any

from starlette.concurrency import run_in_threadpool

from service.storage.keeping import INCOMING, sha256_of

WRITTEN_AT_ONCE = 4 * 2**20
MOST_PIECES = 1000  # of one call; the system takes 1024
MOST_HASHES = 1000


class OtherOffset(Exception):
    """The piece does not begin where the file ends; `offset` is where it does. Or another is being written at this moment."""

    def __init__(self, offset: int, sentence: str):
        self.offset = offset
        super().__init__(sentence)


class TooMuch(Exception):
    """More has come than the file was announced with. What is too much is not written."""


class Arriving:
    """The files that are being sent to this service, under the artifact root."""

    def __init__(self, root: Path):
        self._folder = root / INCOMING
        self._hashes: OrderedDict[str, tuple[int, Any]] = OrderedDict()  # of as many bytes
        self._lock = threading.Lock()

    def path(self, name: str) -> Path:
        return self._folder / name

    def offset(self, name: str) -> int:
        """How much of it has come."""
        try:
            return self.path(name).stat().st_size
        except FileNotFoundError:
            return 0

    async def take(self, name: str, offset: int, size: int, pieces: AsyncIterator[bytes]) -> int:
        """Writes what comes, behind `offset`, and answers how much there is then. Raises OtherOffset, TooMuch.

        A sender that breaks off leaves what has come; what it raises is raised once that is written.
        """
        with await run_in_threadpool(self._opened, name, offset) as file:
            digest = self._digest(name, offset)
            try:
                return await _written(file, digest, offset, size, pieces)
            finally:
                self._keep(name, os.fstat(file.fileno()).st_size, digest)

    def sha256(self, name: str) -> str:
        """Of all that has come: known, where one process of the service took it all, else read."""
        size, digest = self._hashes.get(name, (-1, None))
        return digest.hexdigest() if digest is not None and size == self.offset(name) else sha256_of(self.path(name))

    def forget(self, name: str) -> None:
        with self._lock:
            self._hashes.pop(name, None)
        self.path(name).unlink(missing_ok=True)

    def _opened(self, name: str, offset: int) -> IO[bytes]:
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self.path(name).open("ab", buffering=0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise OtherOffset(self.offset(name), "Another request is sending a piece of it at this moment.") from None
        if os.fstat(file.fileno()).st_size != offset:
            file.close()
            raise OtherOffset(self.offset(name), f"{self.offset(name)} bytes of it have come: go on from there.")
        return file

    def _digest(self, name: str, offset: int) -> Any:
        """Gone on with where it is of what has come; None where that is not known."""
        known, digest = self._hashes.get(name, (0, hashlib.sha256()))
        return digest if known == offset else None

    def _keep(self, name: str, size: int, digest: Any) -> None:
        with self._lock:
            self._hashes.pop(name, None)
            if digest is not None:
                self._hashes[name] = (size, digest)
            while len(self._hashes) > MOST_HASHES:
                self._hashes.popitem(last=False)


async def _written(file: IO[bytes], digest: Any, offset: int, size: int, pieces: AsyncIterator[bytes]) -> int:
    """At most two lots are in memory: one that is being written, and one that comes."""
    lot: list[bytes] = []
    arrived, of_lot = offset, 0
    writing: asyncio.Task[None] | None = None
    try:
        async for piece in pieces:
            if arrived + len(piece) > size:
                raise TooMuch(f"It was announced with {size} bytes, and more have come.")
            lot.append(piece)
            if digest is not None:
                digest.update(piece)  # a piece takes less than a thread's turn would
            arrived, of_lot = arrived + len(piece), of_lot + len(piece)
            if of_lot >= WRITTEN_AT_ONCE or len(lot) >= MOST_PIECES:
                if writing is not None:
                    await writing
                writing = asyncio.create_task(run_in_threadpool(_write, file, lot))
                lot, of_lot = [], 0
    finally:  # also what came before a sender was cut off
        if writing is not None:
            await writing
        await run_in_threadpool(_write, file, lot)
    return arrived


def _write(file: IO[bytes], lot: list[bytes]) -> None:
    """In one call, nothing copied: each gives the interpreter's lock away, and many would wait for it as often."""
    left = lot
    while left:
        left = _behind(left, os.writev(file.fileno(), left))


def _behind(lot: list[bytes], n_bytes: int) -> list[bytes]:
    """What is left of the pieces."""
    for number, piece in enumerate(lot):
        if n_bytes < len(piece):
            return [piece[n_bytes:], *lot[number + 1 :]]
        n_bytes -= len(piece)
    return []
