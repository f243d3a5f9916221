"""What the fork server of a chaos worker loads: the real child, with work in place of training whose every number is known.

The state of a step is a chain of hashes, so a resume from the wrong place, or from another's state, gives other losses for good.
Everything around the work is real: the pipe, the wishes, the checkpoints that are sealed, the log, the watchdog.
"""

import hashlib
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from service.specs.job import ResolvedStep
from worker import checkpoints
from worker.run import Run, Stopped
from worker.stages.bringing import bring
from worker.work import Work

UPDATE_SECONDS = 0.03
BEAT_UPDATES = 3  # an event that names its attempt, every so many updates
HOLD, HELD_AT = "hold", 10  # while there is such a file among the artifacts, none goes beyond that update but by a wish
N_BYTES = 40_000  # of a checkpoint
STATE, WEIGHTS, CURVE = "state.json", "weights.bin", "curve.txt"


@dataclass(frozen=True)
class State:
    """Where a step is."""

    update: int
    digest: str

    @property
    def loss(self) -> float:
        return int(self.digest[:8], 16) / 2**32

    def after_one_more(self) -> "State":
        return State(self.update + 1, hashlib.sha256(f"{self.digest} {self.update + 1}".encode()).hexdigest())

    def weights(self) -> bytes:
        return (self.digest.encode() * (N_BYTES // 64 + 1))[:N_BYTES]


def first(seed: int, step: str) -> State:
    return State(0, hashlib.sha256(f"{seed} {step}".encode()).hexdigest())


def run(work: Work, run: Run) -> None:
    """In place of worker.pipeline.run."""
    steps = work.resolved.steps
    for position, step in enumerate(steps):
        if step.name in work.outputs:
            continue
        run.check()
        run.progress(step=step.name, position=position + 1, steps=len(steps), phase="training")
        run.event("step_started", f"Step {step.name} begins.", step=step.name, attempt=work.attempt)
        output = _train(work, run, step)
        _tell_curve(work, run, step)
        run.step_finished(position, step.name, output, {"updates": step.training.max_steps, "attempt": work.attempt})


def _train(work: Work, run: Run, step: ResolvedStep) -> Path:
    """To the last update, from the newest checkpoint that is whole. The folder of the last checkpoint."""
    state, folder = _start(work, run, step)
    while state.update < step.training.max_steps:
        time.sleep(UPDATE_SECONDS)
        if state.update == HELD_AT and not run.wish and Path(work.artifacts_root, HOLD).exists():
            continue
        state = state.after_one_more()
        run.points(step.name, state.update, {"loss": state.loss, "attempt": float(work.attempt)})
        run.progress(global_step=state.update, max_steps=step.training.max_steps, loss=state.loss)
        if state.update % BEAT_UPDATES == 0:
            run.event("notice", f"update {state.update}", step=step.name, update=state.update, attempt=work.attempt)
        if run.wish == "cancel":
            raise Stopped("cancel")
        if run.wish or state.update % step.training.save_steps == 0 or state.update == step.training.max_steps:
            folder = _save(work, run, step, state)
        if run.wish and state.update < step.training.max_steps:
            raise Stopped(run.wish)
    assert folder is not None
    return folder


def _start(work: Work, run: Run, step: ResolvedStep) -> tuple[State, Path | None]:
    for saved in sorted(work.saved(step.name), key=lambda saved: saved.global_step, reverse=True):
        folder = bring(run, step.name, Path(work.artifacts_root), saved)
        if folder is not None:
            told = f"{step.name} goes on from checkpoint {saved.global_step}."
            run.event("resumed", told, step=step.name, global_step=saved.global_step, attempt=work.attempt)
            _measure_what_was_missed(work, run, step, saved.global_step)
            return State(**json.loads((folder / STATE).read_text())), folder
    return first(step.training.seed, step.name), None


def _measure_what_was_missed(work: Work, run: Run, step: ResolvedStep, up_to: int) -> None:
    """A worker may have died between saving a checkpoint and measuring it."""
    measured = {row["global_step"] for row in work.measurements.get(step.name, [])}
    for saved in work.saved(step.name):
        if saved.global_step <= up_to and saved.global_step not in measured:
            _measure(run, step, State(**json.loads(Path(work.artifacts_root, saved.path, STATE).read_text())))


def _save(work: Work, run: Run, step: ResolvedStep, state: State) -> Path:
    folder = work.folder / step.name / f"{checkpoints.PREFIX}-{state.update}"
    folder.mkdir(parents=True)
    (folder / STATE).write_text(json.dumps({"update": state.update, "digest": state.digest}))
    (folder / WEIGHTS).write_bytes(state.weights())
    files = checkpoints.seal(folder)
    run.checkpoint(step.name, state.update, folder, state.update / step.training.max_steps, state.loss, files)
    _measure(run, step, state)
    print(f"saved {folder}")
    return folder


def _measure(run: Run, step: ResolvedStep, state: State) -> None:
    row = {
        "global_step": state.update,
        "measure": "cross_entropy",
        "value": state.loss,
        "unit": "bit",
        "standard_error": None,
        "interval": None,
        "interval_reason": "one document",
        "n_documents": 1,
        "n_tokens": 1,
        "estimator": "stub",
        "versus_base": None,
        "versus_best": None,
    }
    run.measurement(step.name, state.update, "validation", {"digest": state.digest}, [row])


def _tell_curve(work: Work, run: Run, step: ResolvedStep) -> None:
    file = work.folder / step.name / CURVE
    file.parent.mkdir(parents=True, exist_ok=True)  # an attempt that had nothing left to train has none
    file.write_text(curve(step.training.seed, step.name, step.training.max_steps))
    told = checkpoints.describe(file.parent, file)
    run.artifact(f"{step.name}/{CURVE}", file, told["size"], told["sha256"])


def curve(seed: int, step: str, n_updates: int) -> str:
    """What a step that is whole has learned."""
    return "\n".join(str(state.loss) for state in states(seed, step, n_updates)[1:])


def states(seed: int, step: str, n_updates: int) -> list[State]:
    """Of every update, the start's first."""
    chain = [first(seed, step)]
    for _ in range(n_updates):
        chain.append(chain[-1].after_one_more())
    return chain


def take_the_place_of_training() -> None:
    """Makes worker.child find this where the pipeline is, and a name or two where torch is; then loads it."""
    torch, pipeline = ModuleType("torch"), ModuleType("worker.pipeline")
    torch.OutOfMemoryError = MemoryError  # type: ignore[attr-defined]
    torch.set_num_threads = lambda n: None  # type: ignore[attr-defined]
    pipeline.run = run  # type: ignore[attr-defined]
    launching, ranks = ModuleType("worker.launching"), ModuleType("worker.ranks")
    launching.Ranks = object  # type: ignore[attr-defined]
    ranks.part = lambda: None  # type: ignore[attr-defined]
    ranks.is_about_a_peer = lambda error: False  # type: ignore[attr-defined]
    sys.modules |= {"torch": torch, "worker.pipeline": pipeline, "worker.launching": launching, "worker.ranks": ranks}
    import worker.child

    stack = ModuleType("worker.stack")
    stack.main = worker.child.main  # type: ignore[attr-defined]
    sys.modules["worker.stack"] = stack
