"""measure: what is known of a model or of checkpoints on a text, without training anything."""

import gc
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, set_seed
from transformers.trainer import TRAINER_STATE_NAME

from service.specs.reasons import Reason
from worker.data.load import Places, Wanted, load_anchor, load_answers, load_pairs, load_pretraining, load_supervised
from worker.data.prepared import Prepared, Streamed
from worker.failures import JobFailure
from worker.models import value_head
from worker.models.adapters import Model
from worker.models.assembly import frozen
from worker.models.loading import load_tokenizer
from worker.models.reward_model import RewardModel, head_to_train
from worker.models.tokenizers import refuse_other_tokens, why_other_tokens
from worker.run import Run
from worker.stages.measuring import Measuring
from worker.stages.pictures import pictures
from worker.stages.probing import Probed
from worker.stages.step import StepWork, ToMeasure
from worker.stages.training import add_template_tokens, by_its_own_tokens, tokenizer_of_job

LOADERS: dict[str, Callable[[Places, Wanted, PreTrainedTokenizerBase], Prepared | Streamed]] = {
    "pt": load_pretraining,
    "sft": load_supervised,
    "dpo": load_answers,
    "rm": load_pairs,
}


def measure_later(work: StepWork, run: Run) -> tuple[Path, dict[str, Any]]:
    """Measures the base, and then each model that no earlier attempt has measured, one at a time. What a summary says of it."""
    step = work.step
    set_seed(step.training.seed)
    tokenizer = load_tokenizer(work.model, step.model.split_special_tokens)
    add_template_tokens(run, work, tokenizer)
    data = LOADERS[step.finetuning.stage](work.places, work.wanted, tokenizer)
    anchor = load_anchor(work.places, work.wanted, tokenizer)
    _tell_text(run, work, data, len({example.document for example in anchor}))
    batch_documents = step.training.per_device_eval_batch_size
    probed = Probed(step.measures, step.generating, work.places, work.wanted, data, tokenizer, batch_documents)
    called = {number: (one.name, one.of) for number, one in enumerate(work.to_measure, 1)}
    measuring = Measuring(run, step.name, probed, work.measured, anchor, called)
    run.progress(phase="measuring", global_step=0, max_steps=len(called))
    _measure_base(work, tokenizer, measuring)
    for number, one in enumerate(work.to_measure, 1):
        run.check()
        if not measuring.has(number):
            _measure(work, one, number, tokenizer, measuring)
        run.progress(global_step=number)
    if measuring.seen is not None:
        pictures(run, step.name, replace(measuring.seen, counted="place in the list"), {}, work.folder)
    return work.folder, {"measured": len(called)}


def load_base(work: StepWork, tokenizer: PreTrainedTokenizerBase) -> Model:
    """What the job began with, or the step's own model. Raises a JobFailure where it reads other tokens than the step's model."""
    of_job = work.step.measures.base == "job"
    start, of = (work.job_start, work.job_step) if of_job else (work.start, work.step)
    if of_job and work.job_model != work.model:
        refuse_other_tokens(work.job_model, tokenizer, work.step, "the model that the job began with")
    return frozen(start, of, tokenizer, _device(work))


def load_beside(work: StepWork, one: ToMeasure, tokenizer: PreTrainedTokenizerBase) -> tuple[Model, Path]:
    """A model beside the base, and the folder that its tokenizer lies in. The model before it is freed first."""
    start, folder = one.start()
    if folder != work.model:
        refuse_other_tokens(folder, tokenizer, work.step, f"the checkpoint {one.name}, in the folder")
    _free_memory()
    return frozen(start, one.step, tokenizer, _device(work)), folder


def _measure_base(work: StepWork, tokenizer: PreTrainedTokenizerBase, measuring: Measuring) -> None:
    """The base is gone from memory when this returns, but for its head and its states. A reward model's has a new value head.

    Where what the job began with reads other tokens, it is told of whole texts alone, and the step's own model takes its place in
    what is only counted with.
    """
    why = _why_no_divergence(work, tokenizer)
    if why is None:
        base = load_base(work, tokenizer)
        start = work.job_start if work.step.measures.base == "job" else work.start
        measuring.begin(base, RewardModel(base, head_to_train(base, start)) if _scores(work) else base)
        return
    text_base = by_its_own_tokens(work, tokenizer_of_job(work), _device(work))
    _free_memory()
    own = frozen(work.start, work.step, tokenizer, _device(work))
    measuring.begin(own, RewardModel(own, head_to_train(own, work.start)) if _scores(work) else own, text_base, why)


def _why_no_divergence(work: StepWork, tokenizer: PreTrainedTokenizerBase) -> str | None:
    if work.step.measures.base != "job" or work.job_model == work.model:
        return None
    why = why_other_tokens(work.job_model, tokenizer, work.step)
    return why and f"The model that the job began with has another tokenizer, so no token is compared with its own: {why}."


def _measure(work: StepWork, one: ToMeasure, number: int, tokenizer: PreTrainedTokenizerBase, measuring: Measuring) -> None:
    model, folder = load_beside(work, one, tokenizer)
    measuring.checkpoint(_scorer(model, one, folder) if _scores(work) else model, number, _history(folder))


def _scores(work: StepWork) -> bool:
    return work.step.finetuning.stage == "rm"


def _scorer(model: Model, one: ToMeasure, folder: Path) -> RewardModel:
    """With the head that lies beside it. Raises a JobFailure where there is none."""
    head = value_head.load(folder, value_head.width(model))
    if head is None:
        sentence = f"The checkpoint {one.name} has no value head, so it scores nothing; the stage dpo measures what it writes."
        raise JobFailure(Reason.BAD_MODEL, sentence)
    return RewardModel(model, head.to(next(model.parameters()).device))


def _history(folder: Path) -> list[dict[str, Any]]:
    """The trainer's log up to a checkpoint; nothing of a model that is none."""
    file = folder / TRAINER_STATE_NAME
    if not file.exists():
        return []
    history: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["log_history"]
    return history


def _tell_text(run: Run, work: StepWork, data: Prepared | Streamed, n_anchor: int) -> None:
    n_documents = len({example.document for example in data.evaluation})
    anchor = f", and {n_anchor} of the anchor" if n_anchor else ""
    n_beside = len(work.to_measure)
    beside = f" and {n_beside} model{'s' * (n_beside > 1)} beside it" if n_beside else ""
    run.event(
        "data_loaded",
        f"{work.name}: the base{beside} are measured on {n_documents} documents{anchor}.".replace("base are", "base is"),
        step=work.name,
        documents=n_documents,
        measured_split=data.split,
    )
    if data.split == "train":
        sentence = "these are rows of data.dataset, of which val_size holds none out, marked split: train."
        run.event("notice", f"{work.name}: {sentence}", step=work.name)


def _device(work: StepWork) -> torch.device:
    return torch.device("cpu" if work.use_cpu else "cuda")


def _free_memory() -> None:
    """The model before this one is no longer held by anybody, but cycles of its modules would keep it."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
