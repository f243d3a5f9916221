"""Who may ask, and for what: whoever has a key, or the operator's own. With neither, everyone on this host.

A program sends its key with each request; a browser sent it once, for a cookie (sessions.py). A key or cookie that was looked up
is known for KEY_SECONDS without asking the database again: so long may one that is revoked, or that has expired, still open. What
each operation needs stands in scopes.py.
"""

import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Annotated, Any

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, Request

from service.api import browsers
from service.api.client_address import address_of
from service.api.errors import Forbidden, TooManyRequests, Unauthorized
from service.api.rates import Rates
from service.api.scopes import scope_of
from service.settings import Settings
from service.specs.scopes import Scope
from service.store import keys, sessions
from service.store.keys import Known
from service.store.owners import EVERYBODY
from service.store.session import Database

# Whose the operator's own jobs are, and everybody's where the door is open.
LOCAL = "local"

KEY_SECONDS = 3.0

# What is kept of keys at most: one that was sent and is none is not kept at all.
MOST_KEYS = 10_000

# Threads that look keys up: of their own, so that endpoints that take long keep nobody from being let in, nor guesses endpoints.
LOOKING_UP = 2
# The browser's, with what POST /session gave it.
COOKIE = "finebits_session"

# For OpenAPI. The header is read by hand: each of the framework's dependencies costs every request what five lines do not.
SCHEME = {
    "HTTPBearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A key of POST /keys or of `finebits keys create`, or the operator's FINEBITS_API_KEY.",
    }
}


@dataclass(frozen=True)
class Caller:
    """Whose request it is. `key` is the key's id; "operator" and "open" where there is none."""

    owner: str
    key: str
    scopes: frozenset[Scope]

    @property
    def sees(self) -> str:
        """Whose things it may look at and steer."""
        return EVERYBODY if Scope.ADMIN in self.scopes else self.owner

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes


OPERATOR = Caller(LOCAL, "operator", frozenset(Scope))
ANYONE = Caller(LOCAL, "open", frozenset(Scope))


class Keyring:
    """What is known of keys, from moments ago."""

    def __init__(self, database: Database):
        self._database = database
        self._callers: dict[bytes, tuple[float, Caller]] = {}
        self._is_closed: tuple[float, bool] | None = None
        self.threads = CapacityLimiter(LOOKING_UP)

    def whose(self, sha256: bytes) -> str | None:
        """The id of a key that opened something once. Whether it still does is another question."""
        known = self._callers.get(sha256)
        return None if known is None else known[1].key

    def look_up(self, sha256: bytes) -> Caller | None:
        """Without asking the database."""
        known = self._callers.get(sha256)
        return None if known is None or _is_old(known[0]) else known[1]

    def find(self, sha256: bytes, given: str) -> Caller:
        """Raises Unauthorized."""
        asked_at = time.monotonic()
        with self._database.reading() as session:
            known = keys.find(session, given)
            is_use_due = known is not None and known.why_not is None and keys.is_use_due(session, known.id)
        if known is None:
            raise _unauthorized("This is not a key of the service.", ', error="invalid_token"')
        caller = _caller_with(known)
        if is_use_due:
            self._note_use(known)
        return self.keep(sha256, caller, asked_at)

    def find_signed_in(self, sha256: bytes, token: str, operator_key: str | None) -> Caller:
        """Whose a browser's session is. Raises Unauthorized."""
        asked_at = time.monotonic()
        with self._database.reading() as session:
            found = sessions.find(session, token)
            is_use_due = found is not None and found.key is not None and keys.is_use_due(session, found.key.id)
        if found is None:
            raise _unauthorized("You are signed out, or were signed in for as long as it lasts. Sign in again.", "")
        if found.key is None:
            if not found.is_proven_by(token, operator_key):
                raise _unauthorized("The operator's key is another now. Sign in again.", "")
            return self.keep(sha256, OPERATOR, asked_at)
        caller = _caller_with(found.key)
        if is_use_due:
            self._note_use(found.key)
        return self.keep(sha256, caller, asked_at)

    def keep(self, sha256: bytes, caller: Caller, asked_at: float) -> Caller:
        if len(self._callers) >= MOST_KEYS:
            self._callers.clear()
        self._callers[sha256] = (asked_at, caller)
        return caller

    def is_closed(self) -> bool | None:
        """Whether a key was ever made, without asking the database; None where that is not known."""
        if self._is_closed is None or _is_old(self._is_closed[0]):
            return None
        return self._is_closed[1]

    def find_whether_closed(self) -> bool:
        asked_at = time.monotonic()
        with self._database.reading() as session:
            is_closed = keys.are_there(session)
        self._is_closed = (asked_at, is_closed)
        return is_closed

    def forget(self) -> None:
        """A key was made or revoked here, or a session ended: the next request sees it."""
        self._callers.clear()
        self._is_closed = None

    def _note_use(self, known: Known) -> None:
        with self._database.transaction() as session:
            keys.note_use(session, known.id)


async def let_in(request: Request) -> None:
    """Before anything is looked at: finds whose request it is, and whether it may. Raises Unauthorized and Forbidden."""
    try:
        caller = request.state.caller = await _caller(request)
    except Unauthorized as error:
        request.state.caller = error.caller  # whose key it was, for the log of what was refused
        raise
    needed = scope_of(request.scope["route"].name)
    if not caller.may(needed):
        has = ", ".join(sorted(caller.scopes)) or "none"
        raise Forbidden(f"This needs a key with the scope {needed}; this one has {has}.")


