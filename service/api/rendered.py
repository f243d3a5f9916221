"""Answers as the bytes that clients get, kept as long as they are true: a job's version names its every visible state.

Clients that follow a job ask again and again; what has not changed is read as one number from the database, and nothing is built.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

from sqlalchemy import Connection

from service.api.views import job_view
from service.store import jobs, steps
from service.store.session import session_of

MOST_BYTES = 32_000_000


class Rendered:
    """The latest that were asked for, up to MOST_BYTES of them. Versions are read in the session that the rest is read in."""

    def __init__(self, most_bytes: int = MOST_BYTES):
        self._most_bytes = most_bytes
        self._bytes = 0
        self._kept: OrderedDict[Hashable, tuple[int, bytes]] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, what: Hashable, version: int, make: Callable[[], bytes]) -> bytes:
        """The answer `what` about a job in that version."""
        kept = self._look_up(what, version)
        return kept if kept is not None else self._keep(what, version, make())

    def jobs(self, connection: Connection, wanted: Sequence[tuple[str, int]]) -> list[bytes]:
        """The job itself for each (id, version), in their order."""
        with self._lock:
            found = {job_id: self._found(job_id, version) for job_id, version in wanted}
        missing = [job_id for job_id, body in found.items() if body is None]
        if missing:
            with session_of(connection) as session:
                done = steps.of_jobs(session, missing)
                for job in jobs.of_ids(session, missing):
                    found[job.id] = self._keep(job.id, job.version, job_view(job, done[job.id]).model_dump_json().encode())
        return [body for body in found.values() if body is not None]

    def _look_up(self, what: Hashable, version: int) -> bytes | None:
        with self._lock:
            return self._found(what, version)

    def _found(self, what: Hashable, version: int) -> bytes | None:
        kept = self._kept.get(what)
        if kept is None or kept[0] != version:
            return None
        self._kept.move_to_end(what)
        return kept[1]

    def _keep(self, what: Hashable, version: int, body: bytes) -> bytes:
        with self._lock:
            old = self._kept.pop(what, None)
            self._kept[what] = (version, body)
            self._bytes += len(body) - (len(old[1]) if old else 0)
            while self._bytes > self._most_bytes:
                _, (_, oldest) = self._kept.popitem(last=False)
                self._bytes -= len(oldest)
        return body
