"""A file of the artifact store, wherever that is, as an answer: whole, in ranges, or its headers alone."""

import mimetypes
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import PurePosixPath
from typing import Any, Protocol

import anyio
from fastapi import Request, Response
from fastapi.responses import FileResponse
from starlette import responses as starlette
from starlette.types import Send

from service.api.errors import Gone, RangeNotSatisfiable, UnreadableRange
from service.api.etags import is_known, quoted
from service.storage.errors import Missing
from service.storage.folder import Folder
from service.storage.storage import Storage

# Bytes. Each block costs a thread's turn and a pass through every middleware; the framework reads 64 kB.
READ_AT_ONCE = 2**19


class Kept(Protocol):
    """A file of the artifact store, as its row describes it."""

    name: Any
    path: Any
    size: Any
    sha256: Any
    created_at: Any


def file_answer(request: Request, storage: Storage, kept: Kept) -> Response:
    """Its bytes, or that they are known. Raises Gone, RangeNotSatisfiable, UnreadableRange."""
    name, etag = kept.name, quoted(kept.sha256)
    if is_known(request, etag):
        return Response(status_code=304, headers={"ETag": etag})
    headers = {"ETag": etag, "X-Content-Type-Options": "nosniff"}
    media_type, filename = mimetypes.guess_type(name)[0] or "application/octet-stream", PurePosixPath(name).name
    try:
        if isinstance(storage, Folder):
            path = storage.path(kept.path)
            stat = path.stat()
            _refuse_bad_range(request, etag, stat.st_size)
            answer = FileResponse(path, headers=headers, media_type=media_type, filename=filename, stat_result=stat)
            answer.chunk_size = READ_AT_ONCE
            return answer
        size = storage.size(kept.path)
    except Missing:
        raise Gone(f"The file {name!r} was made, and is no longer among the artifacts.") from None
    if size != kept.size:
        raise Gone(f"The file {name!r} was made with {kept.size} bytes, and has {size} in the artifact store.")
    _refuse_bad_range(request, etag, size)
    return StoredFile(storage, kept.path, size, kept.created_at, headers, media_type, filename)


def _refuse_bad_range(request: Request, etag: str, size: int) -> None:
    """FileResponse would answer a bad range with plain text; it is asked first, with its own reading of the header."""
    wanted = request.headers.get("range")
    if wanted is None or request.headers.get("if-range", etag) != etag:
        return
    try:
        FileResponse._parse_range_header(wanted, size)
    except starlette.RangeNotSatisfiable:
        raise RangeNotSatisfiable(f"The file has {size} bytes.", {"Content-Range": f"bytes */{size}"}) from None
    except starlette.MalformedRangeHeader as error:
        raise UnreadableRange(f"The header Range cannot be read: {error.content}.") from None


class StoredFile(FileResponse):
    """A file that is elsewhere: FileResponse with another way to open it, since it has all of HTTP's ranges already."""

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
