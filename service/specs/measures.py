"""The registry of measures, and the group that says which of them a job wants, on what text, how often.

A job may name those that are computed at checkpoints (`worker/probes/report.py`); the others are functions of
`worker/information/`. Tests keep the lists equal.
"""

from typing import Literal

from pydantic import Field

from service.specs.base import CommaList, Group
from service.specs.catalogue import (
    bottleneck,
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
    multivariate,
    preferences,
    processes,
    quantum,
    renewal,
    secrecy,
    shannon,
    thermodynamics,
    vocabulary,
)
from service.specs.catalogue.measure import Measure

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
    preferences,
)
REGISTRY: tuple[Measure, ...] = tuple(measure for family in FAMILIES for measure in family.ROWS)
CATALOGUE = tuple(measure for measure in REGISTRY if measure.in_jobs)

BY_NAME = {measure.name: measure for measure in CATALOGUE}

# Taken of pairs of answers by a model that scores: in the stage rm, where they are taken unless a job names what it wants.
OF_PAIRS = tuple(measure.name for measure in preferences.ROWS)


class MeasureArguments(Group):
    """What is measured at the checkpoints."""

    names: CommaList = Field(
        default=tuple(measure.name for measure in CATALOGUE if measure.default),
        description="Which measures of the catalogue (GET /measures); an rm step has those of pairs, too, where none are named. "
        "An empty list measures nothing.",
    )
    dataset: CommaList | None = Field(
        default=None,
        description="Data set(s) to measure on instead of the validation part, by name in the same dataset_info.json.",
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
        default=200,
        ge=1,
        description="With neither a validation part nor a data set: how many training rows stand in, marked split: train.",
    )
