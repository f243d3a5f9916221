"""How many bytes a job's checkpoints will take, read off the headers of its model's files, without torch."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from service.library import models
from service.library.check import Roots, is_elsewhere
from service.library.models import Model
from service.library.plan import PlannedStep, plan
from service.specs.job import ResolvedJob, ResolvedStep
from service.specs.lineage import lineages, origin

# What trains is fp32, and so is what the optimiser keeps: AdamW two numbers for each that trains; plain SGD none, and Adafactor
# a row and a column for each matrix, which is next to none.
NUMBER_BYTES = 4
MOMENTS = {"adamw_torch": 2, "adafactor": 0, "sgd": 0}

# The trainer's state, the schedule's and the generators', a manifest.
BESIDE_BYTES = 1_000_000
# Of the model's folder a checkpoint has the tokenizer and the configuration.
KEPT_WITH_IT = (".json", ".model", ".txt", ".jinja")


@dataclass(frozen=True)
class StepSpace:
    """The bytes of one of a step's checkpoints, and how many of those that it has still to write are there at once."""

    checkpoint_bytes: int
    n_checkpoints: int


def still_to_write(
    roots: Roots, resolved: ResolvedJob, done: Collection[str], n_saved: Mapping[str, int]
) -> dict[str, StepSpace]:
    """Each step that is not done, by name. `n_saved` are the checkpoints that are there. Raises LibraryError, OSError.

    What only the worker can count is taken at its least: one checkpoint where the updates are not known, and the optimiser's part
    and the weights' as 0 where the model's files do not tell.
    """
    space, known = {}, lineages(resolved)
    for step, planned in zip(resolved.steps, plan(roots, resolved), strict=True):
        if step.name in done or step.do != "train":
            continue
        whole = origin(known[step.name].whole, known)
        model = None if is_elsewhere(roots, whole) else models.find(roots.models, whole)
        n_left = max(1, _n_checkpoints(step, planned) - n_saved.get(step.name, 0))
        space[step.name] = StepSpace(_checkpoint_bytes(model, step, planned), min(n_left, _most_at_once(step, n_left)))
    return space


def total_bytes(space: Mapping[str, StepSpace]) -> int:
    return sum(step.checkpoint_bytes * step.n_checkpoints for step in space.values())


def told(n_bytes: int) -> str:
    """12.3 GB, 4.5 MB: in powers of ten, as disks are sold."""
    return f"{n_bytes / 1e9:,.1f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.1f} MB"


def _checkpoint_bytes(model: Model | None, step: ResolvedStep, planned: PlannedStep) -> int:
    """An adapter's checkpoint has what trains; any other the whole model. Both have the optimiser's state of what trains."""
    trains = planned.trainable_parameters or 0
    saved = trains if step.finetuning.finetuning_type == "lora" else planned.parameters or 0
    numbers = saved + MOMENTS[step.training.optim] * trains
    return NUMBER_BYTES * numbers + _beside(model) + BESIDE_BYTES


def _beside(model: Model | None) -> int:
    if model is None:
        return 0
    kept = [path for path in model.folder.iterdir() if path.suffix in KEPT_WITH_IT and not path.name.endswith(".index.json")]
    return sum(path.stat().st_size for path in kept if path.is_file())


def _most_at_once(step: ResolvedStep, n_left: int) -> int:
    """Where only the newest and the best are kept: those, and the next, which is whole before another goes."""
    newest, best = step.training.save_total_limit, step.training.keep_best
    return n_left if newest is None and best is None else (newest or 1) + (best or 0) + 1


def _n_checkpoints(step: ResolvedStep, planned: PlannedStep) -> int:
    """The last update always makes one."""
    training = step.training
    if training.save_strategy == "epoch":
        return 1 if training.max_steps > 0 else math.ceil(training.num_train_epochs)
    return math.ceil(planned.updates / training.save_steps) if planned.updates else 1
