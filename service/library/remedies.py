"""What would make a step fit into a GPU: changes of a job's arguments, as its client would write them.

Each is accepted when it is sent, and enough by the estimate: both are tried here, on the job as it would be.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from service.library import memory
from service.library.check import Roots
from service.library.errors import LibraryError
from service.library.memory import Memory
from service.specs.job import JobSpec, ResolvedJob, ResolvedStep
from service.specs.read import ReadJob, broken_rules, read_job
from service.specs.refusals import SpecRefused
from service.specs.rules import NO_EFFECT

# By "group.field".
Arguments = dict[str, Any]
WrittenOut = Callable[[ResolvedJob], ResolvedJob]

FRACTIONS = 20  # of a GPU: parts are told in twentieths, which is the least part that a job may ask for
SHORTEST = 64  # tokens: with less of each text, what is learned is another thing


@dataclass(frozen=True)
class Tried:
    """The job with some arguments changed, and without those that have no effect then: how much memory it takes, and there is."""

    left_out: tuple[str, ...]
    resolved: ResolvedJob
    step: ResolvedStep
    estimate: Memory
    largest_bytes: int

    @property
    def fits(self) -> bool:
        return self.estimate.peak <= self.largest_bytes * self.resolved.resources.gpu_memory_fraction


# What becomes of the job with those arguments changed; None where it would be refused, or what it takes is not known.
Try = Callable[[Arguments], Tried | None]


def changes_that_fit(
    roots: Roots, spec: JobSpec, name: str, largest_bytes: int, written_out: WrittenOut = lambda resolved: resolved
) -> list[str]:
    """The first of CHANGES that makes that step's peak fit, or as many of them together as it takes; none where all do not."""

    def tried(arguments: Arguments) -> Tried | None:
        return _tried(roots, spec, name, largest_bytes, written_out, arguments)

    unchanged = tried({})
    if unchanged is None:
        return []
    for alternatives in CHANGES:
        for arguments in alternatives(unchanged):
            if (known := tried(arguments)) is not None and known.fits:
                return _told(arguments, known)
    found = _enough(tried, unchanged)
    if found is None:
        return []
    chosen, fitting = found
    for change in reversed(chosen[:-1]):  # what the others make needless, the costliest first
        others = [one for one in chosen if one is not change]
        if (known := tried(_merged(others))) is not None and known.fits:
            chosen, fitting = others, known
    return _told(_merged(chosen), fitting)


def _enough(tried: Try, unchanged: Tried) -> tuple[list[Arguments], Tried] | None:
    """One change after the other, until they are."""
    chosen, so_far = list[Arguments](), unchanged
    for change in CHANGES:
        accepted = [(more, known) for more in change(so_far) if (known := tried(_merged([*chosen, more]))) is not None]
        if first := next(((more, known) for more, known in accepted if known.fits), None):
            return [*chosen, first[0]], first[1]
        if accepted:
            chosen, so_far = [*chosen, accepted[-1][0]], accepted[-1][1]
    return None


def _merged(changes: list[Arguments]) -> Arguments:
    return {name: value for change in changes for name, value in change.items()}


def _tried(
    roots: Roots, spec: JobSpec, name: str, largest_bytes: int, written_out: WrittenOut, arguments: Arguments
) -> Tried | None:
    try:
        read, left_out = _read(_document(spec, name, arguments))
        resolved = written_out(read.resolved)
        if broken_rules(read.spec, resolved):
            return None
        estimate = memory.of_job(roots, resolved)[name]
    except (SpecRefused, LibraryError, OSError):
        return None
    step = next(step for step in resolved.steps if step.name == name)
    return Tried(left_out, resolved, step, estimate, largest_bytes) if isinstance(estimate, Memory) else None


def _read(document: dict[str, Any]) -> tuple[ReadJob, tuple[str, ...]]:
    """Without what has no effect, if nothing else is wrong with it. Raises SpecRefused."""
    try:
        return read_job(document), ()
    except SpecRefused as refused:
        if not all(refusal.detail.startswith(NO_EFFECT) for refusal in refused.refusals):
            raise
        places = [refusal.place for refusal in refused.refusals]
    for *within, field in places:
        group: Any = document
        for key in within:
            group = group[key]
        del group[field]
    return read_job(document), tuple(str(place[-1]) for place in places)


def _document(spec: JobSpec, name: str, arguments: Arguments) -> dict[str, Any]:
    """The job as its client would send it then: changed in the step, or where there are none, in the job."""
    document = spec.model_dump(mode="json", exclude_unset=True)
    step = next((step for step in document.get("steps") or () if step["name"] == name), document)
    for argument, value in arguments.items():
        group, field = argument.split(".")
        groups = document if group == "resources" else step
        groups[group] = (groups.get(group) or {}) | {field: value}
    return document


def _told(arguments: Arguments, accepted: Tried) -> list[str]:
    """ "per_device_train_batch_size 1", "fsdp false", "without num_layer_trainable" """
    written = {True: "true", False: "false"}
    told = [f"{name.partition('.')[2]} {written[it] if isinstance(it, bool) else it}" for name, it in arguments.items()]
    return [*told, *(f"without {name}" for name in accepted.left_out)]


# -- the changes: of each its alternatives, the mildest first; none where there is nothing to change -----------------------------

Change = Callable[[Tried], Iterator[Arguments]]


def _more_of_the_gpu(now: Tried) -> Iterator[Arguments]:
    part = now.resolved.resources.gpu_memory_fraction
    needed = min(FRACTIONS, math.ceil(FRACTIONS * now.estimate.peak / now.largest_bytes)) / FRACTIONS
    if needed > part:
        yield {"resources.gpu_memory_fraction": needed}


def _checkpointed(now: Tried) -> Iterator[Arguments]:
    if now.step.do == "train" and now.step.model.disable_gradient_checkpointing:
        yield {"model.disable_gradient_checkpointing": False}


def _one_at_a_time(now: Tried) -> Iterator[Arguments]:
    """An update sees as many rows as before."""
    training = now.step.training
    if now.step.do == "train" and training.per_device_train_batch_size > 1:
        n_rows = training.gradient_accumulation_steps * training.per_device_train_batch_size
        yield {"training.per_device_train_batch_size": 1, "training.gradient_accumulation_steps": n_rows}
    elif now.step.do == "evaluate" and now.step.evaluation.batch_size > 1:
        yield {"evaluation.batch_size": 1}
    elif now.step.do not in ("train", "evaluate", "generate") and training.per_device_eval_batch_size > 1:
        yield {"training.per_device_eval_batch_size": 1}


def _with_adapter(now: Tried) -> Iterator[Arguments]:
    if now.step.do == "train" and now.step.finetuning.finetuning_type != "lora":
        yield {"finetuning.finetuning_type": "lora"} | ({"training.fsdp": False} if now.step.training.fsdp else {})


def _in_four_bits(now: Tried) -> Iterator[Arguments]:
    if now.step.model.quantization_bit != 4:
        yield {"model.quantization_bit": 4}


def _shorter(now: Tried) -> Iterator[Arguments]:
    """Texts are cut: not of a step whose numbers that would change."""
    length = now.step.data.cutoff_len
    while now.step.do == "train" and length >= 2 * SHORTEST:
        length //= 2
        yield {"data.cutoff_len": length}


# The cheapest to have first: what takes from others, what costs time, then what changes the training.
CHANGES: tuple[Change, ...] = (_more_of_the_gpu, _checkpointed, _one_at_a_time, _with_adapter, _in_four_bits, _shorter)
