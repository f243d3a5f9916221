"""The registry of measures, and the group that says which of them a job wants, on what text, how often.

A job may name those that are computed at checkpoints, each `on` one thing (`worker/probes/`); the others are functions of
`worker/information/`. Tests keep the lists equal.
"""

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from service.specs.alerts import FEWEST_DOCUMENTS
from service.specs.base import CommaList, Group
from service.specs.catalogue import (
    answers,
    bottleneck,
    calibration,
    channels,
    coding,
    comparison,
    continuous,
    directed,
    divergences,
    dynamics,
    estimators,
    fisher,
    generalized,
    geometry,
    hidden_markov,
    memorization,
    multivariate,
    predictions,
    preferences,
    processes,
    quantum,
    renewal,
    rows,
    secrecy,
    shannon,
    thermodynamics,
    vocabulary,
)
from service.specs.catalogue.measure import Measure, Object
from service.specs.data import DataArguments
from service.specs.guards import Guard

FAMILIES = (
    shannon,
    multivariate,
    generalized,
    divergences,
    quantum,
    secrecy,
    estimators,
    continuous,
    geometry,
    fisher,
    channels,
    bottleneck,
    comparison,
    processes,
    renewal,
    hidden_markov,
    directed,
    dynamics,
    coding,
    thermodynamics,
    vocabulary,
    memorization,
    preferences,
    calibration,
    answers,
    rows,
    predictions,
)
REGISTRY: tuple[Measure, ...] = tuple(measure for family in FAMILIES for measure in family.ROWS)
CATALOGUE = tuple(measure for measure in REGISTRY if measure.in_jobs)

BY_NAME = {measure.name: measure for measure in CATALOGUE}
KNOWN = {measure.name: measure for measure in REGISTRY}
DEFAULT_NAMES = tuple(measure.name for measure in CATALOGUE if measure.default)
# Of training rows against held-out ones, where there are not both.
WITHOUT_MEMBERSHIP = tuple(name for name in DEFAULT_NAMES if BY_NAME[name].on != "membership")


def measure_of(name: str) -> str:
    """The measure of a row's name: "effective_rank:layer_2" is effective_rank, taken at one place of several."""
    return name.partition(":")[0]


def taken_on(names: Iterable[str]) -> set[Object]:
    """The objects that the named measures are taken on. A name that there is not is taken on none."""
    return {BY_NAME[name].on for name in names if name in BY_NAME} - {None}  # type: ignore[return-value]


# Taken of pairs of answers by a model that scores: in the stage rm, where they are taken unless a job names what it wants.
OF_PAIRS = tuple(measure.name for measure in preferences.ROWS)


class MeasureArguments(Group):
    """What is measured at the checkpoints."""

    names: CommaList = Field(
        default=DEFAULT_NAMES,
        description="Which measures of the catalogue (GET /measures). Where none are named those of membership are left out that "
        "cannot be taken (nothing held out, streamed rows, the stages rm and ppo), and an rm step has those of pairs, too. "
        "An empty list measures nothing.",
    )
    dataset: CommaList | None = Field(
        default=None,
        description="Data set(s) to measure on instead of the validation part, by name in the same dataset_info.json.",
    )
    anchor: CommaList | None = Field(
        default=None,
        description="Data set(s) of what the model should not forget, measured too at every checkpoint (split: anchor).",
    )
    checkpoints: CommaList | None = Field(
        default=None,
        description="Of a step that measures, which checkpoints: job-.../sft/40 (after 40 updates), job-.../sft (what the step "
        "ended with), job-.../sft/* (all that are kept), @sft and @sft/40 (of this job). The step's own model when not given. "
        "A step that predicts or generates asks one.",
    )
    base: Literal["job", "step"] = Field(
        default="job",
        description="What a checkpoint is compared with: the model the job began with, or the one its own step began with.",
    )
    every: int = Field(default=1, ge=1, description="Measure every n-th checkpoint; the last is always measured.")
    max_documents: int | None = Field(
        default=None, ge=1, description="Measure on a seeded sample of this many documents; all of them when not given."
    )
    train_documents: int = Field(
        default=300,
        ge=1,
        description="How many training rows are measured: those that stand in, marked split: train, where there is neither "
        "a validation part nor a data set; and those that membership measures hold against the held-out ones.",
    )
    plots: bool = Field(
        default=False,
        description="Draw what was measured when the step is done, as PNG and SVG among its artifacts: cross-entropy, entropy, "
        "gain against drift, spectra.",
    )
    guards: tuple[Guard, ...] = Field(
        default=(),
        strict=False,
        max_length=32,
        description="What the job does by itself when an alert fires or a measure passes a number: a list of {when, then}.",
    )
    task: str | None = Field(
        default=None,
        description="A labelled data set for the measures taken on a task: its answers are the labels, and the model's answer is "
        "the likeliest of them.",
    )
    prompts: int = Field(
        default=FEWEST_DOCUMENTS,
        ge=2,
        description="How many evaluation documents' prompts text is generated for; alerts need 20.",
    )
    samples: int = Field(default=4, ge=1, description="How many texts are generated for each prompt.")


def taken_by_default(measures: MeasureArguments, stage: str, data: DataArguments, names_given: bool) -> MeasureArguments:
    """Without what cannot be taken, where the job names nothing or no more than the defaults; a reward model is measured as what
    it is, unless the job names what it wants.
    """
    names = measures.names
    held_out = bool(data.val_size or measures.dataset)
    both_kinds = bool(data.dataset) and held_out and not data.streaming and stage in ("pt", "sft", "dpo")
    if (not names_given or names == DEFAULT_NAMES) and not both_kinds:
        names = WITHOUT_MEMBERSHIP
    if not names_given and stage == "rm":
        names = (*names, *OF_PAIRS)
    return measures.model_copy(update={"names": names})
