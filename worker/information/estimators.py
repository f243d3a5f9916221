"""Entropy from counts: the plug-in value, what corrects its bias, and how much of the source the sample has seen.

Shapes: K categories; counts_K are whole numbers ≥ 0 that sum to N; f1 and f2 are how many categories were seen exactly once
and exactly twice. Categories of count 0 change nothing, except in `james_stein`, which must know K.

Plug-in entropy is too low, by (K−1)/(2N ln 2) bits to first order and by far more where most categories are rare, as the words
of a language are. On Zipf tokens (s = 1, V = 32000, H = 10.53 bits) 10,000 draws leave it 1.00 bit short, and
`chao_wang_jost` 0.23; `chao_shen` overshoots once N is large. That is why `chao_wang_jost` is the default, and why an entropy
of a sample that covers less than nine tenths of its source is called a lower bound.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.integrate import quad
from scipy.special import digamma, xlogy

from worker.information.distributions import to_bits

LEAST_COVERAGE = 0.9

Estimator = Callable[[ArrayLike], float]
Bound = Literal["lower", "upper"]


@dataclass(frozen=True)
class CountedInformation:
    """Bits estimated from counts, with the sample's coverage. Where that is below 0.9 the value is only a bound."""

    value: float
    coverage: float
    bound: Bound | None  # "lower": the truth is likely higher


def entropy_from_counts(counts_K: ArrayLike, estimator: str = "chao_wang_jost") -> CountedInformation:
    """H of the source of the counts, in bits, by one of `ESTIMATORS`."""
    return _counted(_estimator(estimator)(counts_K), counts_K, "lower")


def conditional_entropy_from_counts(counts_XY: ArrayLike, estimator: str = "chao_wang_jost") -> CountedInformation:
    """H(Y|X) = Ĥ(X,Y) − Ĥ(X) in bits; rows are the contexts x, columns the outcomes y. Coverage is that of the pairs.

    A difference of estimates: with few counts it may come out slightly below 0, and is not clipped, since that would bias it.
    """
    counts_XY = _table(counts_XY)
    H = _estimator(estimator)
    return _counted(H(counts_XY) - H(counts_XY.sum(axis=1)), counts_XY, "lower")


def mutual_information_from_counts(counts_XY: ArrayLike, estimator: str = "chao_wang_jost") -> CountedInformation:
    """I(X;Y) = Ĥ(X) + Ĥ(Y) − Ĥ(X,Y) in bits. Unseen pairs make Ĥ(X,Y) too low, hence this too high: an upper bound.

    May come out slightly below 0 for independent variables, and is not clipped, since that would bias it.
    """
    counts_XY = _table(counts_XY)
    H = _estimator(estimator)
    return _counted(H(counts_XY.sum(axis=1)) + H(counts_XY.sum(axis=0)) - H(counts_XY), counts_XY, "upper")


def block_entropies_from_counts(
    counts_by_length: Sequence[ArrayLike], estimator: str = "chao_wang_jost"
) -> list[CountedInformation]:
    """H_1, H_2, … in bits: entry k − 1 holds the counts of the k-grams."""
    return [entropy_from_counts(counts_K, estimator) for counts_K in counts_by_length]


def entropy_rate_from_counts(counts_by_length: Sequence[ArrayLike], estimator: str = "chao_wang_jost") -> CountedInformation:
    """h_k = Ĥ_k − Ĥ_{k−1} in bits a symbol, k the longest block given; h_1 = Ĥ_1. Coverage is that of the longest blocks.

    The true h_k falls to the entropy rate as k grows, and is it from k = m + 1 on for a Markov chain of order m
    (Cover & Thomas 2006, §4.2). Of blocks too long for the sample most are unseen, and the estimate falls to 0.
    """
    if len(counts_by_length) == 0:
        raise ValueError("there are no block counts: give those of the 1-grams, the 2-grams, …")
    H = _estimator(estimator)
    longest, *shorter = reversed(counts_by_length)
    return _counted(H(longest) - (H(shorter[0]) if shorter else 0.0), longest, "lower")


