"""What a probe answers: a value, and what each document, or group of documents, contributes to its error.

Shapes: D documents, G groups of them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from worker.information.intervals import Estimate, ratio, why_no_interval
from worker.information.significance import clopper_pearson

GROUPS = 20
JACKKNIFE = "jackknife over documents"


@dataclass(frozen=True, eq=False)
class Finding:
    """`estimate.n_documents` counts what the error was made of: documents, or groups of the `n_documents`."""

    estimate: Estimate
    n_documents: int
    estimator: str
    nothing_sampled: str | None = None  # why there can be no interval at all
    bounds: tuple[float, float] | None = None  # an exact interval, in place of that of the error

    @property
    def why_no_interval(self) -> str | None:
        return self.nothing_sampled or why_no_interval(self.estimate)

    def to_json(self) -> dict[str, Any]:
        return {
            "value": _finite(self.estimate.value),
            "influence": [_finite(float(r)) for r in self.estimate.influence_D],
            "n_units": self.estimate.n_documents,
            "n_documents": self.n_documents,
            "n_tokens": self.estimate.n_tokens,
            "estimator": self.estimator,
            "nothing_sampled": self.nothing_sampled,
            "bounds": self.bounds and list(self.bounds),
        }

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> "Finding":
        influence = np.array([math.nan if r is None else r for r in kept["influence"]], dtype=np.float64)
        value = math.nan if kept["value"] is None else kept["value"]
        estimate = Estimate(value, influence, kept["n_units"], kept["n_tokens"])
        bounds = kept.get("bounds")
        told = bounds and (bounds[0], bounds[1])
        return cls(estimate, kept["n_documents"], kept["estimator"], kept["nothing_sampled"], told)


Findings = dict[str, Finding]


def of_estimate(estimate: Estimate, estimator: str) -> Finding:
    """Of a mean over documents, or what was made of one."""
    return Finding(estimate, estimate.n_documents, estimator)


def exact(value: float, why: str, estimator: str, n_documents: int = 0, n_tokens: int = 0) -> Finding:
    """Where nothing was sampled, or nothing that its error could be told of; `why` is a sentence."""
    return Finding(Estimate(value, np.empty(0), 0, n_tokens), n_documents, estimator, why)


def share(hits_D: np.ndarray, n_tokens: int, estimator: str) -> Finding:
    """Of documents, each of which is a hit or none, with the interval of Clopper and Pearson (1934)."""
    hits, D = int(hits_D.sum()), len(hits_D)
    estimate = ratio(hits_D.astype(np.float64), np.ones(D, dtype=np.int64))
    estimate = Estimate(estimate.value, estimate.influence_D, D, n_tokens)
    return Finding(estimate, D, f"{estimator}; interval of Clopper and Pearson", bounds=clopper_pearson(hits, D))


def mean(values_D: np.ndarray, estimator: str, n_tokens: int) -> Finding:
    """The mean over documents, each of which counts alike; nan is of a document that has no value."""
    known_D = ~np.isnan(values_D)
    if not known_D.any():
        return exact(math.nan, "No document has a value.", estimator)
    value, n = float(values_D[known_D].mean()), int(known_D.sum())
    influence_D = np.where(known_D, values_D - value, 0.0) / n
    return Finding(Estimate(value, influence_D, n, n_tokens), n, estimator)


def jackknife(statistic: Callable[[np.ndarray], float], D: int, n_tokens: int, estimator: str, groups: int = GROUPS) -> Finding:
    """The statistic of all D documents; it is given the places of those that count.

    Groups of documents are left out, one after another: as many as there are documents, at most `groups`. Their influences
    have the jackknife's variance, (G−1)/G Σ (θ_(g) − θ̄)², under `standard_error`. Quenouille 1956; Tukey 1958; Shao & Wu 1989.
    """
    value = _attempt(statistic, np.arange(D))
    if not math.isfinite(value):
        return Finding(Estimate(value, np.empty(0), D, n_tokens), D, estimator)
    G = min(D, groups)
    if G < 2:
        return Finding(Estimate(value, np.empty(0), G, n_tokens), D, estimator)
    group_D = np.arange(D) * G // D
    left_G = np.array([_attempt(statistic, np.flatnonzero(group_D != g)) for g in range(G)])
    if not np.isfinite(left_G).all():
        return exact(value, "Without some of the documents it has no value, so its error is not known.", estimator, D, n_tokens)
    influence_G = (G - 1) / G * (left_G.mean() - left_G)
    return Finding(Estimate(value, influence_G, G, n_tokens), D, f"{estimator}; {JACKKNIFE}")


def _attempt(statistic: Callable[[np.ndarray], float], kept: np.ndarray) -> float:
    """nan where the documents that are left do not have the statistic."""
    try:
        return float(statistic(kept))
    except ValueError:
        return math.nan


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
