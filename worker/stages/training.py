"""What the training stages share: loading the model, measuring its base, and training on from wherever earlier attempts came."""

import json
import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase, PrinterCallback, Trainer, TrainerCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from worker import checkpoints, ranks
from worker.data.blanks import Fillable
from worker.data.collate import Collator, collator_for, features
from worker.data.load import load_anchor, load_measured
from worker.data.prepared import Prepared, Streamed
from worker.data.templates import TEMPLATES, add_tokens
from worker.data.tokenize import Coverage
from worker.models.adapters import Model, trainable_parameters
from worker.models.assembly import frozen, to_train
from worker.models.loading import load_tokenizer
from worker.models.quantization import quantized_with
from worker.models.reward_model import RewardModel, language_model
from worker.probes.token import DocumentSums, adapter_off, measure
from worker.run import Run
from worker.stages.bringing import bring
from worker.stages.callbacks import Order, Reporting, Saving, Shares, Wishes, planned_number, recent_loss, told_of
from worker.stages.measuring import Measuring, by_document
from worker.stages.pictures import pictures
from worker.stages.probing import Probed, document_of_example
from worker.stages.series import Series
from worker.stages.sharding import whole_model
from worker.stages.step import StepWork
from worker.work import SavedCheckpoint


def tell_data(run: Run, work: StepWork, data: Prepared | Streamed, sentence: str | None = None) -> None:
    """How much of the data is trained on, or the stage's own sentence, and on what the checkpoints are measured."""
    if isinstance(data, Streamed):
        unknown = "rows are streamed: how many, and how many of their tokens are trained, is told when the step is done"
        run.event("data_loaded", f"{work.name}: {unknown}.", step=work.name, measured_split=data.split)
    else:
        said = sentence or data.coverage.sentence()
        _tell_coverage(run, work, data.coverage, said, examples=len(data.train), measured_split=data.split)
    for notice in data.notices:
        run.event("notice", f"{work.name}: {notice}", step=work.name)
    if data.split == "train" and work.step.measures.names:
        run.event(
            "notice",
            f"{work.name}: there is no validation part (val_size 0) and no measures.dataset, so checkpoints are measured on "
            "training rows, marked split: train. What they say of new text is not known.",
            step=work.name,
        )


def tell_stream(run: Run, work: StepWork, data: Prepared | Streamed, said: Callable[[Coverage], str] = Coverage.sentence) -> None:
    """What a stream came to, once it is known. An attempt that went on from a checkpoint read what that had trained, too."""
    if isinstance(data, Streamed) and data.train.coverage.rows:
        coverage = data.train.coverage
        _tell_coverage(run, work, coverage, f"this attempt read {coverage.rows} rows of the stream, {said(coverage)}")


def _tell_coverage(run: Run, work: StepWork, coverage: Coverage, sentence: str, **more: Any) -> None:
    run.event(
        "data_loaded",
        f"{work.name}: {sentence}.",
        step=work.name,
        rows=coverage.rows,
        truncated=coverage.truncated,
        dropped=coverage.dropped,
        tokens=coverage.tokens,
        trained_tokens=coverage.trained_tokens,
        **more,
    )


def add_template_tokens(run: Run, work: StepWork, tokenizer: PreTrainedTokenizerBase) -> None:
    """Before the model is loaded, which must have a row for each token."""
    name = work.step.data.template or "empty"
    added = add_tokens(TEMPLATES[name], tokenizer)
    if added:
        text = (
            f"{work.name}: the template {name} needs the tokens {', '.join(added)}, which the tokenizer did not have and now "
            "has; the model must have a row for each of them, or grow it with resize_vocab."
        )
        run.event("notice", text, step=work.name, tokens=added)


def train_dataset(data: Prepared | Streamed) -> Any:
    """As the trainer takes it."""
    return data.train if isinstance(data, Streamed) else features(data.train)


def fillable(rows: Any) -> Any:
    """With a blank beside them where several ranks share them, for losses that count what they train."""
    if ranks.n_ranks() == 1 or not isinstance(rows, list):
        return rows
    return Fillable(rows)


def trainable_model(run: Run, work: StepWork, tokenizer: PreTrainedTokenizerBase) -> Model:
    """The step's model on its device, with the parameters that train."""
    model = model_to_train(run, work, tokenizer)
    tell_model(run, work, model)
    return model


