"""One transaction for what many ask for at the same moment.

A commit waits for the disk, and whoever commits alone makes all behind it wait as long; those that come meanwhile can share the
next. Group commit: DeWitt et al., "Implementation Techniques for Main Memory Database Systems", 1984.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from service.store.session import Database

# What one transaction holds at most: whoever comes next waits no longer than for these.
MOST_TOGETHER = 64

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class _Asked(Generic[Item, Result]):
    item: Item
    answer: "asyncio.Future[Result]"
    loop: asyncio.AbstractEventLoop


class GroupCommit(Generic[Item, Result]):
    """Writes items in a thread of its own: `write_all` gets those that wait, in one transaction, and answers for each."""

    def __init__(self, database: Database, write_all: Callable[[Session, Sequence[Item]], Sequence[Result]]):
        self._database = database
        self._write_all = write_all
        self._waiting: list[_Asked[Item, Result]] = []
        self._changed = threading.Condition()
        self._writer: threading.Thread | None = None
        self._closing = False

    async def write(self, item: Item) -> Result:
        """Its result, once it is committed; or what it raises when it is written alone, with nothing of it kept."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Result] = loop.create_future()
        with self._changed:
            if self._closing:
                raise RuntimeError("This writer is closed.")
            if self._writer is None:
                self._writer = threading.Thread(target=self._write, name="group commit", daemon=True)
                self._writer.start()
            self._waiting.append(_Asked(item, answer, loop))
            self._changed.notify()
        return await answer

    def close(self, seconds: float = 30) -> None:
        """Writes what was asked for, and ends."""
        with self._changed:
            self._closing = True
            self._changed.notify()
            writer = self._writer
        if writer is not None:
            writer.join(seconds)

    def _write(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                together, self._waiting = self._waiting[:MOST_TOGETHER], self._waiting[MOST_TOGETHER:]
            self._write_together(together)

    def _write_together(self, together: list[_Asked[Item, Result]]) -> None:
        try:
            results = self._committed(together)
        except Exception as error:
            if len(together) > 1 and not isinstance(error, (OperationalError, PoolTimeout)):
                for asked in together:  # one of them spoilt it for all: each on its own
                    self._write_together([asked])
                return
            for asked in together:
                _answer(asked, error=error)
        else:
            for asked, result in zip(together, results, strict=True):
                _answer(asked, result)

    def _committed(self, together: list[_Asked[Item, Result]]) -> Sequence[Result]:
        with self._database.transaction() as session:
            return self._write_all(session, [asked.item for asked in together])


def _answer(asked: _Asked[Any, Any], result: Any = None, error: Exception | None = None) -> None:
    def tell() -> None:
        if asked.answer.done():  # nobody waits any more
            return
        if error is not None:
            asked.answer.set_exception(error)
        else:
            asked.answer.set_result(result)

    try:
        asked.loop.call_soon_threadsafe(tell)
    except RuntimeError:  # the loop is closed, and nobody waits any more
        return
