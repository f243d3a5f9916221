"""How long a client waits and how often it asks; and, for each of the two, how to sleep and where to do what takes long."""

import random
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import httpx2

from service.clients.errors import Problem, Unreachable

DELAYS = (0.2, 0.4, 0.8)  # seconds between tries

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


async def async_sleep(seconds: float) -> None:
    import asyncio  # here, since whoever waits needs none of it, and a command line begins sooner without

    await asyncio.sleep(seconds)


def sleep(seconds: float) -> None:
    time.sleep(seconds)


async def async_aside(work: Callable[Parameters, Result], *given: Parameters.args, **named: Parameters.kwargs) -> Result:
    """In another thread: files and hashes would hold up everybody else of the event loop."""
    import asyncio

    return await asyncio.to_thread(work, *given, **named)


def aside(work: Callable[Parameters, Result], *given: Parameters.args, **named: Parameters.kwargs) -> Result:
    return work(*given, **named)


class Trying:
    """One request, and how often it has been asked.

    `again`: it may safely arrive twice. Else it is asked again only where it has not been taken: there was no connection, or the
    answer is 429. `patience`: once it has been answered, for how many seconds of silence it is asked on, beyond the usual three
    times.
    """

    def __init__(self, base_url: str, longest_wait: float, again: bool = True, patience: float = 0):
        self._base_url = base_url
        self._longest_wait = longest_wait
        self._again = again
        self._patience = patience
        self._tries = 0
        self._answered_at: float | None = None

    @property
    def is_first(self) -> bool:
        return self._tries == 0

    def went_well(self) -> None:
        self._tries, self._answered_at = 0, time.monotonic()

    def pause(self, error: Exception) -> float:
        """Seconds until the next try. Raises what is wrong, where there is to be none."""
        is_passing = self._is_passing(error)
        wait = self._wait(error)
        if is_passing and wait is not None:
            self._tries += 1
            return wait
        if isinstance(error, httpx2.TransportError):
            raise unreachable(self._base_url, error) from None
        raise error

    def _is_passing(self, error: Exception) -> bool:
        if isinstance(error, Problem):
            return error.is_passing and (self._again or error.status == 429)
        if isinstance(error, httpx2.TransportError):
            return self._again or isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)
        return False

    def _wait(self, error: Exception) -> float | None:
        """As the service says, or else a little longer each time; None where it has been tried often enough."""
        is_patient = self._answered_at is not None and time.monotonic() - self._answered_at < self._patience
        if self._tries >= len(DELAYS) and not is_patient:
            return None
        said = error.retry_after if isinstance(error, Problem) else None
        if said is not None:
            return said if said <= self._longest_wait else None
        delays = DELAYS or (0.0,)
        return delays[min(self._tries, len(delays) - 1)] * random.uniform(0.5, 1.5)


def unreachable(base_url: str, error: Exception) -> Unreachable:
    if isinstance(error, httpx2.ConnectError):
        return Unreachable(f"No Finebits answers at {base_url}; start one with `make up`.")
    if isinstance(error, httpx2.TimeoutException):
        return Unreachable(f"Finebits at {base_url} took too long to answer.")
    return Unreachable(f"The connection to {base_url} broke ({error}).")