async def is_open(request: Request) -> bool:
    """Whether no key is needed: there is none."""
    settings: Settings = request.app.state.settings
    if settings.api_key is not None or settings.require_key:
        return False
    keyring: Keyring = request.app.state.keyring
    is_closed = keyring.is_closed()
    return not (
        is_closed if is_closed is not None else await to_thread.run_sync(keyring.find_whether_closed, limiter=keyring.threads)
    )


async def of_key(request: Request, key: str) -> Caller:
    """Whose a key is. Raises Unauthorized and TooManyRequests."""
    settings: Settings = request.app.state.settings
    keyring: Keyring = request.app.state.keyring
    sha256 = sha256_of(key)
    known = keyring.look_up(sha256)
    return known if known is not None else await _looked_up(request, sha256, partial(_opened, settings, keyring, sha256, key))


async def of_cookie(request: Request, token: str) -> Caller:
    """Whose a browser's session is. Raises Unauthorized and TooManyRequests."""
    settings: Settings = request.app.state.settings
    keyring: Keyring = request.app.state.keyring
    if not token:
        raise _unauthorized("Sign in, or send the key as `Authorization: Bearer <key>`.", "")
    sha256 = sha256_of(f"{COOKIE}={token}")
    known = keyring.look_up(sha256)
    if known is not None:
        return known
    operator_key = None if settings.api_key is None else settings.api_key.get_secret_value()
    find = partial(to_thread.run_sync, keyring.find_signed_in, sha256, token, operator_key, limiter=keyring.threads)
    return await _looked_up(request, sha256, find)


async def _caller(request: Request) -> Caller:
    if await is_open(request):
        browsers.refuse_other_sites(request)
        browsers.refuse_other_pages(request)
        return ANYONE
    sent = request.headers.getlist("authorization")
    if len(sent) == 1 and (given := key_in(sent[0])):
        return await of_key(request, given)
    token = "" if sent else request.cookies.get(COOKIE, "")
    if not token:
        raise _unauthorized("Send the key as `Authorization: Bearer <key>`.", "")
    browsers.refuse_all_but_own_page(request)
    return await of_cookie(request, token)


async def _looked_up(request: Request, sha256: bytes, find: Callable[[], Awaitable[Caller]]) -> Caller:
    """By something that this process may not have seen open anything. What opens nothing counts against the address: one that has
    sent too much of it is refused unlooked, so that nobody can try keys, or load the database with them.
    """
    keyring: Keyring = request.app.state.keyring
    if keyring.whose(sha256) is not None:
        return await find()
    sign_ins: Rates = request.app.state.sign_ins
    address = address_of(request.scope)
    wait_seconds = await sign_ins.take(address)
    if wait_seconds > 0:
        detail = "Too many keys that open nothing came from this address; this one was not looked at. Try it again in a while."
        raise TooManyRequests(detail, {"Retry-After": str(ceil(wait_seconds))})
    opens_nothing = False
    try:
        return await find()
    except Unauthorized:
        opens_nothing = True
        raise
    finally:
        if not opens_nothing:
            await sign_ins.give_back(address)


async def _opened(settings: Settings, keyring: Keyring, sha256: bytes, given: str) -> Caller:
    """Raises Unauthorized."""
    if settings.api_key is not None and _is_operators(sha256, settings.api_key.get_secret_value()):
        return keyring.keep(sha256, OPERATOR, time.monotonic())
    return await to_thread.run_sync(keyring.find, sha256, given, limiter=keyring.threads)


def key_in(authorization: str) -> str:
    """The bearer key in that header; none where it has none."""
    scheme, _, given = authorization.partition(" ")
    return given if scheme.lower() == "bearer" else ""


def sha256_of(key: str) -> bytes:
    return hashlib.sha256(key.encode("latin-1", "replace")).digest()


def _caller_with(known: Known) -> Caller:
    if known.why_not is not None:
        raise _unauthorized(known.why_not, ', error="invalid_token"', Caller(known.owner, known.id, frozenset()))
    return Caller(known.owner, known.id, known.scopes)


def _is_operators(sha256: bytes, key: str) -> bool:
    """In a time that says nothing of the key, its length included."""
    return secrets.compare_digest(sha256, hashlib.sha256(key.encode()).digest())


def _is_old(at: float) -> bool:
    return time.monotonic() - at > KEY_SECONDS


def _unauthorized(sentence: str, error: str, caller: Caller | None = None) -> Unauthorized:
    refusal = Unauthorized(sentence, {"WWW-Authenticate": f'Bearer realm="finebits"{error}'})
    refusal.caller = caller
    return refusal


def _of_caller(take: Callable[[Caller], Any]) -> Any:
    async def taken(request: Request) -> Any:
        return take(request.state.caller)

    return taken


TheCaller = Annotated[Caller, Depends(_of_caller(lambda caller: caller))]

# Whose is what the request makes.
Owner = Annotated[str, Depends(_of_caller(lambda caller: caller.owner))]

# Whose things it may look at and steer: its owner's, or everybody's.
Whose = Annotated[str, Depends(_of_caller(lambda caller: caller.sees))]
