"""The catalogue of measures, and the group that says which of them a job wants, on what text, how often.

The worker computes them (`worker/probes/report.py`); a test keeps the two lists equal.
"""

from typing import Literal

from pydantic import BaseModel, Field

from service.specs.base import CommaList, Group


class Measure(BaseModel):
    """One row of the catalogue: `GET /measures` serves it as it stands."""

    name: str
    unit: str
    definition: str
    source: str
    computed_on: str
    default: bool = True


_HELD_OUT = "the scored tokens of the evaluation documents"

CATALOGUE: tuple[Measure, ...] = (
    Measure(
        name="cross_entropy",
        unit="bits/token",
        definition="−Σ lg p(y_t | y_<t) / Σ n_tokens, summed over the scored tokens of all documents",
        source="Cover & Thomas, Elements of Information Theory, 2nd ed. 2006, §2.3 and §5.4",
        computed_on=_HELD_OUT,
    ),
    Measure(
        name="perplexity",
        unit="1",
        definition="2 to the power of cross_entropy; of the whole corpus, not a mean of per-text perplexities",
        source="Jelinek, Mercer, Bahl & Baker 1977; Jurafsky & Martin, Speech and Language Processing, ch. 3",
        computed_on=_HELD_OUT,
    ),
    Measure(
        name="bits_per_byte",
        unit="bits/byte",
        definition="−Σ lg p(y_t | y_<t) / Σ UTF-8 bytes of the scored text; comparable across tokenizers",
        source="Cover & Thomas 2006, §5.4; Gao et al. 2020, The Pile (arXiv 2101.00027), §3.1",
        computed_on=_HELD_OUT,
    ),
    Measure(
        name="entropy",
        unit="bits/token",
        definition="mean over scored tokens of H(p_t) = −Σ_v p_t(v) lg p_t(v), the model's own uncertainty",
        source="Shannon 1948; Cover & Thomas 2006, §2.1",
        computed_on=_HELD_OUT,
    ),
    Measure(
        name="kl_from_base",
        unit="bits/token",
        definition="mean over scored tokens of D(q_t ‖ p_t), q the base model and p the checkpoint: what the base knew "
        "and the checkpoint gave up; it predicts forgetting",
        source="Kullback & Leibler 1951; Cover & Thomas 2006, §2.3",
        computed_on=_HELD_OUT,
    ),
    Measure(
        name="kl_to_base",
        unit="bits/token",
        definition="mean over scored tokens of D(p_t ‖ q_t), p the checkpoint and q the base model: how far the "
        "checkpoint's own predictions have moved",
        source="Kullback & Leibler 1951; Cover & Thomas 2006, §2.3",
        computed_on=_HELD_OUT,
    ),
)

BY_NAME = {measure.name: measure for measure in CATALOGUE}


class MeasureArguments(Group):
    """What is measured at the checkpoints."""

    names: CommaList = Field(
        default=tuple(measure.name for measure in CATALOGUE if measure.default),
        description="Which measures of the catalogue (GET /measures). An empty list measures nothing.",
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
