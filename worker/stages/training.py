"""What the training stages share: loading the model, measuring its base, and training on from wherever earlier attempts came."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase, PrinterCallback, Trainer, TrainerCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from worker import checkpoints
from worker.data.collate import Collator, collator_for
from worker.data.load import Prepared
from worker.models.adapters import Model, prepare, trainable_parameters
from worker.models.dtype import compute_dtype
from worker.models.loading import load_model, load_tokenizer
from worker.probes.token import adapter_off
from worker.run import Run
from worker.stages.bringing import bring
from worker.stages.callbacks import Order, Reporting, Saving, Wishes, planned_number, recent_loss
from worker.stages.measuring import Measuring
from worker.stages.step import StepWork
from worker.work import SavedCheckpoint


def tell_data(run: Run, work: StepWork, data: Prepared) -> None:
    """How much of the data is trained on, and on what the checkpoints are measured."""
    coverage = data.coverage
    run.event(
        "data_loaded",
        f"{work.name}: {coverage.sentence()}.",
        step=work.name,
        rows=coverage.rows,
        truncated=coverage.truncated,
        dropped=coverage.dropped,
        tokens=coverage.tokens,
        trained_tokens=coverage.trained_tokens,
        examples=len(data.train),
        measured_split=data.split,
    )
    if data.split == "train" and work.step.measures.names:
        run.event(
            "notice",
            f"{work.name}: there is no validation part (val_size 0) and no measures.dataset, so checkpoints are measured on "
            "training rows, marked split: train. What they say of new text is not known.",
            step=work.name,
        )


def trainable_model(run: Run, work: StepWork, tokenizer: PreTrainedTokenizerBase) -> Model:
    """The step's model on its device, with the parameters that train."""
    step = work.step
    device = torch.device("cpu" if work.use_cpu else "cuda")
    # what trains is fp32 and computes beside what does not: only under an adapter may the rest be of half precision
    dtype = compute_dtype(device) if step.finetuning.finetuning_type == "lora" else torch.float32
    loaded = load_model(work.model, dtype, tokenizer)
    model = prepare(loaded, step.finetuning, gradient_checkpointing=not step.model.disable_gradient_checkpointing)
    model.to(device)
    trainable, total = trainable_parameters(model)
    run.event(
        "model_loaded",
        f"{work.name}: {trainable:,} of {total:,} parameters train ({100 * trainable / total:.2f} %).",
        step=work.name,
        trainable_parameters=trainable,
        parameters=total,
    )
    return model


def begin_measuring(
    run: Run, work: StepWork, model: Model, tokenizer: PreTrainedTokenizerBase, data: Prepared
) -> Measuring | None:
    """The base's measures. None when the job wants no measures."""
    step = work.step
    if not step.measures.names:
        return None
    run.progress(phase="measuring")
    batch_documents = step.training.per_device_eval_batch_size
    measuring = Measuring(run, step.name, step.measures, data, tokenizer, batch_documents, work.measured)
    if step.measures.base == "job" and work.job_model != work.model:
        base_tokenizer = load_tokenizer(work.job_model, step.model.split_special_tokens)
        if base_tokenizer.get_vocab() == tokenizer.get_vocab():
            base = load_model(work.job_model, next(model.parameters()).dtype, base_tokenizer)
            measuring.begin(base.to(next(model.parameters()).device))
            return measuring
        run.event(
            "notice",
            f"{work.name}: the model that the job began with has another tokenizer, so no divergence from it exists; "
            "checkpoints are compared with the model that this step began with.",
            step=work.name,
        )
    with adapter_off(model) if isinstance(model, PeftModel) else nullcontext():
        measuring.begin(model)
    return measuring


def collator(work: StepWork, tokenizer: PreTrainedTokenizerBase) -> Collator:
    pad_id: Any = tokenizer.pad_token_id
    return collator_for(pad_id, work.step.data.ignore_pad_token_for_loss, torch.device("cpu" if work.use_cpu else "cuda"))


