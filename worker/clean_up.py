"""Removes the files that the store of jobs has given up, from the artifact store and from this host, and what was never received
whole."""

import logging

from service.storage.errors import StorageError
from service.storage.folder import Folder
from service.storage.keeping import clear_incoming
from service.storage.opening import open_storage
from service.store import removals
from service.store.datasets import UPLOAD_SECONDS
from service.store.session import Database
from worker.settings import WorkerSettings

logger = logging.getLogger(__name__)


class CleanUp:
    """One host's. What is already gone is gone, so any number of hosts may do the same at once."""

    def __init__(self, settings: WorkerSettings):
        self._storage = open_storage(settings.artifacts_root, settings.artifacts_url, settings.s3_endpoint)
        self._root = settings.artifacts_root
        self._here = Folder(settings.artifacts_root)
        self._is_elsewhere = bool(settings.artifacts_url)
        self._dropped: set[str] = set()

    def once(self, database: Database) -> None:
        """What a store that is away, or a file that cannot be removed, leaves is tried again the next time."""
        clear_incoming(self._root, UPLOAD_SECONDS)
        while self._remove_some(database):
            pass

    def _remove_some(self, database: Database) -> bool:
        """Whether more may wait: what is removed is noted now and then, and not only when all is."""
        with database.reading() as session:
            waiting, recent = removals.waiting(session), removals.recent(session) if self._is_elsewhere else []
        gone = [path for path in waiting if self._remove(path)]
        self._drop_copies([*waiting, *recent])
        if not gone:
            return False
        with database.transaction() as session:
            for path in gone:
                removals.done(session, path, is_copied=self._is_elsewhere)
            removals.forget_old(session)
        return len(gone) == len(waiting)

    def _remove(self, path: str) -> bool:
        try:
            self._storage.remove(path)
        except (StorageError, OSError) as error:
            logger.warning("%s is not removed yet: %s", path, error)
            return False
        return True

    def _drop_copies(self, paths: list[str]) -> None:
        """A job's folder is scratch where the store is elsewhere: what another host removed may still lie here."""
        if not self._is_elsewhere:
            return
        for path in set(paths) - self._dropped:
            self._here.remove(path)
        self._dropped = set(paths)
