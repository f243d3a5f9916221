"""What the measures take: arrays of probabilities, checked and never repaired; and the few operations that they share.

A joint distribution is an array with one axis a variable: joint_XYZ[x, y, z] = P(X=x, Y=y, Z=z). Everything here is float64.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import entr, logsumexp

# How far from 1 a sum may lie. Sums of fp64 are 1e-16 times their length off; what was rounded to fp32 is 1e-7 off and refused.
TOLERANCE = 1e-9
# What is ≥ 0 by a theorem may come out this far below it, when the sums of two distributions differ by all that is allowed:
# D(p‖q) ≥ Σp lg(Σp/Σq) ≥ −2·TOLERANCE/ln 2.
ROUNDING_BITS = 3e-9

LOSS_ROUNDING_BITS = 1e-5  # what fp32 may leave of −lg 1, when logits of some hundreds are subtracted

LN2 = math.log(2)

Axes = int | Sequence[int]


def probabilities(p: ArrayLike, axis: Axes | None = None) -> np.ndarray:
    """A float64 copy of p, whose entries sum to 1: all of them, or along the axis or axes.

    Nothing is renormalised: ValueError says what is wrong where an entry is negative or not a number, or a sum is off by
    more than TOLERANCE.
    """
    p = _non_negative(p, "a probability")
    sums = p.sum(axis=tuple(axis) if isinstance(axis, Sequence) else axis)
    worst = np.ravel(sums)[np.argmax(np.abs(np.ravel(sums) - 1))]
    if abs(worst - 1) > TOLERANCE:
        along = "" if axis is None else f" along axis {axis}"
        raise ValueError(
            f"probabilities must sum to 1{along}, these sum to {float(worst)!r}: normalise them first, if that is meant"
        )
    return p


def distribution(p_K: ArrayLike) -> np.ndarray:
    """[K], of one variable: a float64 copy. ValueError where the array has not one axis, or as in `probabilities`."""
    if np.ndim(p_K) != 1:
        raise ValueError(f"the distribution of one variable has one axis, this array has {np.ndim(p_K)}")
    return probabilities(p_K)


def channel(rows: ArrayLike) -> np.ndarray:
    """[X, Y], P(y | x): a float64 copy whose every row sums to 1. ValueError otherwise."""
    rows_XY = np.asarray(rows, dtype=np.float64)
    if rows_XY.ndim != 2:
        raise ValueError(f"a channel is a matrix [X, Y] of P(y | x), this array has {rows_XY.ndim} axes")
    return probabilities(rows_XY, axis=1)


def pair(p: ArrayLike, q: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Two distributions of one variable. ValueError where they are not over the same symbols."""
    p, q = probabilities(p), probabilities(q)
    if p.shape != q.shape:
        raise ValueError(f"p and q must be over the same symbols, their shapes are {p.shape} and {q.shape}")
    return p, q


def occupation(weights: ArrayLike) -> np.ndarray:
    """n_i / Σ n: the shares of counts, eigenvalues or any other amounts ≥ 0. ValueError where they are all 0.

    Where shares are what a measure is defined by, the division is part of the definition, and said so there.
    """
    shares = _non_negative(weights, "an amount")
    if shares.max() == 0:
        raise ValueError("the amounts are all 0, so there are no shares")
    shares /= shares.max()  # first, so that the sum does not overflow
    return shares / shares.sum()


def losses(nll_bits_N: ArrayLike) -> np.ndarray:
    """−lg q of each of N outcomes in a float64 copy: ≥ 0, and +inf for what q held impossible.

    ValueError where there is none, where one is not a number, or lies below 0 by more than the rounding of fp32.
    """
    nll_bits_N = np.array(nll_bits_N, dtype=np.float64)
    if nll_bits_N.size == 0:
        raise ValueError("there are no losses, so there is no mean")
    wrong = ~(nll_bits_N >= -LOSS_ROUNDING_BITS)
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(f"bits of a loss are a number ≥ 0, at {list(place)} stands {float(nll_bits_N[place])!r}")
    return nll_bits_N


def grouped(joint: ArrayLike, *groups: Axes) -> np.ndarray:
    """The joint distribution of groups of variables, one axis a group; the variables in no group are summed out.

    An empty group is a constant: its axis has length 1. ValueError where a variable is not there or in two groups.
    """
    joint = probabilities(joint)
    members = [(group,) if isinstance(group, int) else tuple(group) for group in groups]
    named = [axis for group in members for axis in group]
    if len(set(named)) != len(named) or not set(named) <= set(range(joint.ndim)):
        raise ValueError(f"the variables are numbered 0 to {joint.ndim - 1} and each may stand in one group, here: {members}")
    rest = tuple(axis for axis in range(joint.ndim) if axis not in named)
    kept = sorted(named)
    marginal = joint.sum(axis=rest).transpose([kept.index(axis) for axis in named])
    return marginal.reshape([math.prod(joint.shape[axis] for axis in group) for group in members])


def log_on(support: np.ndarray, p: np.ndarray) -> np.ndarray:
    """ln p where `support` says so, −inf where p is 0 there, and 0 elsewhere; p is broadcast.

    Ratios are differences of these: a product of two probabilities of 1e-300 underflows, the sum of their logarithms does not.
    """
    with np.errstate(divide="ignore"):
        return np.where(support, np.log(p), 0.0)


def cumulant(p: np.ndarray, r: np.ndarray, t: float, axis: int | None = None) -> np.ndarray:
    """ln Σ p e^{t r} over the support of p, of a p that sums to 1 along the axis: the cumulant generating function of r.

    Exact to rounding as t → 0, where it is t E[r] and ln Σ would lose all its digits: there it is log1p(Σ p (e^{t r} − 1)).
    For large |t| it is a log-sum-exp, so neither e^{t r} nor its sum can overflow or vanish. r may be ±inf.
    """
    support = p > 0
    exponents = t * np.where(support, r, 0.0)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        excess = np.where(support, p * np.expm1(exponents), 0.0).sum(axis=axis)
        near = np.log1p(excess)
        far = logsumexp(np.where(support, exponents + log_on(support, p), -np.inf), axis=axis)
    return np.where(np.abs(excess) < 0.5, near, far)


def plain_entropy(p: np.ndarray) -> float:
    """−Σ p lg p of what was checked before."""
    return float(entr(p).sum()) / LN2


def to_bits(nats: float) -> float:
    return float(nats) / LN2


def not_below_zero(bits: float) -> float:
    """What is ≥ 0 by a theorem: what rounding took below 0 becomes 0, and only that. A deeper value is a mistake, and stays."""
    return 0.0 if -ROUNDING_BITS < bits <= 0 else float(bits)


def _non_negative(values: ArrayLike, what: str) -> np.ndarray:
    values = np.array(values, dtype=np.float64)
    if values.size == 0:
        raise ValueError("the array is empty")
    wrong = ~(np.isfinite(values) & (values >= 0))
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(f"{what} is a finite number ≥ 0, at {list(place)} stands {float(values[place])!r}")
    return values
