"""A file of an artifact store that is elsewhere, answered as one on the disk is: whole, in ranges, or its headers alone."""

import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
from fastapi.responses import FileResponse
from starlette.types import Send

from service.storage.storage import Storage


class StoredFile(FileResponse):
    """FileResponse with another way to open the file: it has all of HTTP's ranges, and they are not written twice."""

    chunk_size = 4 * 2**20  # each is a request to the store

    def __init__(
        self, storage: Storage, key: str, size: int, made_at: float, headers: dict[str, str], media_type: str, filename: str
    ):
        mode, times = stat.S_IFREG | 0o440, (int(made_at),) * 3
        found = os.stat_result((mode, 0, 0, 1, 0, 0, size, *times))
        super().__init__(key, headers=headers, media_type=media_type, filename=filename, stat_result=found)
        self._storage = storage
        self._key = key
        self._size = size

    async def _handle_simple(self, send: Send, send_header_only: bool, send_pathsend: bool) -> None:
        await super()._handle_simple(send, send_header_only, False)  # there is no path that the server could send by itself

    @asynccontextmanager
    async def _open_file(self) -> AsyncIterator[Any]:
        yield _Opened(self._storage, self._key, self._size)


class _Opened:
    """What FileResponse asks of an open file. Threads read: the store's clients wait."""

    def __init__(self, storage: Storage, key: str, size: int):
        self._storage = storage
        self._key = key
        self._size = size
        self._at = 0

    async def seek(self, at: int) -> None:
        self._at = at

    async def read(self, n_bytes: int) -> bytes:
        stop = min(self._at + n_bytes, self._size)
        if stop <= self._at:
            return b""
        block = await anyio.to_thread.run_sync(partial(self._storage.block, self._key, self._at, stop))
        self._at += len(block)
        return block
