"""Counts the rows of data sets that were too large for it when they came: whoever sent them had waited long enough."""

import logging
import subprocess
import sys
import threading

from service.storage.errors import StorageError
from service.storage.keeping import here
from service.storage.opening import open_storage
from service.store import files
from service.store.session import Database
from service.store.tables import File
from worker.settings import WorkerSettings

logger = logging.getLogger(__name__)


class RowCounts:
    """One host's. Two hosts that count the same file find the same."""

    def __init__(self, settings: WorkerSettings, stopping: threading.Event):
        self._storage = open_storage(settings.artifacts_root, settings.artifacts_url, settings.s3_endpoint)
        self._root = settings.artifacts_root
        self._stopping = stopping
        self._uncountable: set[str] = set()

    def once(self, database: Database) -> None:
        """All that wait. What cannot be counted is said once in the log, and left."""
        while not self._stopping.is_set():
            with database.reading() as session:
                file = files.uncounted(session, self._uncountable)
            if file is None:
                return
            rows = self._count(file)
            if rows is None:
                self._uncountable.add(file.id)
                continue
            with database.transaction() as session:
                files.counted(session, file.id, rows)

    def _count(self, file: File) -> int | None:
        """In a process of its own, which may take its time and the memory of one line."""
        try:
            with here(self._storage, self._root, file.path, file.size, file.sha256) as path:
                command = [sys.executable, "-m", "worker.data.counting", str(path)]
                counting = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                while counting.poll() is None:
                    if self._stopping.wait(0.1):
                        counting.kill()
                told, why = counting.communicate()
        except (StorageError, OSError) as error:
            told, why = "", str(error)
        if told.strip().isdecimal():
            return int(told)
        logger.warning("the rows of %s are not counted: %s", file.id, why.strip() or "it was interrupted")
        return None
