"""What a request is made of, and what is read of an answer, the same for both clients."""

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2

from service.clients.errors import ClientError, Problem, Unreachable

DEFAULT_URL = "http://127.0.0.1:8765"
CONTENT_TYPES = {".json": "application/json", ".yaml": "application/yaml", ".yml": "application/yaml"}


def address(base_url: str) -> str:
    """Without a slash at its end. Raises Unreachable where it is no address."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Unreachable(f"{base_url!r} is not an address of a service; it should look like {DEFAULT_URL}")
    return base_url.rstrip("/")


def is_loopback(base_url: str) -> bool:
    host = urlsplit(base_url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def is_plain(base_url: str) -> bool:
    """Whether nothing that is asked here can be encrypted: on this machine itself, without a proxy."""
    return urlsplit(base_url).scheme == "http" and is_loopback(base_url)


def path(*parts: str | int) -> str:
    """An address of its parts, each of which stays one, whatever it holds."""
    return "".join(f"/{quote(str(part), safe='')}" for part in parts)


def query(params: Mapping[str, Any]) -> dict[str, Any]:
    """What is None is not asked for."""
    named = {name: value for name, value in params.items() if value is not None}
    return {name: str(value).lower() if isinstance(value, bool) else value for name, value in named.items()}


def body(document: dict[str, Any] | Path) -> tuple[bytes, str]:
    """A job as it is sent, and its content type. A file is sent as it is. Raises ClientError where it cannot be read."""
    if not isinstance(document, Path):
        return json.dumps(document).encode(), "application/json"
    content_type = CONTENT_TYPES.get(document.suffix.lower())
    if content_type is None:
        raise ClientError(f"{document} is neither a .json nor a .yaml file.")
    try:
        return document.read_bytes(), content_type
    except OSError as error:
        raise ClientError(f"{document} cannot be read: {os.strerror(error.errno or 0)}.") from None


def fresh_key() -> str:
    """An Idempotency-Key that nobody else has."""
    return secrets.token_hex(16)


def accepted(base_url: str, response: httpx2.Response) -> httpx2.Response:
    """The answer, whose bytes have been read, where it is a good one. Raises Problem."""
    if response.is_success:
        return response
    retry_after = _seconds(response.headers.get("retry-after"))
    if response.headers.get("content-type", "").startswith("application/problem+json"):
        raise Problem(response.status_code, response.json(), retry_after)
    detail = f"{base_url} answered {response.status_code}, and not as Finebits does. Is something else there?"
    raise Problem(response.status_code, {"detail": detail}, retry_after)


def document_of(base_url: str, response: httpx2.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        raise Unreachable(f"What answers at {base_url} is not Finebits: it sent something other than JSON.") from None


def etag(response: httpx2.Response) -> str:
    return str(response.headers.get("etag", "")).removeprefix("W/").strip('"')


def sha256_of(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@dataclass(frozen=True)
class Told:
    """A server-sent event."""

    event: str
    data: Any
    id: str | None


@dataclass
class Lines:
    """Server-sent events of lines: an empty one ends each, and one that begins with a colon is a sign of life."""

    _fields: dict[str, str] = field(default_factory=dict)

    def add(self, line: str) -> Told | None:
        """The event that the line ends."""
        name, _, value = line.partition(":")
        if name:
            self._fields[name] = value.removeprefix(" ")
            return None
        if line or "data" not in self._fields:
            return None
        told, self._fields = self._fields, {}
        return Told(told.get("event", "message"), json.loads(told["data"]), told.get("id"))


def _seconds(retry_after: str | None) -> float | None:
    return float(retry_after) if retry_after is not None and retry_after.isdecimal() else None
