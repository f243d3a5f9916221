"""A multipart body, whose file goes to the disk as it comes: memory stays flat, and nothing is written twice."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from service.api.errors import BadParameter, UnreadableBody, UnsupportedMediaType
from service.storage.keeping import incoming, sha256_of

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

WRITTEN_AT_ONCE = 2**20
MOST_PARTS, LARGEST_FIELD = 100, 65_536


@dataclass
class Form:
    """The fields as text, and the files by their fields' names: (where it is, what its client calls it)."""

    fields: dict[str, str] = field(default_factory=dict)
    files: dict[str, tuple[Path, str]] = field(default_factory=dict)
    _sha256: dict[str, str] = field(default_factory=dict)

    def text(self, name: str) -> str:
        if name not in self.fields:
            raise BadParameter(f"/{name}", f"{name} is missing.")
        return self.fields[name]

    def file(self, name: str) -> tuple[Path, str]:
        if name not in self.files:
            raise BadParameter(f"/{name}", f"{name} is missing: the file's bytes, as a part of the form with a file name.")
        return self.files[name]

    def sha256(self, name: str) -> str:
        """Of a file, which is read once for it."""
        if name not in self._sha256:
            self._sha256[name] = sha256_of(self.file(name)[0])
        return self._sha256[name]

    def document(self) -> dict[str, Any]:
        """What the form says, however it was cut into parts: the same form sent again is the same document."""
        return {"fields": self.fields, "files": {name: [called, self.sha256(name)] for name, (_, called) in self.files.items()}}


@asynccontextmanager
async def received(request: Request, root: Path) -> AsyncIterator[Form]:
    """The form; its files lie under the artifact root until the block ends. Raises UnreadableBody, UnsupportedMediaType, Away."""
    boundary = _boundary(request)
    with incoming(root) as folder:
        yield await _read(request, boundary, folder)


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise UnsupportedMediaType("Send the file in a form, as multipart/form-data.")
    return options[b"boundary"]


async def _read(request: Request, boundary: bytes, folder: Path) -> Form:
    parts = _Parts(folder)
    waiting = bytearray()
    try:
        parser = MultipartParser(boundary, parts.callbacks)
        async for chunk in request.stream():
            waiting += chunk
            if len(waiting) >= WRITTEN_AT_ONCE:
                await run_in_threadpool(parser.write, bytes(waiting))
                waiting.clear()
        await run_in_threadpool(parser.write, bytes(waiting))
    except FormParserError as error:
        raise UnreadableBody(f"The form cannot be read: {error}") from None
    except ClientDisconnect:
        raise UnreadableBody("The connection ended before the form did.") from None
    finally:
        parts.close()
    if not parts.is_over:
        raise UnreadableBody("The form ends before its last boundary.")
    return parts.form


class _Parts:
    """A form's parts, as the parser comes to them: texts stay in memory, no longer than texts may be, and files go to disk."""

    def __init__(self, folder: Path):
        self.form = Form()
        self.is_over = False
        self._folder = folder
        self._n_parts = 0
        self._headers: dict[bytes, bytes] = {}
        self._header, self._value = bytearray(), bytearray()
        self._field = ""
        self._text = bytearray()
        self._file: BinaryIO | None = None

    @property
    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._open,
            "on_part_data": self._write,
            "on_part_end": self._end,
            "on_end": self._end_all,
        }

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self) -> None:
        self._n_parts += 1
        if self._n_parts > MOST_PARTS:
            raise UnreadableBody(f"The form has more than {MOST_PARTS} parts.")
        self._headers.clear()
        self._text.clear()

    def _end_header(self) -> None:
        self._headers[bytes(self._header).lower()] = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _open(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        self._field = _decoded(options.get(b"name", b""))
        if b"filename" in options:
            path = self._folder / str(self._n_parts)
            self._file = path.open("xb")
            self.form.files[self._field] = (path, _decoded(os.path.basename(options[b"filename"] or b"file")))

    def _write(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(data[start:end])
            return
        if len(self._text) + end - start > LARGEST_FIELD:
            raise UnreadableBody(f"The form's field {self._field[:100]!r} has more than {LARGEST_FIELD} bytes.")
        self._text += data[start:end]

    def _end(self) -> None:
        if self._file is None:
            self.form.fields[self._field] = _decoded(bytes(self._text))
        self.close()

    def _end_all(self) -> None:
        self.is_over = True


def _decoded(raw: bytes) -> str:
    text = raw.decode("utf-8", "replace")
    if "\0" in text:
        raise UnreadableBody("The form holds a null character, which no name or value may.")
    return text
