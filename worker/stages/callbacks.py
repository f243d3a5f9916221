"""What happens between two updates: the client's wishes are heard, the loss is told, checkpoints are sealed and measured."""

import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import TrainerCallback, TrainerControl, TrainerState
from transformers import TrainingArguments as TransformersArguments
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from service.specs.reasons import Reason
from service.specs.training import TrainingArguments
from worker import checkpoints, disk, ranks
from worker.data.blanks import Fillable, WholeBatches
from worker.failures import JobFailure
from worker.models.reward_model import language_model
from worker.models.saved_adapters import BASE_CONFIG
from worker.run import Run, Stopped
from worker.stages.measuring import Measuring
from worker.stages.series import Series, means
from worker.stages.sharding import is_sharded, own_part, whole_model
from worker.stages.step import StepWork

PROGRESS_SECONDS = 0.2


class Wishes(TrainerCallback):
    """Obeys at the end of an update: a cancelled job stops there, one that must move on saves a checkpoint first."""

    def __init__(self, run: Run):
        self._run = run

    def on_step_end(self, args: TransformersArguments, state: TrainerState, control: TrainerControl, **_: Any) -> TrainerControl:
        self._run.wish = ranks.agreed(lambda: self._run.wish)  # the first hears it, and all obey at one update
        if self._run.wish == "cancel":
            raise Stopped("cancel")
        if self._run.wish == "stop":
            control.should_save = True
            control.should_training_stop = True
        elif self._run.deliveries is not None:
            self._run.deliveries.check()
        return control


class Shares(TrainerCallback):
    """Of several ranks: each has batches enough, and draws noise of its own once the order is drawn, which is the same in all."""

    def on_train_begin(
        self, args: TransformersArguments, state: TrainerState, control: TrainerControl, train_dataloader: Any = None, **_: Any
    ) -> None:
        ranks.draw_apart(args.seed)
        if isinstance(getattr(train_dataloader, "dataset", None), Fillable):  # ppo has no such loader
            shard = train_dataloader.batch_sampler
            shard.batch_sampler = WholeBatches(shard.batch_sampler, ranks.n_ranks())


class Order(TrainerCallback):
    """Makes the order of grouped lengths depend on the seed, the epoch and the rows of an update only.

    The trainer draws it from torch's own generator, which after a resume is elsewhere when the epoch begins, and it groups as if
    there were one rank.
    """

    def on_epoch_begin(
        self,
        args: TransformersArguments,
        state: TrainerState,
        control: TrainerControl,
        train_dataloader: Any = None,
        **_: Any,
    ) -> None:
        batches = train_dataloader.batch_sampler
        sampler = getattr(batches, "batch_sampler", batches).sampler  # a rank's part of the batches is of all of them
        if isinstance(sampler, LengthGroupedSampler):
            sampler.batch_size = args.train_batch_size * args.gradient_accumulation_steps * ranks.n_ranks()
            seed = args.seed if args.data_seed is None else args.data_seed
            sampler.generator = torch.Generator().manual_seed(seed + int(state.epoch or 0))


