"""Who may ask: whoever has the one bearer key of the settings. With no key configured, everyone on this host."""

import hashlib
import secrets
from typing import Annotated

from fastapi import Depends, Request

from service.api.errors import Unauthorized

# There is one owner of all jobs, until there are keys for several.
LOCAL = "local"

# For OpenAPI. The header is read by hand: each of the framework's dependencies costs every request what five lines do not.
SCHEME = {"HTTPBearer": {"type": "http", "scheme": "bearer", "description": "FINEBITS_API_KEY, where the operator has set one."}}


async def let_in(request: Request) -> None:
    """Before anything is looked at: finds whose request it is. Raises Unauthorized."""
    key = request.app.state.settings.api_key
    if key is not None:
        _refuse_another(key.get_secret_value().encode(), request.headers.get("authorization", ""))
    request.state.owner = LOCAL


async def _owner(request: Request) -> str:
    owner: str = request.state.owner
    return owner


Owner = Annotated[str, Depends(_owner)]


def _refuse_another(key: bytes, header: str) -> None:
    scheme, _, given = header.partition(" ")
    if scheme.lower() != "bearer" or not given:
        raise _unauthorized("Send the key as `Authorization: Bearer <key>`.", "")
    if not _same(given.encode("latin-1", "replace"), key):
        raise _unauthorized("This is not the key of the service.", ', error="invalid_token"')


def _same(given: bytes, key: bytes) -> bool:
    """In a time that says nothing of the key, its length included."""
    return secrets.compare_digest(hashlib.sha256(given).digest(), hashlib.sha256(key).digest())


def _unauthorized(sentence: str, error: str) -> Unauthorized:
    return Unauthorized(sentence, {"WWW-Authenticate": f'Bearer realm="finebits"{error}'})
