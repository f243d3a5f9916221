"""Requests that are refused, on their way to the audit's other half: counted here, and written once a second by a thread.

To write each at once would let whoever is refused make the database work as hard as they ask. A process that is killed loses
what it had noted within the last second; what was done, and its row in the audit log, are one commit.
"""

import logging
import threading
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from service.store import refusals
from service.store.refusals import Refused, Times
from service.store.session import Database

logger = logging.getLogger(__name__)

WRITTEN_EVERY_SECONDS = 1.0
MOST_APART = 500  # at once; beyond them addresses are not told apart
MOST_CHARACTERS = 200

_CHANGING = frozenset(("POST", "PUT", "PATCH", "DELETE"))


class RefusedRequests:
    """Of one process of the API."""

    def __init__(self, database: Database):
        self._database = database
        self._waiting: dict[Refused, Times] = {}
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._writer: threading.Thread | None = None

    def note(self, scope: Any, status: int, code: str) -> None:
        """A request that is answered so. Of those that look only whoever may not is noted; of those that change, each."""
        route = scope.get("route")
        is_told = status in (401, 403) or (400 <= status < 500 and scope["method"] in _CHANGING)
        if route is None or status == 405 or not is_told:  # no operation is meant
            return
        caller = scope.get("state", {}).get("caller")
        owner, key = ("", "") if caller is None else (caller.owner, caller.key)
        client = scope.get("client") or ("", 0)
        refused = Refused(owner, key, route.name, client[0][:MOST_CHARACTERS], status, code)
        subject = "/".join(map(str, scope.get("path_params", {}).values()))[:MOST_CHARACTERS]
        self._add(refused, Times(1, subject, scope.get("state", {}).get("request_id", "")))

    def _add(self, refused: Refused, times: Times) -> None:
        with self._changed:
            if refused not in self._waiting and len(self._waiting) >= MOST_APART:
                refused = refused.anywhere()
            known = self._waiting.get(refused)
            self._waiting[refused] = times if known is None else known.before(times)
            if self._writer is None:
                self._writer = threading.Thread(target=self._write, name="refused requests", daemon=True)
                self._writer.start()
            self._changed.notify()

    def close(self, seconds: float = 10) -> None:
        """Writes what is noted, and ends."""
        self._closing.set()
        with self._changed:
            self._changed.notify()
            writer = self._writer
        if writer is not None:
            writer.join(seconds)

    def _write(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing.is_set())
                if not self._waiting:
                    return
            self._closing.wait(WRITTEN_EVERY_SECONDS)
            if not self.flush() and self._closing.is_set():
                return

    def flush(self) -> bool:
        """Whether what was noted is written; else it waits on."""
        with self._changed:
            taken, self._waiting = self._waiting, {}
        try:
            with self._database.transaction() as session:
                refusals.note(session, taken)
        except SQLAlchemyError as error:
            logger.warning("what was refused cannot be written now: %s", error)
            for refused, times in taken.items():
                self._add(refused, times)
            return False
        return True