class Reporting(TrainerCallback):
    """Makes the training series: means of every `logging_steps` updates, as an uninterrupted run would have them.

    The trainer logs each update into `state.log_history`, which checkpoints keep. A finished window's entries are replaced
    there by their mean, so a run that resumes in the middle of a window still has the first half of it. What `series` has to tell
    of an update is kept and averaged in the same way.
    """

    def __init__(self, run: Run, step: str, logging_steps: int, series: Series | None = None):
        self._run = run
        self._series = series
        self._step = step
        self._logging_steps = logging_steps
        self._told_at = 0.0
        self._clock = _Throughput()

    def on_train_begin(self, args: TransformersArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._clock = _Throughput(tokens=state.num_input_tokens_seen)
        for window in (entry for entry in state.log_history if entry.get("window")):
            self._run.remind(window["step"], told_of(window))
        self._run.progress(phase="training", global_step=state.global_step, max_steps=state.max_steps)

    def on_step_begin(self, args: TransformersArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._clock.start()

    def on_step_end(self, args: TransformersArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._clock.stop(state.num_input_tokens_seen)

    def on_log(
        self,
        args: TransformersArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if logs is None or "loss" not in logs:
            return
        _require_finite(logs, state.global_step, scales_gradients=args.fp16)
        if self._series is not None:
            state.log_history[-1]["series"] = self._series.take()
        if state.global_step % self._logging_steps == 0 or state.global_step == state.max_steps:
            self._close_window(state)
        self._tell_progress(state, logs["loss"])

    def _close_window(self, state: TrainerState) -> None:
        window = open_window(state)
        last = window[-1]
        mean: dict[str, Any] = {
            "window": True,
            "step": state.global_step,
            "epoch": last.get("epoch"),
            "loss": sum(entry["loss"] for entry in window) / len(window),
            "learning_rate": last["learning_rate"],
        }
        if "grad_norm" in last:
            mean["grad_norm"] = last["grad_norm"]
        if self._series is not None:
            mean["series"] = means([entry["series"] for entry in window])
        state.log_history[-len(window) :] = [mean]
        values: dict[str, float] = {
            "tokens_per_second": self._clock.tokens_per_second,
            "tokens": state.num_input_tokens_seen,
        }
        values |= told_of(mean)
        finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        self._run.points(self._step, state.global_step, finite)
        told = " ".join(f"{name} {value:.6g}" for name, value in sorted(finite.items()))
        print(f"{self._step} {state.global_step}/{state.max_steps}: {told}")

    def _tell_progress(self, state: TrainerState, loss: float) -> None:
        now = time.monotonic()
        if now - self._told_at < PROGRESS_SECONDS and state.global_step < state.max_steps:
            return
        self._told_at = now
        self._run.progress(
            phase="training",
            global_step=state.global_step,
            max_steps=state.max_steps,
            epoch=state.epoch,
            loss=loss,
            tokens_per_second=self._clock.tokens_per_second,
            eta_seconds=self._clock.seconds_per_step * (state.max_steps - state.global_step),
        )


class Saving(TrainerCallback):
    """Seals each checkpoint once it is written, tells of it, and has it measured. The last update always makes one."""

    def __init__(self, run: Run, work: StepWork, measuring: Measuring | None):
        self._run = run
        self._work = work
        self._measuring = measuring
        self._sealed_at = -1

    def on_step_end(self, args: TransformersArguments, state: TrainerState, control: TrainerControl, **_: Any) -> TrainerControl:
        if state.global_step >= state.max_steps:
            control.should_save = True
        self._require_room(control)
        return control

    def on_epoch_end(self, args: TransformersArguments, state: TrainerState, control: TrainerControl, **_: Any) -> TrainerControl:
        if state.global_step == self._sealed_at:  # the epoch ended with an update that made a checkpoint
            control.should_save = False
        self._require_room(control)
        return control

    def _require_room(self, control: TrainerControl) -> None:
        if control.should_save:
            disk.require(self._work.artifacts_root, self._work.checkpoint_bytes, self._work.kept_free_bytes)

    def on_save(
        self, args: TransformersArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        _require_finite_weights(model, state.global_step)
        self._sealed_at = state.global_step
        ranks.meet()  # each has written the state of its generators
        if ranks.agreed(lambda: self._seal_and_measure(args, state, model)):
            control.should_training_stop = True

    def _seal_and_measure(self, args: TransformersArguments, state: TrainerState, model: Any) -> bool:
        """Whether training ends here: by a guard, or because a wish has come meanwhile."""
        folder = Path(args.output_dir or "", f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}")
        self._run.progress(phase="saving", global_step=state.global_step)
        _forget_this_host(folder, self._work)
        own = language_model(model)
        if isinstance(own, PeftModel):
            own.get_base_model().config.to_json_file(folder / BASE_CONFIG)
        files = checkpoints.seal(folder)
        self._run.checkpoint(self._work.name, state.global_step, folder, state.epoch or 0.0, recent_loss(state), files)
        # with a wish to obey there is no time: what is not measured now is when the job goes on
        is_last = state.global_step >= state.max_steps
        number = planned_number(self._work.step.training, state.global_step, state.epoch or 0.0)
        ends = False
        if self._measuring is not None and self._measuring.is_due(number, is_last) and self._run.wish is None:
            self._run.progress(phase="measuring")
            measured = whole_model(self._work, folder) if is_sharded(model) else model
            self._measuring.checkpoint(measured, state.global_step, state.log_history)
            ends = self._measuring.stops or self._run.wish is not None
        self._run.progress(phase="training")
        return ends


def _forget_this_host(folder: Path, work: StepWork) -> None:
    """What a client downloads names the base as the job does, not by this host's path."""
    for name in (TRAINING_ARGS_NAME, "README.md"):  # a pickle that nothing reads again; a card with nothing filled in
        (folder / name).unlink(missing_ok=True)
    config_file = folder / "adapter_config.json"
    if config_file.exists():
        config = json.loads(config_file.read_text(encoding="utf-8"))
        config["base_model_name_or_path"] = work.step.model.model_name_or_path
        config_file.write_text(json.dumps(config, indent=2), encoding="utf-8")


def planned_number(training: TrainingArguments, global_step: int, epoch: float) -> int | None:
    """Which of the planned checkpoints this is, counted from 1; None when it is none of them."""
    done = epoch if training.save_strategy == "epoch" else global_step / training.save_steps
    return round(done) if abs(done - round(done)) < 1e-6 else None


def open_window(state: TrainerState) -> list[dict[str, Any]]:
    """The updates since the last mean was taken."""
    entries = []
    for entry in reversed(state.log_history):
        if entry.get("window") or "loss" not in entry:
            break
        entries.append(entry)
    return entries[::-1]


def recent_loss(state: TrainerState) -> float | None:
    """The mean training loss of the window that is open, or of the last that was closed; in nats, as the trainer has it."""
    window = open_window(state) or [entry for entry in state.log_history if entry.get("window")][-1:]
    return sum(entry["loss"] for entry in window) / len(window) if window else None


def told_of(window: dict[str, Any]) -> dict[str, float]:
    """What a finished window adds to the training series."""
    return {name: window[name] for name in ("loss", "learning_rate", "grad_norm") if name in window} | window.get("series", {})


def _require_finite(logs: dict[str, Any], global_step: int, scales_gradients: bool) -> None:
    """A gradient that is scaled for fp16 may overflow: the update is left out then, and the next is scaled less."""
    if not math.isfinite(logs["loss"]):
        raise _diverged(f"The loss became {logs['loss']} at update {global_step}.", global_step)
    norm = logs.get("grad_norm", 0.0)
    if not scales_gradients and not math.isfinite(norm):
        raise _diverged(f"The length of the gradient became {norm} at update {global_step}.", global_step)


def _require_finite_weights(model: torch.nn.Module, global_step: int) -> None:
    """A checkpoint that nothing could go on from is never sealed: the last good one stays the last."""
    if not all(bool(own_part(parameter).isfinite().all()) for parameter in model.parameters() if parameter.requires_grad):
        raise _diverged(f"The weights are no longer all finite after update {global_step}.", global_step)


def _diverged(what: str, global_step: int) -> JobFailure:
    advice = "A lower learning_rate, a longer warm-up, or bf16 in place of fp16 may help."
    return JobFailure(Reason.DIVERGED, f"{what} {advice}", global_step=global_step)


class _Throughput:
    """Tokens and seconds of the updates of this attempt; saving and measuring between them do not count."""

    def __init__(self, tokens: int = 0):
        self._first_tokens = self._tokens = tokens
        self._seconds = 0.0
        self._steps = 0
        self._started_at: float | None = None

    def start(self) -> None:
        self._started_at = time.monotonic()

    def stop(self, tokens: int) -> None:
        if self._started_at is not None:
            self._seconds += time.monotonic() - self._started_at
        self._started_at = None
        self._tokens = tokens
        self._steps += 1

    @property
    def tokens_per_second(self) -> float:
        return (self._tokens - self._first_tokens) / self._seconds if self._seconds else 0.0

    @property
    def seconds_per_step(self) -> float:
        return self._seconds / self._steps if self._steps else 0.0
