"""Distances between two distributions over the same symbols, and what one of them bounds of another.

Sources: Levin, Peres and Wilmer, Markov Chains and Mixing Times, 2nd ed. 2017, ch. 4; Cover and Thomas, Elements of
Information Theory, 2nd ed. 2006, §11.6.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from worker.information.distributions import LN2, not_below_zero, pair
from worker.information.shannon import relative_entropy


def total_variation(p: ArrayLike, q: ArrayLike) -> float:
    """sup_A P(A) − Q(A) = ½ Σ|p − q|, from 0 to 1. 1 − TV is how often a speculative draft from q is accepted by p.

    Not the variation of information, which is of a joint distribution.
    """
    p, q = pair(p, q)
    return float(np.abs(p - q).sum() / 2)


def jensen_shannon_divergence(p: ArrayLike, q: ArrayLike) -> float:
    """½ D(p‖m) + ½ D(q‖m) with m = ½(p + q), in bits, from 0 to 1: how much a symbol tells of which of the two it is from.

    Its square root is a metric (Endres and Schindelin 2003); this is not the root. Lin 1991.
    """
    p, q = pair(p, q)
    middle = (p + q) / 2
    return (relative_entropy(p, middle) + relative_entropy(q, middle)) / 2


def jensen_shannon_distance(p: ArrayLike, q: ArrayLike) -> float:
    """The square root of `jensen_shannon_divergence`, in √bits: a metric. Endres and Schindelin 2003."""
    return math.sqrt(jensen_shannon_divergence(p, q))


def bhattacharyya_coefficient(p: ArrayLike, q: ArrayLike) -> float:
    """BC = Σ √(p q), from 0 where nothing is common to 1 where p = q. Bhattacharyya 1943."""
    p, q = pair(p, q)
    return float(np.sum(np.sqrt(p) * np.sqrt(q)))


def bhattacharyya_distance(p: ArrayLike, q: ArrayLike) -> float:
    """−lg BC in bits, half of Rényi's divergence of order ½; +inf where nothing is common. Kailath 1967."""
    coefficient = bhattacharyya_coefficient(p, q)
    return not_below_zero(-math.log2(coefficient)) if coefficient else math.inf


def hellinger_distance(p: ArrayLike, q: ArrayLike) -> float:
    """√(½ Σ (√p − √q)²) = √(1 − BC), from 0 to 1: a metric. Le Cam 1986."""
    p, q = pair(p, q)
    return float(np.sqrt(np.sum((np.sqrt(p) - np.sqrt(q)) ** 2) / 2))


def pinsker_bound(relative_entropy_bits: float) -> float:
    """TV ≤ √(½ D ln 2) with D in bits, and never above 1. CT Lemma 11.6.1; the constant is Csiszár's, 1967."""
    return min(1.0, math.sqrt(_divergence(relative_entropy_bits) * LN2 / 2))


def bretagnolle_huber_bound(relative_entropy_bits: float) -> float:
    """TV ≤ √(1 − 2^(−D)) with D in bits: weaker than Pinsker's where D is small, and below 1 for every finite D.

    Bretagnolle and Huber 1979; Canonne 2022.
    """
    return math.sqrt(-math.expm1(-_divergence(relative_entropy_bits) * LN2))


def bhattacharyya_bounds(coefficient: float) -> tuple[float, float]:
    """1 − BC ≤ TV ≤ √(1 − BC²): both ends come without the second pass over the vocabulary that TV needs. Kraft 1955."""
    if not 0 <= coefficient <= 1 + 1e-9:
        raise ValueError(f"a Bhattacharyya coefficient lies between 0 and 1, this is {coefficient!r}")
    coefficient = min(coefficient, 1.0)
    return 1 - coefficient, math.sqrt((1 - coefficient) * (1 + coefficient))


def _divergence(bits: float) -> float:
    if not bits >= 0:
        raise ValueError(f"a relative entropy is ≥ 0, this is {bits!r}")
    return bits
