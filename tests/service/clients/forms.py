"""Both clients behind one face, so that a test says once what must hold of either."""

import asyncio
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from service.client import AsyncClient, Client

FORMS = ("waiting", "asynchronous")


class Awaited:
    """An AsyncClient each of whose answers is awaited before the call returns."""

    def __init__(self, client: AsyncClient, runner: asyncio.Runner):
        self._client = client
        self._loop = runner.get_loop()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        return self._waiting(found) if inspect.ismethod(found) else found

    def _waiting(self, method: Any) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            answer = method(*given, **named)
            return self._pulled(answer) if hasattr(answer, "__anext__") else self._loop.run_until_complete(answer)

        return call

    def _pulled(self, items: Any) -> Iterator[Any]:
        try:
            while True:
                yield self._loop.run_until_complete(anext(items))
        except StopAsyncIteration:
            return
        finally:
            self._loop.run_until_complete(items.aclose())


@contextmanager
def opened(form: str, *given: Any, **named: Any) -> Iterator[Any]:
    if form == "waiting":
        with Client(*given, **named) as client:
            yield client
        return
    with asyncio.Runner() as runner:
        client = AsyncClient(*given, **named)
        try:
            yield Awaited(client, runner)
        finally:
            runner.run(client.close())