def coverage(counts_K: ArrayLike) -> float:
    """1 − f1/N: about the probability of all categories seen; a further draw is of a new one with f1/N. Good 1953."""
    n_K = _counts(counts_K)
    return 1 - _seen(n_K, 1) / int(n_K.sum())


def empirical_entropy(counts_K: ArrayLike) -> float:
    """−Σ (n/N) lg (n/N) in bits, the plug-in or maximum likelihood estimate: too low, see `empirical_entropy_bias`."""
    n_K = _counts(counts_K)
    N = n_K.sum()
    return to_bits(-xlogy(n_K / N, n_K / N).sum())


def empirical_entropy_bias(categories: int, observations: int) -> float:
    """E[plug-in] − H ≈ −(K−1)/(2N ln 2) bits: first order in 1/N, too small where N is not much larger than K. Miller 1955."""
    if not (categories >= 1 and observations >= 1):
        raise ValueError(f"there must be at least 1 category and 1 observation, not {categories} and {observations}")
    return to_bits(-(categories - 1) / (2 * observations))


def miller_madow(counts_K: ArrayLike) -> float:
    """Plug-in + (K₊−1)/(2N ln 2) bits, K₊ the categories seen: too low where many are unseen. Miller 1955."""
    n_K = _counts(counts_K)
    return empirical_entropy(n_K) - empirical_entropy_bias(len(n_K), int(n_K.sum()))


def grassberger(counts_K: ArrayLike) -> float:
    """[ln N − Σ (n/N) G(n)] / ln 2 bits, with G(n) = ψ(n) + ½ (−1)ⁿ (ψ((n+1)/2) − ψ(n/2)). Grassberger 2003, physics/0307138.

    Exact in expectation to far beyond first order for n ≳ 2; of one single draw it gives 1.83 bits, whatever the source.
    """
    n_K = _counts(counts_K)
    N = n_K.sum()
    sign_K = 1 - 2 * (n_K % 2)
    G_K = digamma(n_K) + 0.5 * sign_K * (digamma((n_K + 1) / 2) - digamma(n_K / 2))
    return to_bits(math.log(N) - (n_K * G_K).sum() / N)


def chao_shen(counts_K: ArrayLike) -> float:
    """−Σ p̃ lg p̃ / (1 − (1−p̃)ᴺ) in bits with p̃ = coverage · n/N: Horvitz–Thompson weights for what may be unseen.

    Where every draw is a singleton the coverage would be 0 and the value undefined; f1 is then taken as N − 1.
    Source: Chao & Shen 2003, Environmental and Ecological Statistics 10, 429–443.
    """
    n_K = _counts(counts_K)
    N = int(n_K.sum())
    covered = 1 - min(_seen(n_K, 1), N - 1) / N
    p_K = covered * n_K / N
    with np.errstate(divide="ignore"):  # p̃ = 1 is included for certain: log1p(−1) = −inf and a weight of 1
        included_K = -np.expm1(N * np.log1p(-p_K))
    return to_bits(-(xlogy(p_K, p_K) / included_K).sum())


def chao_wang_jost(counts_K: ArrayLike) -> float:
    """Σ (n/N) (ψ(N) − ψ(n)) + (f1/N) Σ_{j≥0} (1−A)^{j+1}/(N+j), over ln 2: bits. The slope of the accumulation curve, carried on.

    A = 2 f2/((N−1) f1 + 2 f2); with f2 = 0, A = 2/((N−1)(f1−1) + 2); with f1 = 0 the second sum is 0. It is the paper's
    (1−A)^{1−N} (−ln A − Σ_{r<N} (1−A)^r/r), which as printed loses every digit where 2 f2/f1 is large.
    Source: Chao, Wang & Jost 2013, Methods in Ecology and Evolution 4, 1091–1100.
    """
    n_K = _counts(counts_K)
    N, f1, f2 = int(n_K.sum()), _seen(n_K, 1), _seen(n_K, 2)
    seen = (n_K * (digamma(N) - digamma(n_K))).sum() / N
    if f1 == 0:
        return to_bits(seen)
    A = 2 * f2 / ((N - 1) * f1 + 2 * f2) if f2 else 2 / ((N - 1) * (f1 - 1) + 2)
    return to_bits(seen + f1 / N * _unseen(A, N))


