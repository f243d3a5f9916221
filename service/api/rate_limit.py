"""Refuses whoever asks too often, before anything is looked at: a key, or an address where no key is known to be.

What was refused costs no thread, no connection to the database and no body. Health is always answered.
"""

from math import ceil

from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.access import Keyring, key_in, sha256_of
from service.api.body_limit import HANG_UP
from service.api.client_address import address_of
from service.api.problems import Code, problem
from service.api.rates import Rates

# Whoever watches the service must hear of it most when it has too much to do. Metrics need a key all the same.
UNLIMITED = frozenset(("/livez", "/readyz", "/metrics"))

# A longer body is not read to the end for a connection's sake.
KEPT_BYTES = 65_536


class RateLimit:
    """ASGI middleware. A stream counts once, however long it lasts, and so does an upload, however large."""

    def __init__(self, app: ASGIApp, rates: Rates, keyring: Keyring):
        self.app = app
        self._rates = rates
        self._keyring = keyring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in UNLIMITED:
            await self.app(scope, receive, send)
            return
        who = self._key(scope) or address_of(scope)
        wait_seconds = await self._rates.take(who)
        if wait_seconds > 0:
            await _refusal(scope, wait_seconds)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _key(self, scope: Scope) -> str | None:
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        key = key_in(given.decode("latin-1"))
        return self._keyring.whose(sha256_of(key)) if key else None


def _refusal(scope: Scope, wait_seconds: float) -> ASGIApp:
    detail = "These are more requests than one key, or one address, may send here; go on in a moment."
    headers = {"Retry-After": str(ceil(wait_seconds)), **(HANG_UP if _is_long(scope) else {})}
    return problem(scope, 429, Code.RATE_LIMITED, detail, headers=headers)


def _is_long(scope: Scope) -> bool:
    headers = dict(scope["headers"])
    announced = headers.get(b"content-length", b"0")
    return b"transfer-encoding" in headers or not announced.isdigit() or int(announced[:18]) > KEPT_BYTES