def model_to_train(run: Run, work: StepWork, tokenizer: PreTrainedTokenizerBase) -> Model:
    """The same before it is told of."""
    # what is to be shared out waits on the host, and each rank's GPU is given its part
    device = torch.device("cpu" if work.use_cpu or work.step.training.fsdp else "cuda")
    return to_train(work.start, work.step, tokenizer, device, lambda sentence: notice(run, work, sentence))


def tell_model(run: Run, work: StepWork, model: Model | RewardModel) -> None:
    """How many of its parameters train, and how it is held."""
    trainable, total = trainable_parameters(model)
    run.event(
        "model_loaded",
        f"{work.name}: {trainable:,} of {total:,} parameters train ({100 * trainable / total:.2f} %).",
        step=work.name,
        trainable_parameters=trainable,
        parameters=total,
        **_as_loaded(language_model(model)),
    )


def _as_loaded(model: Model) -> dict[str, Any]:
    """What the run's record says of how the model is held and how it computes."""
    whole = model.get_base_model() if isinstance(model, PeftModel) else model
    return {
        "attention": whole.config._attn_implementation,
        "dtype": str(whole.dtype).removeprefix("torch."),
        "quantization": quantized_with(whole.config),
        "rope": getattr(whole.config, "rope_parameters", None),
        "vocabulary": whole.get_input_embeddings().num_embeddings,
    }


def notice(run: Run, work: StepWork, sentence: str) -> None:
    run.event("notice", f"{work.name}: {sentence}", step=work.name)


def begin_measuring(
    run: Run, work: StepWork, model: Model | RewardModel, tokenizer: PreTrainedTokenizerBase, data: Prepared | Streamed
) -> Measuring | None:
    """The base's measures. None when the job wants no measures, and in a rank that is not the first, which measures for all."""
    measuring = None
    if work.step.measures.names and ranks.is_first():
        run.progress(phase="measuring")
        measured_on = torch.device("cpu" if work.use_cpu else "cuda")
        waits_on = next(model.parameters()).device
        measuring = _measured_base(run, work, model.to(measured_on) if work.step.training.fsdp else model, tokenizer, data)
        if work.step.training.fsdp:
            model.to(waits_on)
    ranks.meet()
    return measuring


def _measured_base(
    run: Run, work: StepWork, model: Model | RewardModel, tokenizer: PreTrainedTokenizerBase, data: Prepared | Streamed
) -> Measuring:
    step = work.step
    batch_documents = step.training.per_device_eval_batch_size
    probed = Probed(step.measures, step.generating, work.places, work.wanted, data, tokenizer, batch_documents)
    measuring = Measuring(run, step.name, probed, work.measured, load_anchor(work.places, work.wanted, tokenizer))
    text_base = None
    if step.measures.base == "job" and not work.begins_like_the_job:
        base_tokenizer = tokenizer_of_job(work)
        if base_tokenizer.get_vocab() == tokenizer.get_vocab():
            device = next(model.parameters()).device
            measuring.begin(frozen(work.job_start, work.job_step, base_tokenizer, device), model)
            return measuring
        notice(
            run,
            work,
            "the model that the job began with has another tokenizer, so no divergence from it exists; "
            "checkpoints are compared with the model that this step began with, and in bits per byte with that of the job.",
        )
        text_base = by_its_own_tokens(work, base_tokenizer, next(model.parameters()).device)
    # an adapter that training goes on with is a part of what the step began with, and a new one is not
    own = language_model(model)
    new_adapter = isinstance(own, PeftModel) and work.start.continued is None
    with adapter_off(own) if new_adapter else nullcontext():
        measuring.begin(own, model, text_base)
    return measuring


def tokenizer_of_job(work: StepWork) -> PreTrainedTokenizerBase:
    """Of the model that the job began with, as the job's first step had it."""
    tokenizer = load_tokenizer(work.job_model, work.step.model.split_special_tokens)
    if work.job_step.data.template is not None:
        add_tokens(TEMPLATES[work.job_step.data.template], tokenizer)
    return tokenizer


def by_its_own_tokens(work: StepWork, tokenizer: PreTrainedTokenizerBase, device: torch.device) -> DocumentSums:
    """The measured text by the model that the job began with."""
    examples = load_measured(work.places, work.wanted, tokenizer)
    model = frozen(work.job_start, work.job_step, tokenizer, device)
    windows, batch_documents = list(map(document_of_example, examples)), work.step.training.per_device_eval_batch_size
    sums = measure(model, windows, len(tokenizer), batch_documents=batch_documents)
    return by_document(sums, [example.document for example in examples])


