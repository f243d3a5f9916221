"""Where a step's series go beside the database: TensorBoard's files, Weights & Biases, an MLflow server.

Each tracker has a thread and a queue of its own. One that is missing, down or slow is told of in a notice and left out; the
training neither waits for it nor fails of it.
"""

import json
import os
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from service.specs.job import ResolvedStep
from worker import checkpoints
from worker.run import Run

# What each has to finish, once the step is done or stops.
FINISH_SECONDS = 20.0

# Points that may wait for a tracker.
MOST_WAITING = 10_000


@dataclass(frozen=True)
class Followed:
    """What is followed, and where to."""

    job_id: str
    attempt: int
    step: str
    arguments: dict[str, Any]
    folder: Path  # of files that are to be artifacts
    mlflow_url: str = ""
    wandb_url: str = ""  # none: Weights & Biases writes files, which can be sent later
    project: str = "finebits"
    run_name: str | None = None
    tags: tuple[str, ...] = ()
    wandb_entity: str | None = None

    @property
    def called(self) -> str:
        return self.run_name or f"{self.job_id} {self.step}"


class Tracker(Protocol):
    """Whatever it raises is told of, and ends it."""

    def log(self, global_step: int, values: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


Opener = Callable[[Followed], Tracker]


class Trackers:
    """Those of one step. `tell` is given a sentence for the client."""

    def __init__(self, followed: Followed, openers: Mapping[str, Opener], tell: Callable[[str], None]):
        self._feeds = [_Feed(name, open_it, followed, tell) for name, open_it in openers.items()]

    def note(self, global_step: int, values: Mapping[str, float]) -> None:
        """Never waits."""
        for feed in self._feeds:
            feed.put((global_step, dict(values)))

    def close(self, seconds: float = FINISH_SECONDS) -> None:
        """Waits for what they have still to take, and no longer than that."""
        ends_at = time.monotonic() + seconds
        for feed in self._feeds:
            feed.end()
        for feed in self._feeds:
            feed.wait_until(ends_at, seconds)


class _Feed:
    """A tracker in its thread."""

    def __init__(self, name: str, open_it: Opener, followed: Followed, tell: Callable[[str], None]):
        self._name = name
        self._open = open_it
        self._followed = followed
        self._tell = tell
        self._points: queue.Queue[tuple[int, dict[str, float]]] = queue.Queue(MOST_WAITING)
        self._ending = threading.Event()
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name=f"tracker {name}", daemon=True)
        self._thread.start()

    def put(self, point: tuple[int, dict[str, float]]) -> None:
        if self._is_over:
            return
        try:
            self._points.put_nowait(point)
        except queue.Full:
            self._give_up(f"{self._name} does not keep up, and is told nothing more of {self._followed.step}.")

    def end(self) -> None:
        self._ending.set()

    def wait_until(self, ends_at: float, seconds: float) -> None:
        self._thread.join(max(0.0, ends_at - time.monotonic()))
        if self._thread.is_alive():
            self._give_up(f"{self._name} did not finish within {seconds:g} s; what it had not taken then is left out.")

    def _run(self) -> None:
        try:
            tracker = self._open(self._followed)
            while (point := self._next()) is not None:
                tracker.log(*point)
            tracker.close()
        except ImportError as error:
            self._give_up(f"{self._name} is not installed on this worker ({error}); its series are the job's own only.")
        except Exception as error:
            why = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
            self._give_up(f"{self._name} failed, and is told nothing more of {self._followed.step}: {why}")

    def _next(self) -> tuple[int, dict[str, float]] | None:
        while not self._is_over:
            try:
                return self._points.get(timeout=0.05)
            except queue.Empty:
                if self._ending.is_set():
                    return None
        return None

    def _give_up(self, sentence: str) -> None:
        if not self._is_over:
            self._is_over = True
            self._tell(sentence)


@contextmanager
def following(run: Run, followed: Followed, names: Sequence[str]) -> Iterator[None]:
    """What the step says of its series goes to these trackers too; the files that they made are artifacts afterwards."""
    if not names:
        yield
        return

    def tell(sentence: str) -> None:
        run.event("notice", f"{followed.step}: {sentence}", step=followed.step)

    trackers = Trackers(followed, {name: OPENERS[name] for name in names}, tell)
    run.listener = trackers
    try:
        yield
    finally:
        run.listener = None
        trackers.close()
        try:
            _publish(run, followed)
        except OSError as error:
            tell(f"the trackers' files cannot be kept: {error.strerror}.")


