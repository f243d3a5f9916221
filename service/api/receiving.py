"""A multipart body, whose file goes to the disk as it comes: memory stays flat, and nothing is written twice."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import FormParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from service.api.errors import BadParameter, UnreadableBody, UnsupportedMediaType
from service.storage.keeping import incoming, sha256_of

WRITTEN_AT_ONCE = 2**20
MOST_FIELDS, LARGEST_FIELD = 100, 65_536


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
    if kind != b"multipart/form-data" or b"boundary" not in options:
        raise UnsupportedMediaType("Send the file in a form, as multipart/form-data.")
    return options[b"boundary"]


async def _read(request: Request, boundary: bytes, folder: Path) -> Form:
    form = Form()
    parser = FormParser(
        "multipart/form-data",
        lambda one: form.fields.update({_name(one.field_name): _decoded(one.value or b"")}),
        lambda one: form.files.update({_name(one.field_name): _on_disk(one, folder)}),
        boundary=boundary,
        config={
            "UPLOAD_DIR": os.fsencode(folder),
            "UPLOAD_DELETE_TMP": False,
            "MAX_MEMORY_FILE_SIZE": 0,
            "MAX_FIELDS": MOST_FIELDS,
            "MAX_FIELD_SIZE": LARGEST_FIELD,
        },
    )
    waiting = bytearray()
    try:
        async for chunk in request.stream():
            waiting += chunk
            if len(waiting) >= WRITTEN_AT_ONCE:
                await run_in_threadpool(parser.write, bytes(waiting))
                waiting.clear()
        await run_in_threadpool(parser.write, bytes(waiting))
        await run_in_threadpool(parser.finalize)
    except FormParserError as error:
        if isinstance(error, OSError):
            raise  # the disk's fault, and not the form's
        raise UnreadableBody(f"The form cannot be read: {error}") from None
    except ClientDisconnect:
        raise UnreadableBody("The connection ended before the form did.") from None
    return form


def _on_disk(file: Any, folder: Path) -> tuple[Path, str]:
    """An empty file never came to be on the disk."""
    name = _decoded(os.path.basename(file.file_name or b"file"))
    file.close()
    if file.actual_file_name is not None:
        return Path(os.fsdecode(file.actual_file_name)), name
    empty = folder / "empty"
    empty.touch()
    return empty, name


def _name(raw: bytes | None) -> str:
    return _decoded(raw or b"")


def _decoded(raw: bytes) -> str:
    text = raw.decode("utf-8", "replace")
    if "\0" in text:
        raise UnreadableBody("The form holds a null character, which no name or value may.")
    return text
