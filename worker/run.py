"""What a stage may say of its run, and what it may hear. It goes up the pipe; the supervisor writes it behind the fence."""

import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import orjson

from service.specs.reasons import Reason
from service.specs.redaction import redacted
from service.specs.tokens import without
from service.tracing import OFF, Tracing
from worker.deliveries import Deliveries
from worker.work import SavedCheckpoint

Wish = Literal["cancel", "stop"]


class Stopped(Exception):
    """The run was asked to stop, and has."""


class Listener(Protocol):
    """Whoever is told of the training series too; it never waits, and raises nothing."""

    def note(self, global_step: int, values: Mapping[str, float]) -> None: ...


class Pipe(Protocol):
    """The child's end of the pipe to its supervisor."""

    def send_bytes(self, buf: bytes) -> None: ...


class Run:
    """One attempt's voice. Methods return when the message is in the pipe; nothing here waits for the database.

    With `deliveries`, what is told of a file goes into the pipe when the artifact store has it, and an end waits for them.
    """

    def __init__(self, pipe: Pipe, artifacts_root: Path):
        self._pipe = pipe
        self._artifacts_root = artifacts_root
        self._sending = threading.Lock()
        self._progress: dict[str, Any] = {}
        self.told: dict[tuple[str, int], SavedCheckpoint] = {}  # the checkpoints of this attempt, by step and update
        self.kept: dict[str, int] = {}  # by step, the checkpoint that it ends with, where that is not the last
        self.wish: Wish | None = None
        self.listener: Listener | None = None
        self.traces: Tracing = OFF
        self.deliveries: Deliveries | None = None  # None: the files are where they stay
        self.grace_seconds = 120.0
        self.secrets: tuple[str, ...] = ()  # are said as stars, whatever they stand in

    def check(self) -> None:
        """Raises Stopped when it was asked for. For the time before and after training, which has its own callback."""
        if self.wish is not None:
            raise Stopped(self.wish)
        if self.deliveries is not None:
            self.deliveries.check()

    def event(self, kind: str, message: str, **data: Any) -> None:
        self._send("event", kind=kind, text=redacted(message), data=data)

    def progress(self, **values: Any) -> None:
        """What `GET /jobs/{id}` shows as progress; values stay until they are set again."""
        self._progress |= values
        self._send("progress", progress=self._progress)

    def points(self, step: str, global_step: int, values: dict[str, float]) -> None:
        """The training series' values at one update."""
        self._send("points", step=step, global_step=global_step, values=values)
        self.remind(global_step, values)

    def remind(self, global_step: int, values: dict[str, float]) -> None:
        """The same to who listens alone: of updates that an earlier attempt told of."""
        if self.listener is not None:
            self.listener.note(global_step, values)

    def checkpoint(
        self,
        step: str,
        global_step: int,
        folder: Path,
        epoch: float,
        train_loss: float | None,
        files: list[dict[str, Any]],
    ) -> None:
        """A checkpoint whose manifest is in place."""
        self.told[step, global_step] = SavedCheckpoint(global_step, self._under_root(folder), epoch, files)
        tell = partial(
            self._send,
            "checkpoint",
            step=step,
            global_step=global_step,
            path=self._under_root(folder),
            epoch=epoch,
            train_loss=train_loss,
            files=files,
        )
        if self.deliveries is None:
            tell()
        else:
            self.deliveries.send_checkpoint(folder, files, tell)

    def measurement(
        self,
        step: str,
        global_step: int | None,
        split: str,
        documents: dict[str, Any],
        metrics: list[dict[str, Any]],
        alerts: Sequence[dict[str, Any]] = (),
        guards: Sequence[dict[str, Any]] = (),
    ) -> None:
        """One checkpoint's per-document sums (None: the base's), the measures that they change, and what they set off.

        All in one message, and so in one transaction: an alert is told once, however often the attempt breaks off.
        """
        self._send(
            "measurement",
            step=step,
            global_step=global_step,
            split=split,
            documents=documents,
            metrics=metrics,
            alerts=alerts,
            guards=guards,
        )

    def artifact(self, name: str, file: Path, size: int, sha256: str) -> None:
        tell = partial(self._send, "artifact", name=name, path=self._under_root(file), size=size, sha256=sha256)
        if self.deliveries is None:
            tell()
        else:
            self.deliveries.send_file(file, size, sha256, tell)

    def piece(self, number: int, text: str) -> None:
        """The next part, from 0 on, of a text that is being written."""
        self._send("piece", number=number, text=text)

    def step_finished(self, position: int, step: str, output: Path, summary: dict[str, Any]) -> None:
        self._settle()
        self._send("step", position=position, step=step, output=self._under_root(output), summary=summary)

    def succeeded(self) -> None:
        self._end(outcome="succeeded")

    def failed(self, reason: Reason, sentence: str, details: dict[str, Any]) -> None:
        self._end(outcome="failed", reason=str(reason), sentence=redacted(sentence), details=details)

    def stopped(self) -> None:
        self._end(outcome="stopped")

    def _settle(self) -> None:
        if self.deliveries is None:
            return
        try:
            if self.deliveries.settle(self.grace_seconds / 2):
                return
        except Exception:
            self.check()  # a run that was asked to stop has not failed of it
            raise
        self.check()

    def _end(self, **how: Any) -> None:
        if self.deliveries is not None:
            self.deliveries.finish(self.grace_seconds / 2)
        self._send("outcome", **how)

    def _under_root(self, path: Path) -> str:
        return str(path.relative_to(self._artifacts_root))

    def _send(self, message: str, **values: Any) -> None:
        said = _without(values, self.secrets) if self.secrets else values
        with self._sending:
            self._pipe.send_bytes(orjson.dumps({"message": message, **said}, option=orjson.OPT_SERIALIZE_NUMPY))


def _without(value: Any, secrets: Sequence[str]) -> Any:
    """The same with stars in place of the secrets in every text."""
    if isinstance(value, str):
        return without(value, secrets)
    if isinstance(value, dict):
        return {key: _without(one, secrets) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without(one, secrets) for one in value]
    return value
