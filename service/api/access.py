"""Who may ask: whoever has the one bearer key of the settings. With no key configured, everyone on this host."""

import hashlib
import secrets
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from service.api.errors import Unauthorized

# There is one owner of all jobs, until there are keys for several.
LOCAL = "local"

_bearer = HTTPBearer(auto_error=False, description="FINEBITS_API_KEY, where the operator has set one.")


async def owner(request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> str:
    """Whose jobs the request is about. Raises Unauthorized."""
    key = request.app.state.settings.api_key
    if key is None:
        return LOCAL
    if given is None:
        raise _unauthorized("Send the key as `Authorization: Bearer <key>`.", "")
    if not _same(given.credentials.encode("latin-1", "replace"), key.get_secret_value().encode()):
        raise _unauthorized("This is not the key of the service.", ', error="invalid_token"')
    return LOCAL


Owner = Annotated[str, Depends(owner)]


def _same(given: bytes, key: bytes) -> bool:
    """In a time that says nothing of the key, its length included."""
    return secrets.compare_digest(hashlib.sha256(given).digest(), hashlib.sha256(key).digest())


def _unauthorized(sentence: str, error: str) -> Unauthorized:
    return Unauthorized(sentence, {"WWW-Authenticate": f'Bearer realm="finebits"{error}'})