def collator(work: StepWork, tokenizer: PreTrainedTokenizerBase) -> Collator:
    pad_id: Any = tokenizer.pad_token_id
    return collator_for(pad_id, work.step.data.ignore_pad_token_for_loss, torch.device("cpu" if work.use_cpu else "cuda"))


def callbacks(run: Run, work: StepWork, measuring: Measuring | None, series: Series | None = None) -> list[TrainerCallback]:
    """In the order in which they act: the loss is told before a checkpoint is saved, and saved before a wish is obeyed.

    `series` is what the stage's loss has to tell beside its value.
    """
    reporting = Reporting(run, work.name, work.step.training.logging_steps, series)
    return [Shares(), Order(), reporting, Saving(run, work, measuring), Wishes(run)]


def train(run: Run, work: StepWork, trainer: Trainer, measuring: Measuring | None) -> Path:
    """Trains on from the last complete checkpoint, until the end or a guard's stop; the folder of the step's last one."""
    last, over = ranks.agreed(partial(where_to_begin, run, work, trainer, measuring))
    if not over:
        _let_gradients_lie_in_buckets(trainer)
        trainer.remove_callback(PrinterCallback)  # a line for every update; Reporting prints one for each point of the series
        trainer.train(resume_from_checkpoint=str(last) if last else None)
        run.check()
        last = work.folder / f"{PREFIX_CHECKPOINT_DIR}-{trainer.state.global_step}"
    assert last is not None, "what is over has a checkpoint"
    keep(run, work, measuring)
    draw_pictures(run, work, measuring, last)
    return last


def _let_gradients_lie_in_buckets(trainer: Trainer) -> None:
    """Ranks exchange gradients in buckets, which need not be copies of them."""
    if trainer.accelerator.ddp_handler is not None:
        trainer.accelerator.ddp_handler.gradient_as_bucket_view = True


def where_to_begin(run: Run, work: StepWork, trainer: Trainer, measuring: Measuring | None) -> tuple[Path | None, bool]:
    """The checkpoint to go on from, and whether it is the step's last."""
    last = last_checkpoint(run, work, trainer, measuring)
    return last, last is not None and is_over(last, measuring)


def last_checkpoint(run: Run, work: StepWork, trainer: Trainer, measuring: Measuring | None) -> Path | None:
    """The complete one to go on from, with what was not measured of it and of those before it measured; None: from the start."""
    saved, last = _newest_whole(run, work, [*work.saved, *_taken_over(run, work)])
    if last is None:
        return None
    if measuring is not None:
        _measure_what_was_missed(run, trainer, measuring, work, saved, last, trainer_state(last)["max_steps"])
        run.check()
    if not is_over(last, measuring):
        run.event(
            "resumed",
            f"{work.name} goes on from checkpoint {saved[-1].global_step}.",
            step=work.name,
            global_step=saved[-1].global_step,
        )
    return last


def is_over(folder: Path, measuring: Measuring | None) -> bool:
    """Whether a checkpoint is the step's last: by its plan, or because a guard ends it there."""
    state = trainer_state(folder)
    return state["global_step"] >= state["max_steps"] or (measuring is not None and measuring.stops)


def keep(run: Run, work: StepWork, measuring: Measuring | None) -> None:
    """Says which checkpoint the step ends with, where a guard wants another than the last."""
    if measuring is not None and (kept := measuring.kept()) is not None:
        run.kept[work.name] = kept


def draw_pictures(run: Run, work: StepWork, measuring: Measuring | None, last: Path) -> None:
    """Of what was measured. The loss of training stands beside it where it is the same quantity: bits of a token."""
    seen = measuring.seen if measuring is not None else None
    if seen is None:
        return
    history = trainer_state(last)["log_history"] if work.step.finetuning.stage in ("pt", "sft") else []
    losses = {entry["step"]: entry["loss"] / math.log(2) for entry in history if entry.get("window")}
    pictures(run, work.name, seen, losses, work.folder)


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
            run.points(work.name, window["step"], told_of(window))
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
            history = trainer_state(folder)["log_history"]
            measuring.checkpoint(_as_saved(trainer, work, folder), checkpoint.global_step, history)


def _as_saved(trainer: Trainer, work: StepWork, folder: Path) -> Any:
    """The checkpoint's model; the trainer's own, but for one that all ranks would have to load at once."""
    if work.step.training.fsdp:
        return whole_model(work, folder)
    # transformers' own way to put a checkpoint's weights into the model, adapter or whole, in one file or several
    trainer._load_from_checkpoint(str(folder))
    return trainer.model
