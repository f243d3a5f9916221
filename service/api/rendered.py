"""Jobs as the bytes that clients get, kept as long as they are true: a job's version names its every visible state.

Clients that follow a job ask again and again; what has not changed is read as one number from the database, and nothing is built.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence

from sqlalchemy.orm import Session

from service.api.views import job_view
from service.store import jobs, steps

MOST_BYTES = 32_000_000


class RenderedJobs:
    """The latest that were asked for, up to MOST_BYTES of them."""

    def __init__(self, most_bytes: int = MOST_BYTES):
        self._most_bytes = most_bytes
        self._bytes = 0
        self._kept: OrderedDict[str, tuple[int, bytes]] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, session: Session, wanted: Sequence[tuple[str, int]]) -> list[bytes]:
        """A JSON object for each (id, version), in their order. They were read in this session, which sees one moment."""
        found = self._look_up(wanted)
        missing = [job_id for job_id, version in wanted if job_id not in found]
        if missing:
            done = steps.of_jobs(session, missing)
            for job in jobs.of_ids(session, missing):
                found[job.id] = job_view(job, done[job.id]).model_dump_json().encode()
                self._keep(job.id, job.version, found[job.id])
        return [found[job_id] for job_id, version in wanted]

    def _look_up(self, wanted: Sequence[tuple[str, int]]) -> dict[str, bytes]:
        found = {}
        with self._lock:
            for job_id, version in wanted:
                kept = self._kept.get(job_id)
                if kept is not None and kept[0] == version:
                    self._kept.move_to_end(job_id)
                    found[job_id] = kept[1]
        return found

    def _keep(self, job_id: str, version: int, body: bytes) -> None:
        with self._lock:
            old = self._kept.pop(job_id, None)
            self._kept[job_id] = (version, body)
            self._bytes += len(body) - (len(old[1]) if old else 0)
            while self._bytes > self._most_bytes:
                _, (_, oldest) = self._kept.popitem(last=False)
                self._bytes -= len(oldest)
