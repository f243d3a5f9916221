"""The log of an attempt, copied to an artifact store that is elsewhere. The keeper does it, for the child may be killed."""

import hashlib
import logging
import shutil
import threading
import time
from pathlib import Path

from service.storage.errors import StorageError
from service.storage.storage import Storage

logger = logging.getLogger(__name__)

NAME = "log.txt"
SHARE_OF_TIME = 10  # a copy that takes a second is followed by ten without one


class LogCopies(threading.Thread):
    """Copies when the log has changed, every so many seconds and once more at the end."""

    def __init__(self, storage: Storage, root: Path, folder: Path, every_seconds: float, patience_seconds: float):
        super().__init__(daemon=True, name="log-copies")
        self._storage = storage
        self._log = folder / NAME
        self._key = str(self._log.relative_to(root))
        self._every_seconds = every_seconds
        self._patience_seconds = patience_seconds
        self._is_ending = threading.Event()
        self._copied: tuple[int, int] | None = None

    def run(self) -> None:
        pause_seconds = self._every_seconds
        while not self._is_ending.wait(pause_seconds):
            began_at = time.monotonic()
            self._copy()
            pause_seconds = max(self._every_seconds, SHARE_OF_TIME * (time.monotonic() - began_at))
        gives_up_at = time.monotonic() + self._patience_seconds
        while not self._copy() and time.monotonic() < gives_up_at:
            time.sleep(min(self._every_seconds, 5.0))

    def finish(self, seconds: float) -> None:
        """Copies what was said last. Waits so long for it; what takes longer is still tried."""
        self._is_ending.set()
        self.join(seconds)

    def _copy(self) -> bool:
        """False when it should be tried again."""
        copy = self._log.with_name(f".{NAME}.copy")
        try:
            stat = self._log.stat()
            state = (stat.st_size, stat.st_mtime_ns)
            if state == self._copied:
                return True
            shutil.copyfile(self._log, copy)  # it grows while it is read
            with copy.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            self._storage.put(copy, self._key, copy.stat().st_size, sha256)
            self._copied = state
            return True
        except FileNotFoundError:
            return True  # the child has said nothing yet
        except (StorageError, OSError) as error:
            logger.warning("the log %s is not copied: %s", self._key, error)
            return False
        finally:
            copy.unlink(missing_ok=True)