def callbacks(run: Run, work: StepWork, measuring: Measuring | None) -> list[TrainerCallback]:
    """In the order in which they act: the loss is told before a checkpoint is saved, and saved before a wish is obeyed."""
    reporting = Reporting(run, work.name, work.step.training.logging_steps)
    return [Order(), reporting, Saving(run, work, measuring), Wishes(run)]


def train(run: Run, work: StepWork, trainer: Trainer, measuring: Measuring | None) -> Path:
    """Trains on from the last complete checkpoint, and answers the folder of the step's last one."""
    saved, last = _newest_whole(run, work, [*work.saved, *_taken_over(run, work)])
    if last is not None:
        state = trainer_state(last)
        if measuring is not None:
            _measure_what_was_missed(run, trainer, measuring, work, saved, last, state["max_steps"])
        if state["global_step"] >= state["max_steps"]:
            return last
        run.event(
            "resumed",
            f"{work.name} goes on from checkpoint {saved[-1].global_step}.",
            step=work.name,
            global_step=saved[-1].global_step,
        )
    trainer.remove_callback(PrinterCallback)  # a line for every update; Reporting prints one for each point of the series
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    run.check()
    return work.folder / f"{PREFIX_CHECKPOINT_DIR}-{trainer.state.global_step}"


def trainer_state(folder: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((folder / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
    return state


def _taken_over(run: Run, work: StepWork) -> list[SavedCheckpoint]:
    """Sealed on this host by an attempt that was lost before the artifact store had them: their sending goes on where it ended.

    The points that led to them may have been lost with that attempt's keeper, and are told again.
    """
    if run.deliveries is None:
        return []
    taken = []
    for folder in run.deliveries.unsent(work.job_id, work.name):
        if not checkpoints.is_complete(folder):
            continue
        state, files = TrainerState.load_from_json(str(folder / TRAINER_STATE_NAME)), checkpoints.listed(folder)
        for window in (entry for entry in state.log_history if entry.get("window")):
            known = {name: window[name] for name in ("loss", "learning_rate", "grad_norm") if name in window}
            run.points(work.name, window["step"], known)
        epoch = state.epoch or 0.0
        run.checkpoint(work.name, state.global_step, folder, epoch, recent_loss(state), files)
        taken.append(SavedCheckpoint(state.global_step, str(folder.relative_to(work.artifacts_root)), epoch, files))
    return taken


def _newest_whole(run: Run, work: StepWork, saved: list[SavedCheckpoint]) -> tuple[list[SavedCheckpoint], Path | None]:
    """The folder to go on from, and the checkpoints up to it, oldest first. Those before it are not looked at."""
    remaining = sorted(saved, key=lambda checkpoint: checkpoint.global_step)
    while remaining:
        folder = bring(run, work.name, work.artifacts_root, remaining[-1])
        if folder is not None:
            return remaining, folder
        remaining.pop()
    return [], None


def _measure_what_was_missed(
    run: Run,
    trainer: Trainer,
    measuring: Measuring,
    work: StepWork,
    saved: list[SavedCheckpoint],
    last: Path,
    max_steps: int,
) -> None:
    """A worker may have died between saving a checkpoint and measuring it."""
    for checkpoint in saved:
        number = planned_number(work.step.training, checkpoint.global_step, checkpoint.epoch)
        if not measuring.is_due(number, checkpoint.global_step >= max_steps) or measuring.has(checkpoint.global_step):
            continue
        run.check()
        folder = last if checkpoint is saved[-1] else bring(run, work.name, work.artifacts_root, checkpoint)
        if folder is not None:
            # transformers' own way to put a checkpoint's weights into the model, adapter or whole, sharded or not
            trainer._load_from_checkpoint(str(folder))
            measuring.checkpoint(trainer.model, checkpoint.global_step)
