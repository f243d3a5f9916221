"""The service with a fault of ours: keys are compared character by character, and the time tells how many agree.

`uvicorn --factory tests.attacks.leaking:app`. What a comparison of a whole key takes longer than that of none is LEAKED_SECONDS.
"""

import os
import time
from typing import Any

from fastapi import FastAPI

from service.api import access
from service.app import from_environment
from service.store import keys

LEAKED_SECONDS = 200e-6


def app() -> FastAPI:
    """The keys are the environment's: a service has no more of one than its digest, which leaks nothing."""
    operators, owners = os.environ["FINEBITS_API_KEY"], os.environ["LEAKED_KEY"]
    find, opened = keys.find, access._opened

    def find_slowly(session: Any, given: str) -> Any:
        _spin(given, owners)
        return find(session, given)

    async def opened_slowly(settings: Any, keyring: Any, sha256: bytes, given: str) -> Any:
        _spin(given, operators)
        return await opened(settings, keyring, sha256, given)

    keys.find, access._opened = find_slowly, opened_slowly  # type: ignore[assignment]
    return from_environment()


def _spin(given: str, key: str) -> None:
    agree = next((n for n, (one, other) in enumerate(zip(given, key, strict=False)) if one != other), min(len(given), len(key)))
    ends_at = time.perf_counter() + LEAKED_SECONDS * agree / len(key)
    while time.perf_counter() < ends_at:
        pass
