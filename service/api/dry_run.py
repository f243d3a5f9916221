"""What a job would do, without doing it."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, Field

from service.api.fitting import Fitting
from service.api.naming import Naming
from service.api.reading import with_uploaded
from service.api.referring import Referring
from service.api.views import NoticeView
from service.library import memory
from service.library.check import Roots, check
from service.library.memory import Memory
from service.library.plan import PlannedStep, check_rows, plan
from service.specs.job import JobSpec, ResolvedJob
from service.specs.read import Check, read_job
from service.specs.refusals import Refusal


class MemoryView(BaseModel):
    """Bytes, part by part; with texts of cutoff_len tokens."""

    weights: int
    beside: int = Field(description="The weights of the models that are asked beside it: a reference, a reward model.")
    gradients: int
    optimiser: int
    activations: int
    logits: int
    context: int = Field(description="A process that uses CUDA at all.")
    peak: int = Field(description="All of it.")
    least: int = Field(description="What it takes with texts of any length; a job is refused where no GPU has that.")


class PlannedStepView(BaseModel):
    """A step's numbers, as far as they are known without a tokenizer or a model."""

    name: str
    do: str
    stage: str
    finetuning_type: str
    rows: int | None = Field(description="The rows that are read: of each data set the first max_samples.")
    training_rows: int | None
    validation_rows: int | None
    measured_rows: int | None = Field(
        description="The rows of the text of a step that measures, the questions of one that evaluates."
    )
    updates: int | None = Field(description="Optimiser steps.")
    parameters: int | None = Field(description="The model's, without adapters.")
    trainable_parameters: int | None
    beside: dict[str, int] = Field(
        description="Parameters of the whole models that are asked beside it, ref and reward, where they are known."
    )
    memory: MemoryView | None = Field(description="Of one GPU at its peak, estimated; null where it is not known.")
    why_unknown: dict[str, str] = Field(description="For each number that is null, why it is not known.")


class DryRun(BaseModel):
    """A job that would be accepted, and what it would do."""

    resolved: dict[str, Any]
    notices: list[NoticeView]
    steps: list[PlannedStepView]


def dry_run_of(document: Any, roots: Roots, fitting: Fitting, referring: Referring, naming: Naming, saving: Check) -> DryRun:
    """Raises SpecRefused; rows are counted here, so also for what only counting finds out."""

    def look(spec: JobSpec, resolved: ResolvedJob) -> Iterator[Refusal]:
        yield from referring(spec, resolved)
        written = naming.written_out(referring.written_out(resolved))
        known = with_uploaded(roots, naming)
        found = list(check(known, spec, written))
        yield from found or check_rows(known, spec, written)
        yield from saving(spec, written)
        yield from fitting(spec, written)

    read = read_job(document, look)
    resolved = naming.written_out(referring.written_out(read.resolved))
    roots = with_uploaded(roots, naming)
    known = memory.of_job(roots, resolved)
    notices = (*read.notices, *naming.notices, *fitting.notices)
    return DryRun(
        resolved=resolved.model_dump(mode="json"),
        notices=[NoticeView(pointer=notice.pointer, detail=notice.detail) for notice in notices],
        steps=[_step_view(step, known[step.name]) for step in plan(roots, resolved)],
    )


def _step_view(step: PlannedStep, known: Memory | str) -> PlannedStepView:
    values = asdict(step)
    if isinstance(known, str):
        return PlannedStepView(**values | {"memory": None, "why_unknown": step.why_unknown | {"memory": known}})
    return PlannedStepView(**values, memory=MemoryView(**asdict(known), peak=known.peak, least=known.least))
