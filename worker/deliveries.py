"""What a job makes, on its way to an artifact store that is elsewhere, and what it needs on its way back.

One thread of the child sends, in order, while training goes on. What is told of a file is told once the store has it whole, so a
row always has its file. The folder here is scratch: of each step it keeps the newest checkpoint, and what is not yet sent.
"""

import math
import queue
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from service.specs.reasons import Reason
from service.storage.errors import Away, StorageError
from service.storage.storage import Storage
from worker import checkpoints
from worker.failures import JobFailure

MOST_WAITING = 2  # checkpoints made but not sent; training waits rather than fill the disk
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0


@dataclass(frozen=True)
class _Parcel:
    """Files that belong together, and what is done once the store has them all."""

    files: list[tuple[Path, int, str]]  # with their sizes and hashes
    then: Callable[[], None]


class Deliveries:
    """One attempt's. `known` are the checkpoints that the store has already, by their paths under the root."""

    def __init__(
        self,
        storage: Storage,
        root: Path,
        known: Iterable[str],
        patience_seconds: float,
        is_hurried: Callable[[], bool],
    ):
        self._storage = storage
        self._root = root
        self._known = set(known)
        self._patience_seconds = patience_seconds
        self._is_hurried = is_hurried  # asked to stop or to cancel: what does not succeed at once is not tried again
        self._waiting: queue.Queue[_Parcel] = queue.Queue(MOST_WAITING)
        self._failure: Exception | None = None
        self._thread: threading.Thread | None = None

    def send_checkpoint(self, folder: Path, files: list[dict[str, Any]], then: Callable[[], None]) -> None:
        """A sealed one; its manifest goes last."""
        manifest = checkpoints.describe(folder, folder / checkpoints.MANIFEST)
        described = [(folder / file["name"], file["size"], file["sha256"]) for file in [*files, manifest]]

        def told() -> None:
            then()
            self._known.add(str(folder.relative_to(self._root)))
            self._remove_superseded(folder)

        self._send(_Parcel(described, told))

    def send_file(self, file: Path, size: int, sha256: str, then: Callable[[], None]) -> None:
        self._send(_Parcel([(file, size, sha256)], then))

    def check(self) -> None:
        """Raises what a file could not be sent for."""
        if isinstance(self._failure, StorageError):
            raise JobFailure(Reason.ARTIFACT_STORE, str(self._failure)) from self._failure
        if self._failure is not None:
            raise self._failure

    def settle(self, grace_seconds: float = math.inf) -> bool:
        """As `finish`, and raises as `check` does."""
        is_all_sent = self.finish(grace_seconds)
        self.check()
        return is_all_sent

    def finish(self, grace_seconds: float) -> bool:
        """Waits for what is not sent yet, and once the run is hurried only so long. True when all is sent.

        What is not stays here, and the next attempt on this host sends it.
        """
        hurried_at: float | None = None
        while self._waiting.unfinished_tasks and self._failure is None:
            if hurried_at is None and self._is_hurried():
                hurried_at = time.monotonic()
            if hurried_at is not None and time.monotonic() - hurried_at > grace_seconds:
                return False
            time.sleep(0.05)
        return self._failure is None

    def fetch(self, path: str, files: list[dict[str, Any]]) -> Path:
        """A checkpoint's folder, sealed. Raises Missing, Damaged or Away; Away too where the run must stop before it is here."""
        folder = self._root / path
        for file in files:
            if self._is_hurried():
                raise Away(f"The run was asked to stop before {path} was fetched.")
            to = folder / file["name"]
            self._patiently(partial(self._storage.fetch, f"{path}/{file['name']}", to, file["size"], file["sha256"]))
        checkpoints.write_manifest(folder, files)
        return folder

    def fetch_file(self, path: str, size: int, sha256: str) -> Path:
        """One file, which a client uploaded. Raises as `fetch` does."""
        self._patiently(partial(self._storage.fetch, path, self._root / path, size, sha256))
        return self._root / path

    def unsent(self, job_id: str, step: str) -> list[Path]:
        """Checkpoints of lost attempts that are sealed on this host, and that the store was never told to have; oldest first."""
        sealed = [file.parent for file in (self._root / job_id).glob(f"*/{step}/*/{checkpoints.MANIFEST}")]
        return sorted((folder for folder in sealed if str(folder.relative_to(self._root)) not in self._known), key=_number)

    def _send(self, parcel: _Parcel) -> None:
        self.check()
        if self._thread is None:
            self._thread = threading.Thread(target=self._deliver_all, daemon=True, name="deliveries")
            self._thread.start()
        self._waiting.put(parcel)

    def _deliver_all(self) -> None:
        while True:
            parcel = self._waiting.get()
            try:
                if self._failure is None:  # in order or not at all
                    self._deliver(parcel)
            except Exception as error:
                self._failure = error
            finally:
                self._waiting.task_done()

    def _deliver(self, parcel: _Parcel) -> None:
        for file, size, sha256 in parcel.files:
            self._patiently(partial(self._storage.put, file, str(file.relative_to(self._root)), size, sha256))
        parcel.then()

    def _patiently(self, ask: Callable[[], None]) -> None:
        """Asks a store that is away again and again, as long as there is patience."""
        gives_up_at = time.monotonic() + self._patience_seconds
        pause_seconds = FIRST_PAUSE_SECONDS
        while True:
            try:
                return ask()
            except Away as error:
                if self._is_hurried() or time.monotonic() + pause_seconds > gives_up_at:
                    raise
                print(f"{error} It is tried again in {pause_seconds:g} s.")
            self._rest(pause_seconds)
            pause_seconds = min(2 * pause_seconds, LONGEST_PAUSE_SECONDS)

    def _rest(self, seconds: float) -> None:
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at and not self._is_hurried():
            time.sleep(min(0.1, seconds))

    def _remove_superseded(self, newest: Path) -> None:
        """The copies here of the step's earlier checkpoints, which the store has, whichever attempt made them."""
        step, job = newest.parent, newest.parents[2]
        for folder in job.glob(f"*/{step.name}/{checkpoints.PREFIX}-*"):
            if _number(folder) < _number(newest) and str(folder.relative_to(self._root)) in self._known:
                shutil.rmtree(folder, ignore_errors=True)


def _number(checkpoint: Path) -> int:
    found = re.fullmatch(r".*-(\d+)", checkpoint.name)
    return int(found[1]) if found else -1
