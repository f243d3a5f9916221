"""The models that a step evaluates: its base, and those beside it, one at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from transformers import PreTrainedTokenizerBase

from worker.models.adapters import Model
from worker.stages.measuring_later import load_base, load_beside
from worker.stages.step import StepWork, ToMeasure


@dataclass(frozen=True)
class Evaluated:
    """`number` is None of the base. Whoever loads one holds none of those before."""

    number: int | None
    name: str
    of: dict[str, Any]  # what it is, as the event tells it
    load: Callable[[], Model]

    @property
    def called(self) -> str | int:
        return "base" if self.number is None else self.number


def evaluated_models(work: StepWork, tokenizer: PreTrainedTokenizerBase) -> Iterator[Evaluated]:
    of_job = work.step.measures.base == "job"
    base = (work.job_step if of_job else work.step).model.model_name_or_path
    yield Evaluated(None, "The base", {"model": base}, partial(load_base, work, tokenizer))
    for number, one in enumerate(work.to_measure, 1):
        yield Evaluated(number, one.name, one.of, partial(_load, work, one, tokenizer))


def _load(work: StepWork, one: ToMeasure, tokenizer: PreTrainedTokenizerBase) -> Model:
    model, _ = load_beside(work, one, tokenizer)
    return model
