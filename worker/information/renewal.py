"""Events that come back: the entropy of the gaps between them, a symbol or a unit of time.

Shapes: K possible gaps 1, …, K; N gaps seen; T symbols. In bits.

Sources: Csiszár and Shields 1996 (discrete renewal processes); McFadden 1965 (point processes); Kac 1947 (return times).
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from worker.information.distributions import distribution, plain_entropy


def renewal_entropy_rate(gap_p_K: ArrayLike) -> float:
    """H(T)/E[T], bits a step, of gaps T = 1, …, K with P(T = k) = gap_p_K[k − 1].

    A geometric gap makes the events a Bernoulli process, whose rate it gives: h(p).
    """
    gap_p_K = distribution(gap_p_K)
    return float(plain_entropy(gap_p_K) / (gap_p_K @ np.arange(1, len(gap_p_K) + 1)))


def continuous_renewal_entropy_rate(gap_entropy_bits: float, mean_gap: float) -> float:
    """h(T)/E[T], bits a unit of time, from the differential entropy of a gap. −inf for gaps that are certain. McFadden 1965.

    Of all gaps with mean 1/λ the exponential ones have the greatest h, `continuous.exponential_entropy`, so that the Poisson
    process is the most random with its rate of events.
    """
    if math.isnan(gap_entropy_bits):
        raise ValueError("the entropy of a gap must be a number, it is nan")
    if not 0 < mean_gap < math.inf:
        raise ValueError(f"the mean gap must be a finite number > 0, it is {mean_gap!r}")
    return gap_entropy_bits / mean_gap


def empirical_renewal_entropy_rate(gaps_N: ArrayLike) -> float:
    """Plug-in H(T)/mean T of whole-number gaps ≥ 1, bits a step. Low by about (K−1)/(2N ln 2 · mean T): Miller 1955."""
    gaps_N = np.asarray(gaps_N)
    if gaps_N.ndim != 1 or gaps_N.size == 0 or not np.issubdtype(gaps_N.dtype, np.integer) or gaps_N.min() < 1:
        raise ValueError("gaps must be a flat array of whole numbers ≥ 1, and there must be one")
    _, counts_K = np.unique(gaps_N, return_counts=True)
    return float(plain_entropy(counts_K / len(gaps_N)) / gaps_N.mean())


def gaps(event_times_N: ArrayLike) -> np.ndarray:
    """[N − 1] the times between successive events, which must be in order and not at once."""
    gaps_N = np.diff(np.asarray(event_times_N))
    if (gaps_N <= 0).any():
        raise ValueError(
            f"event times must increase: event {int(np.argmax(gaps_N <= 0)) + 1} (from 0) does not come after the one before it"
        )
    return gaps_N


def return_times(symbols_T: ArrayLike, symbol: int, circular: bool = False) -> np.ndarray:
    """Gaps between occurrences of a symbol, such as an end of text or a token that loops; `circular` adds the one around the end.

    Kac: in a stationary ergodic process their mean is 1/P(symbol); circularly it is T/occurrences exactly.
    """
    symbols_T = np.asarray(symbols_T)
    at_N = np.flatnonzero(symbols_T == symbol)
    inner_N = np.diff(at_N)
    if not circular or not len(at_N):
        return inner_N
    return np.append(inner_N, len(symbols_T) - at_N[-1] + at_N[0])


def kac_return_time(probability: float) -> float:
    """1/P(symbol): the mean return time in a stationary ergodic process, steps; inf for a symbol that never comes. Kac 1947."""
    if not 0 <= probability <= 1:
        raise ValueError(f"a probability lies in 0 to 1, this is {probability!r}")
    return 1 / probability if probability else math.inf
