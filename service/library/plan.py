"""What a job would do: rows, updates and parameters of each step, as far as they are known without a tokenizer or a model."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from service.library import benchmarks, datasets, models, weights
from service.library.check import Roots, is_elsewhere, known_to
from service.library.errors import LibraryError
from service.specs import buffers
from service.specs.companions import companions
from service.specs.job import JobSpec, ResolvedJob, ResolvedStep
from service.specs.lineage import Lineage, lineages, origin
from service.specs.read import place_of
from service.specs.refusals import Refusal
from service.specs.splits import NothingLeft, left_of_each, n_held_out


@dataclass
class PlannedStep:
    """A step's numbers; for each that is None, `why_unknown` has a sentence. `parameters` are the model's, without adapters.

    `rows` are read, of each data set the first max_samples; without those that are held out, they are mixed to `training_rows`.
    """

    name: str
    do: str
    stage: str
    finetuning_type: str
    rows: int | None = None
    training_rows: int | None = None
    validation_rows: int | None = None
    measured_rows: int | None = None  # of a step that measures, or the questions of one that evaluates
    updates: int | None = None
    parameters: int | None = None
    trainable_parameters: int | None = None
    beside: dict[str, int] = field(
        default_factory=dict
    )  # parameters of the models that are asked beside it, where they are known
    why_unknown: dict[str, str] = field(default_factory=dict)


def check_rows(roots: Roots, spec: JobSpec, resolved: ResolvedJob) -> Iterator[Refusal]:
    """What only counting finds out: a broken or empty file, and a validation part that leaves nothing to train on."""
    for index, step in enumerate(resolved.steps):
        if step.do == "evaluate":
            continue  # its questions have all been read
        try:
            counts, _ = _counts(roots, step)
            if counts:
                _split(step, counts)
        except LibraryError as error:
            yield Refusal(place_of(spec, index, error.argument or "data.dataset"), str(error))
        except OSError as error:
            yield Refusal(place_of(spec, index, "data.dataset"), f"The data cannot be read: {error.strerror}.")


def plan(roots: Roots, resolved: ResolvedJob) -> list[PlannedStep]:
    """Every step's numbers, of a job that `check` and `check_rows` find nothing wrong with."""
    return [_planned(roots, resolved, step) for step in resolved.steps]


def updates(training_rows: int, step: ResolvedStep, n_gpus: int = 1) -> int:
    """Optimiser steps as transformers' Trainer counts them: the last batches of an epoch make a short update.

    Of ppo, buffers: each is an update of several steps.
    """
    training = step.training
    if step.finetuning.stage == "ppo":
        return buffers.n_updates(step, training_rows, n_gpus)
    if training.max_steps > 0:
        return training.max_steps
    batches_of_each = math.ceil(math.ceil(training_rows / training.per_device_train_batch_size) / n_gpus)
    return math.ceil(training.num_train_epochs * max(math.ceil(batches_of_each / training.gradient_accumulation_steps), 1))


def plan_parameters(roots: Roots, resolved: ResolvedJob) -> list[PlannedStep]:
    """Every step's parameters alone: no data set is counted, which may be long."""
    return [_planned_parameters(roots, resolved, step) for step in resolved.steps]


def _planned_parameters(roots: Roots, resolved: ResolvedJob, step: ResolvedStep) -> PlannedStep:
    planned = PlannedStep(step.name, step.do, step.finetuning.stage, step.finetuning.finetuning_type)
    if step.do != "inspect":
        _count_parameters(planned, roots, resolved, step)
    return planned


def _planned(roots: Roots, resolved: ResolvedJob, step: ResolvedStep) -> PlannedStep:
    planned = _planned_parameters(roots, resolved, step)
    if step.do == "evaluate":
        _count_questions(planned, roots, step)
        return planned
    counts, why = _counts(roots, step)
    if counts is None:
        planned.why_unknown |= dict.fromkeys(("rows", "training_rows", "validation_rows"), why)
    else:
        planned.rows = sum(counts)
        planned.training_rows, planned.validation_rows = _split(step, counts)
        if planned.training_rows is None:
            planned.why_unknown["training_rows"] = _why_not_mixed(step)
    if step.do == "train":
        _count_updates(planned, step, resolved.resources.gpus or 1)
    else:
        planned.updates = planned.trainable_parameters = 0
    if step.do == "measure":
        _count_measured(planned, roots, step)
    if step.do == "predict" and planned.rows is not None:
        planned.measured_rows = planned.validation_rows or planned.rows
    return planned


def _count_parameters(planned: PlannedStep, roots: Roots, resolved: ResolvedJob, step: ResolvedStep) -> None:
    known = lineages(resolved)
    own = known[step.name]
    whole = origin(own.whole, known)
    if is_elsewhere(roots, whole):
        planned.why_unknown |= dict.fromkeys(("parameters", "trainable_parameters"), "The model is fetched when the job runs.")
        return
    model = models.find(roots.models, whole)
    tensors = weights.tensors_of(model)
    if tensors is None or step.model.resize_vocab:
        why = "The vocabulary grows by the tokens of the template, which a tokenizer must count."
        if tensors is None:
            why = "The weights are packed, or no safetensors: only those can be counted without loading them."
        planned.why_unknown |= dict.fromkeys(("parameters", "trainable_parameters"), why)
        return
    planned.parameters = weights.count(tensors)
    if step.do != "train":
        planned.trainable_parameters = 0
        return
    planned.beside = dict(_beside(roots, known, step, planned.parameters))
    planned.trainable_parameters = _with_head(_trainable(roots, own, tensors, step, model), step, tensors)
    if planned.trainable_parameters is None:
        planned.why_unknown["trainable_parameters"] = "The modules that train are known only when the model is loaded."


