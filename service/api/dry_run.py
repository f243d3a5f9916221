"""What a job would do, without doing it."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, Field

from service.api.views import NoticeView
from service.library.check import Roots, check
from service.library.plan import check_rows, plan
from service.specs.job import JobSpec, ResolvedJob
from service.specs.read import read_job
from service.specs.refusals import Refusal


class PlannedStepView(BaseModel):
    """A step's numbers, as far as they are known without a tokenizer or a model."""

    name: str
    stage: str
    finetuning_type: str
    rows: int | None = Field(description="The rows that are read: of each data set the first max_samples.")
    training_rows: int | None
    validation_rows: int | None
    updates: int | None = Field(description="Optimiser steps.")
    parameters: int | None = Field(description="The model's, without adapters.")
    trainable_parameters: int | None
    beside: dict[str, int] = Field(
        description="Parameters of the whole models that are asked beside it, ref and reward, where they are known."
    )
    why_unknown: dict[str, str] = Field(description="For each number that is null, why it is not known.")


class DryRun(BaseModel):
    """A job that would be accepted, and what it would do."""

    resolved: dict[str, Any]
    notices: list[NoticeView]
    steps: list[PlannedStepView]


def dry_run_of(document: Any, roots: Roots) -> DryRun:
    """Raises SpecRefused; rows are counted here, so also for what only counting finds out."""

    def look(spec: JobSpec, resolved: ResolvedJob) -> Iterator[Refusal]:
        found = list(check(roots, spec, resolved))
        yield from found or check_rows(roots, spec, resolved)

    read = read_job(document, look)
    return DryRun(
        resolved=read.resolved.model_dump(mode="json"),
        notices=[NoticeView(pointer=notice.pointer, detail=notice.detail) for notice in read.notices],
        steps=[PlannedStepView(**asdict(step)) for step in plan(roots, read.resolved)],
    )
