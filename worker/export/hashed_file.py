"""A file whose SHA-256 is known once it is written, without having been read again.

Writing fills the kernel's pages, hashing reads the program's, and the disk takes the pages that are full: all three go on at
once here.
"""

import hashlib
import os
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType

_SMALL = 2**16  # bytes that another thread is not worth
_AT_ONCE = 2**25  # bytes after which the disk is told of them


class HashedFile:
    """A new file, to be written from its start to its end. Raises the OSError of a disk that is full."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._digest = hashlib.sha256()
        self._threads = ThreadPoolExecutor(2, "hash")
        self._written = self._told = 0
        self._telling: Future[None] | None = None

    @property
    def sha256(self) -> str:
        """Of what was written so far, in hexadecimal."""
        return self._digest.hexdigest()

    def __enter__(self) -> "HashedFile":
        self._file = self._path.open("xb")
        return self

    def write(self, data: bytes | memoryview) -> int:
        """As files have it. Nothing of the data is looked at any more when it returns."""
        if len(data) < _SMALL:
            self._digest.update(data)
            self._file.write(data)
        else:
            hashed = self._threads.submit(self._digest.update, data)
            try:
                self._file.write(data)
            finally:
                hashed.result()
        self._written += len(data)
        self._tell_the_disk()
        return len(data)

    def flush(self) -> None:
        self._file.flush()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._threads.shutdown()
        self._file.close()

    def _tell_the_disk(self) -> None:
        """That it begins now with what will have to be there anyway. A hint: `checkpoints.seal` waits for the disk."""
        behind = self._written - self._told
        if behind < _AT_ONCE or (self._telling is not None and not self._telling.done()):
            return
        self._telling = self._threads.submit(_begin_write_back, self._file.fileno(), self._told, behind)
        self._told = self._written


def _begin_write_back(descriptor: int, start: int, length: int) -> None:
    """Pages that are dirty cannot be given up, as the advice has it, before they are on the disk: the kernel begins with that."""
    with suppress(OSError):
        os.posix_fadvise(descriptor, start, length, os.POSIX_FADV_DONTNEED)
