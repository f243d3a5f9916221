"""Room on the disk of the artifacts: what is free, and what the jobs that run here have still to write."""

import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

from service.library import space
from service.library.space import StepSpace
from service.specs.reasons import Reason
from worker.failures import JobFailure


def free_bytes(folder: Path) -> int:
    """What this process may still write on the folder's disk."""
    return shutil.disk_usage(folder).free


def require(folder: Path, checkpoint_bytes: int, kept_free_bytes: int, what: str = "The next checkpoint") -> None:
    """Raises JobFailure when a checkpoint would not fit, before its first byte: no torn one is left behind."""
    free = free_bytes(folder)
    if free >= checkpoint_bytes + kept_free_bytes:
        return
    raise JobFailure(
        Reason.OUT_OF_DISK,
        f"{what} would take {space.told(checkpoint_bytes)}, and {space.told(free)} are free, of which "
        f"{space.told(kept_free_bytes)} are kept so (FINEBITS_MIN_FREE_BYTES). Those before it are whole. Make room on the disk "
        "of the artifacts, or save less often.",
        free_bytes=free,
        checkpoint_bytes=checkpoint_bytes,
    )


@dataclass(frozen=True)
class _Promise:
    folder: Path
    n_bytes: int

    def left(self) -> int:
        """What is not written yet of what was promised."""
        written = sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())
        return max(0, self.n_bytes - written)


class Disk:
    """The worker's disk, as its slots share it. Hold `turn` from the look to the promise: two could both take the last room."""

    def __init__(self, root: Path, kept_free_bytes: int):
        self.turn = threading.Lock()
        self._root = root
        self._kept_free_bytes = kept_free_bytes
        self._promises: dict[str, _Promise] = {}

    def lack(self, needed: dict[str, StepSpace]) -> str | None:
        """Why a job cannot begin; None when there is room for it beside those that run."""
        n_bytes = space.total_bytes(needed)
        free = free_bytes(self._root)
        promised = sum(promise.left() for promise in list(self._promises.values()))
        if free - promised - self._kept_free_bytes >= n_bytes:
            return None
        others = f", {space.told(promised)} are for jobs that run" if promised else ""
        return (
            f"Held: {_checkpoints(needed)} would take {space.told(n_bytes)}. {space.told(free)} are free on the disk of the "
            f"artifacts{others}, and {space.told(self._kept_free_bytes)} are kept free. It begins when there is room."
        )

    def promise(self, job_id: str, folder: Path, needed: dict[str, StepSpace]) -> None:
        """Room that is the job's until `done`, less what is in its folder by then."""
        self._promises[job_id] = _Promise(folder, space.total_bytes(needed))

    def done(self, job_id: str) -> None:
        self._promises.pop(job_id, None)


def _checkpoints(needed: dict[str, StepSpace]) -> str:
    number = sum(step.n_checkpoints for step in needed.values())
    return "its checkpoint" if number == 1 else f"its {number} checkpoints"