def named_by(step: ResolvedStep) -> list[str]:
    """The trackers of a step, each once."""
    logger = [step.finetuning.ppo_logger] if step.finetuning.stage == "ppo" and step.finetuning.ppo_logger else []
    return list(dict.fromkeys([*step.training.report_to, *logger]))


def _publish(run: Run, followed: Followed) -> None:
    """Copies: a tracker that was left behind may write on, and a file that changes is none that can be sent."""
    kept = followed.folder.with_name("tracked")
    for file in sorted([*followed.folder.rglob("events.out.tfevents.*"), *followed.folder.rglob("*.wandb")]):
        name = file.relative_to(followed.folder)
        (kept / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, kept / name)
        described = checkpoints.describe(kept, kept / name)
        run.artifact(f"{followed.step}/{name.as_posix()}", kept / name, described["size"], described["sha256"])


# -- each of them ------------------------------------------------------------------------------------------------------


class _TensorBoard:
    """Event files, one folder an attempt: a later attempt's has the points of those before it, too."""

    def __init__(self, followed: Followed):
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(followed.folder / "tensorboard" / f"attempt-{followed.attempt}"))
        arguments = json.dumps(followed.arguments, indent=1)
        self._writer.add_text("arguments", "\n".join(f"    {line}" for line in arguments.splitlines()))

    def log(self, global_step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, global_step)

    def close(self) -> None:
        self._writer.close()


class _WeightsAndBiases:
    """On the operator's server where there is one, and its key is in WANDB_API_KEY; else files, for `wandb sync`.

    Nothing is sent but the series and the step's arguments: no console, no code, nothing of the machine.
    """

    def __init__(self, followed: Followed):
        os.environ |= {"WANDB_ERROR_REPORTING": "false", "DO_NOT_TRACK": "true"}
        import wandb

        self._finish = wandb.teardown
        key = os.environ.get("WANDB_API_KEY")
        online = {"mode": "online", "base_url": followed.wandb_url, "api_key": key} if followed.wandb_url and key else {}
        settings = wandb.Settings(
            **{"mode": "offline", "init_timeout": FINISH_SECONDS, "root_dir": str(followed.folder)} | online,
            console="off",
            silent=True,
            save_code=False,
            disable_code=True,
            disable_git=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_disable_machine_info=True,
        )
        followed.folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=followed.project,
            entity=followed.wandb_entity,
            tags=list(followed.tags) or None,
            id=f"{followed.job_id}-{followed.step}-{followed.attempt}",
            group=followed.job_id,
            name=followed.called,
            config=followed.arguments,
            settings=settings,
        )

    def log(self, global_step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=global_step)

    def close(self) -> None:
        self._run.finish()
        self._finish()


class _MLflow:
    """A run on the operator's server, with the series as metrics and the step's arguments as parameters."""

    def __init__(self, followed: Followed):
        # it would ask a server that is down for minutes, and tell its makers that it is used
        quick = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
        os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", **quick}
        from mlflow.entities import Metric, Param
        from mlflow.tracking import MlflowClient

        self._metric = Metric
        self._client = MlflowClient(tracking_uri=followed.mlflow_url)
        own = {"finebits.job": followed.job_id, "finebits.step": followed.step, "finebits.attempt": str(followed.attempt)}
        tags = dict.fromkeys(followed.tags, "") | own
        run = self._client.create_run(self._experiment(followed.project), tags=tags, run_name=followed.called)
        self._run_id = run.info.run_id
        parameters = [Param(name, str(value)[:500]) for name, value in _flat(followed.arguments)]
        for start in range(0, len(parameters), 100):  # the most that one request may hold
            self._client.log_batch(self._run_id, params=parameters[start : start + 100])

    def log(self, global_step: int, values: Mapping[str, float]) -> None:
        at = int(time.time() * 1000)
        self._client.log_batch(
            self._run_id, metrics=[self._metric(name, value, at, global_step) for name, value in values.items()]
        )

    def close(self) -> None:
        self._client.set_terminated(self._run_id)

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id if found is not None else self._client.create_experiment(name))


def _flat(arguments: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """group.argument of everything that has a value."""
    for group, values in arguments.items():
        if isinstance(values, dict):
            yield from ((f"{group}.{name}", value) for name, value in values.items() if value is not None)


OPENERS: dict[str, Opener] = {"tensorboard": _TensorBoard, "wandb": _WeightsAndBiases, "mlflow": _MLflow}