def _count_questions(planned: PlannedStep, roots: Roots, step: ResolvedStep) -> None:
    planned.rows = planned.training_rows = planned.validation_rows = planned.updates = planned.trainable_parameters = 0
    if step.evaluation.harness_task is not None:
        planned.why_unknown["measured_rows"] = "Only lm-evaluation-harness, which the worker has, knows its tasks' questions."
        return
    planned.measured_rows = benchmarks.count(benchmarks.of_step(roots.datasets, step.evaluation))


def _count_measured(planned: PlannedStep, roots: Roots, step: ResolvedStep) -> None:
    """The rows of measures.dataset, or those that are held out or stand in, of which max_documents are taken."""
    counts, why = _counts(roots, step, step.measures.dataset) if step.measures.dataset else (None, "")
    if counts is not None:
        rows = sum(counts)
    elif why or planned.rows is None:
        planned.why_unknown["measured_rows"] = why or planned.why_unknown.get("rows", "")
        return
    else:
        rows = planned.validation_rows or min(planned.rows, step.measures.train_documents)
    planned.measured_rows = min(rows, step.measures.max_documents or rows)


def _beside(roots: Roots, known: Mapping[str, Lineage], step: ResolvedStep, own: int) -> Iterator[tuple[str, int]]:
    """Whole models: an adapter that is swapped in adds next to nothing, and one that is switched off nothing."""
    fine = step.finetuning
    if fine.stage in ("ppo", "dpo") and fine.ref_model is None and fine.finetuning_type != "lora":
        yield "ref", own  # a second copy of what the step begins with
    for companion in companions(step):
        name = origin(companion.step.model.model_name_or_path, known)
        if companion.is_adapter or is_elsewhere(roots, name):
            continue
        tensors = weights.tensors_of(models.find(roots.models, name))
        if tensors is not None:
            yield companion.role, weights.count(tensors)


def _trainable(roots: Roots, own: Lineage, tensors: weights.Tensors, step: ResolvedStep, model: models.Model) -> int | None:
    if own.continued is None:
        return weights.trainable(tensors, step.finetuning, model)
    if own.continued.startswith("@") or is_elsewhere(roots, own.continued):
        return None
    return weights.count_adapter(model, models.find_adapter(roots.models, own.continued))


def _with_head(trainable: int | None, step: ResolvedStep, tensors: weights.Tensors) -> int | None:
    """With the value head, of which rm trains the weights, and ppo the bias, too."""
    if trainable is None or step.finetuning.stage not in ("rm", "ppo"):
        return trainable
    width = weights.width(tensors)
    return None if width is None else trainable + width + (step.finetuning.stage == "ppo")


def _counts(roots: Roots, step: ResolvedStep, names: Sequence[str] | None = None) -> tuple[list[int] | None, str]:
    """The rows of each data set (the step's own, if none are named), at most the first max_samples; or None and why not."""
    known = known_to(roots, step)
    counts = []
    for name in (step.data.dataset or ()) if names is None else names:
        files = datasets.find(known, name, step.finetuning, step.data.split, roots.hubs)
        if name in known.uploaded:
            rows = known.uploaded[name].rows
            if rows is None:
                return None, "The rows of a large file that was uploaded are counted by the worker."
            counts.append(min(rows, step.data.max_samples or rows))
            continue
        if why := datasets.why_not_counted(files):
            return None, why
        counts.append(datasets.rows(files, step.data.max_samples) or 0)
    return counts, ""


def _split(step: ResolvedStep, counts: list[int]) -> tuple[int | None, int]:
    """(training, validation): rows are held out before they are mixed, by the worker too."""
    if not counts:
        return 0, 0  # a step that measures another text
    try:
        validation = n_held_out(sum(counts), step.data.val_size)
        if step.data.mix_strategy == "concat":
            return sum(counts) - validation, validation
        if step.data.streaming:
            return None, validation
        left = left_of_each(counts, step.data.val_size, step.training.seed)
    except NothingLeft as error:
        raise LibraryError(str(error), "data.val_size") from None
    if step.data.interleave_probs is not None:
        return None, validation
    return len(left) * (min(left) if step.data.mix_strategy == "interleave_under" else max(left)), validation


def _why_not_mixed(step: ResolvedStep) -> str:
    if step.data.streaming:
        return "Rows that are streamed are mixed as they come: the worker counts those that it reads."
    return "Which data set each row is drawn from is random: the worker draws with the seed, and counts."


def _count_updates(planned: PlannedStep, step: ResolvedStep, n_gpus: int) -> None:
    if step.training.max_steps > 0:
        planned.updates = step.training.max_steps
    elif planned.training_rows is None:
        planned.why_unknown["updates"] = planned.why_unknown["training_rows"]
    elif step.finetuning.stage == "ppo" and step.generating.max_new_tokens <= 0:
        planned.why_unknown["updates"] = "Prompts that fill max_length are left out: a tokenizer must find them."
    elif step.finetuning.stage == "pt":
        planned.why_unknown["updates"] = "Pre-training packs texts into blocks of cutoff_len tokens: a tokenizer must count them."
    elif step.data.sft_packing:
        planned.why_unknown["updates"] = "Examples are packed into blocks of cutoff_len tokens: a tokenizer must count them."
    elif step.data.overlength == "drop":
        planned.why_unknown["updates"] = "Rows longer than cutoff_len are left out: a tokenizer must find them."
    else:
        planned.updates = updates(planned.training_rows, step, n_gpus)
