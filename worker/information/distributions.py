"""What the measures take: arrays of probabilities, checked and never repaired."""

import math

import numpy as np
from numpy.typing import ArrayLike

TOLERANCE = 1e-9

LN2 = math.log(2)


def probabilities(p: ArrayLike, axis: int | tuple[int, ...] | None = None) -> np.ndarray:
    """A float64 copy of p, whose entries sum to 1: all of them, or along the axis or axes. ValueError otherwise."""
    p = np.array(p, dtype=np.float64)
    if p.size == 0:
        raise ValueError("the array is empty")
    wrong = ~(np.isfinite(p) & (p >= 0))
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(f"a probability is a finite number ≥ 0, at {list(place)} stands {float(p[place])!r}")
    worst = max(np.ravel(p.sum(axis=axis)), key=lambda total: abs(total - 1))
    if abs(worst - 1) > TOLERANCE:
        raise ValueError(f"probabilities must sum to 1, these sum to {float(worst)!r}: normalise them first, if that is meant")
    return p


def channel(rows: ArrayLike) -> np.ndarray:
    """[X, Y], P(y | x): a float64 copy whose every row sums to 1. ValueError otherwise."""
    rows_XY = np.asarray(rows, dtype=np.float64)
    if rows_XY.ndim != 2:
        raise ValueError(f"a channel is a matrix [X, Y] of P(y | x), this array has {rows_XY.ndim} axes")
    return probabilities(rows_XY, axis=1)
