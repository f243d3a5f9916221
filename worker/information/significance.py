"""Tests that one side of a line is meant, exact or clustered by document: one-sided but for McNemar's.

Shapes: D documents, N and M documents of two samples that share none.

A test at α is made at one checkpoint after another. `alpha_spent` gives the k-th of them its part of α, so that of all
checkpoints together, however many there will be, a share of at most α raises a false alarm.

Sources: Student's t of a linearised ratio, Cochran, Sampling Techniques, 3rd ed. 1977, ch. 6; Mann and Whitney 1947; Clopper and
Pearson 1934; Efron 1979; Σ 1/k² = π²/6, spent in the manner of Foster and Stine 2008 (JRSS B 70:429).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from worker.information.intervals import Estimate, standard_error


@dataclass(frozen=True)
class RankTest:
    """AUC = P(first > second) + ½P(equal) of one draw from each, and the p-value of "it is at most ½"."""

    auc: float
    p_value: float


def alpha_spent(alpha: float, k: int) -> float:
    """6α/(π²k²), the part of α for the k-th test, k from 1; all of them add up to α."""
    if k < 1:
        raise ValueError(f"tests are counted from 1, not from {k}")
    return 6 * alpha / (math.pi * k) ** 2


def lower_bound(estimate: Estimate, alpha: float) -> float | None:
    """value − t(1−α, D−1) · standard error: above a threshold, "at most the threshold" is rejected at α.

    None where there is no standard error.
    """
    error = standard_error(estimate)
    if error is None:
        return None
    return estimate.value - float(stats.t.isf(alpha, estimate.n_documents - 1)) * error


def mann_whitney(first_N: ArrayLike, second_M: ArrayLike) -> RankTest:
    """Whether the first sample's values tend to be the larger. Permutes ranks: exact for small samples without ties."""
    first_N, second_M = _sample(first_N), _sample(second_M)
    found = stats.mannwhitneyu(first_N, second_M, alternative="greater")
    return RankTest(float(found.statistic) / (len(first_N) * len(second_M)), float(found.pvalue))


def clopper_pearson(successes: int, trials: int, alpha: float = 0.05) -> tuple[float, float]:
    """The exact interval of a rate, at level 1−α: no rate outside would show so many, or so few, with probability α/2."""
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"{successes} of {trials} is no count of successes")
    low = float(stats.beta.ppf(alpha / 2, successes, trials - successes + 1)) if successes else 0.0
    high = float(stats.beta.isf(alpha / 2, successes + 1, trials - successes)) if successes < trials else 1.0
    return low, high


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided exact p of "neither is right more often", from the questions that only one of two answered rightly.

    Under it those are a fair coin's, so p is that of the binomial with ½; 1 where there is none. McNemar 1947.
    """
    if only_first < 0 or only_second < 0:
        raise ValueError(f"{only_first} and {only_second} are no counts")
    if not only_first + only_second:
        return 1.0
    return float(stats.binomtest(only_first, only_first + only_second, 0.5).pvalue)


def bootstrapped(
    statistic: Callable[[np.ndarray], float], n_documents: int, generator: np.random.Generator, resamples: int = 400
) -> np.ndarray:
    """[resamples] values of statistic(times_D), times_D[i] being how often document i was drawn among D draws with return."""
    times_BD = generator.multinomial(n_documents, np.full(n_documents, 1 / n_documents), size=resamples)
    return np.array([statistic(times_D) for times_D in times_BD])


def upper_bound_of_ratio(log_ratio: float, bootstrapped_B: ArrayLike, alpha: float, n_documents: int) -> float:
    """exp(log ratio + t(1−α, D−1) · its deviation over resampled documents): below a threshold, "at least it" is rejected.

    Student's t and not a percentile: that at the α of a twentieth checkpoint lies beyond any number of resamples.
    """
    error = float(np.std(np.asarray(bootstrapped_B, dtype=np.float64), ddof=1))
    return math.exp(log_ratio + float(stats.t.isf(alpha, n_documents - 1)) * error)


def _sample(values_N: ArrayLike) -> np.ndarray:
    values_N = np.asarray(values_N, dtype=np.float64)
    if values_N.ndim != 1 or not len(values_N) or not np.isfinite(values_N).all():
        raise ValueError(f"a sample is a list of finite numbers, not one of the shape {values_N.shape}")
    return values_N