def james_stein(counts_K: ArrayLike) -> float:
    """Plug-in entropy of λ/K + (1−λ) n/N, in bits; λ = (1 − Σp²)/((N−1) Σ(1/K − p)²), at most 1, p = n/N.

    Shrinks towards the uniform law, so zeros count: counts_K must have an entry for every category that could have been seen.
    Source: Hausser & Strimmer 2009, Journal of Machine Learning Research 10, 1469–1484.
    """
    p_K = _whole_numbers(counts_K)
    N, K = p_K.sum(), p_K.size
    p_K = p_K / N
    apart = (N - 1) * np.square(1 / K - p_K).sum()
    shrinkage = min(1.0, (1 - np.square(p_K).sum()) / apart) if apart > 0 else 1.0
    p_K = shrinkage / K + (1 - shrinkage) * p_K
    return to_bits(-xlogy(p_K, p_K).sum())


ESTIMATORS: dict[str, Estimator] = {
    "chao_wang_jost": chao_wang_jost,
    "grassberger": grassberger,
    "miller_madow": miller_madow,
    "chao_shen": chao_shen,
    "james_stein": james_stein,
    "empirical_entropy": empirical_entropy,
}


def _estimator(name: str) -> Estimator:
    if name not in ESTIMATORS:
        raise ValueError(f"there is no entropy estimator {name!r}; there are {', '.join(ESTIMATORS)}")
    return ESTIMATORS[name]


def _counted(value: float, counts_K: ArrayLike, side: Bound) -> CountedInformation:
    covered = coverage(counts_K)
    return CountedInformation(value, covered, side if covered < LEAST_COVERAGE else None)


def _table(counts_XY: ArrayLike) -> np.ndarray:
    table_XY = np.asarray(counts_XY)
    _whole_numbers(table_XY)
    if table_XY.ndim != 2:
        raise ValueError(f"a table of counts has two axes, contexts and outcomes; this has the shape {table_XY.shape}")
    return table_XY


def _counts(counts_K: ArrayLike) -> np.ndarray:
    """The positive ones, flat, int64."""
    n_K = _whole_numbers(counts_K)
    return n_K[n_K > 0]


def _whole_numbers(counts_K: ArrayLike) -> np.ndarray:
    given_K = np.asarray(counts_K).ravel()
    if given_K.dtype.kind not in "iuf" or not (np.isfinite(given_K) & (given_K >= 0) & (given_K == np.floor(given_K))).all():
        raise ValueError("counts must be whole numbers that are not negative")
    if given_K.sum() == 0:
        raise ValueError("nothing was counted, so there is no entropy to estimate")
    return given_K.astype(np.int64)


def _seen(n_K: np.ndarray, times: int) -> int:
    return int((n_K == times).sum())


def _unseen(A: float, N: int) -> float:
    """Σ_{j≥0} x^{j+1}/(N+j) with x = 1−A: the integral of x e^{−s} / (N (1 − x e^{−s/N})) over s > 0.

    s = NA (e^w − 1) makes the integrand smooth in w however small A is; beyond s = 745, e^{−s} is 0.
    """
    a = N * A

    def integrand(w: float) -> float:
        s = a * math.expm1(w)
        return (1 - A) * math.exp(w - s) * A / (A - (1 - A) * math.expm1(-s / N))

    return quad(integrand, 0, math.log1p(745 / a), limit=200, epsabs=0, epsrel=1e-12)[0]
