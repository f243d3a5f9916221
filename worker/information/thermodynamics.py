"""A softmax as a canonical ensemble: token v has the energy −z_v, and the sampling temperature is the temperature.

Shapes: V tokens with logits z. Energies are in units of logits, k = 1, entropies in nats unless `_bits` is said: with β = 1/T
the relations S = ln Z + βU, F = U − TS, dU/dT = C and dS/dT = C/T hold as they stand.

Sources: Gibbs, Elementary Principles in Statistical Mechanics, 1902; Jaynes 1957.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize
from scipy.special import entr, xlogy

from worker.information.distributions import LN2, probabilities


def gibbs_entropy(p: ArrayLike, k: float = 1.0) -> float:
    """S = −k Σ p ln p = k ln 2 · H, in the unit of k: nats for k = 1, J/K for Boltzmann's constant. Gibbs 1902."""
    if not k > 0:
        raise ValueError(f"the constant k must be > 0, it is {k!r}")
    return float(k * entr(probabilities(p)).sum())


@dataclass(frozen=True)
class CanonicalEnsemble:
    """softmax(z/T), seen as a body in a bath."""

    temperature: float
    log_partition: float  # ln Z = ln Σ e^{z/T}
    energy: float  # U = −E z
    free_energy: float  # F = −T ln Z
    entropy: float  # S, nats
    heat_capacity: float  # C = dU/dT = Var(z)/T²
    entropy_slope: float  # dS/dT = Var(z)/T³, nats per unit of temperature

    @property
    def entropy_bits(self) -> float:
        return self.entropy / LN2


def canonical_ensemble(logits_V: ArrayLike, temperature: float = 1.0) -> CanonicalEnsemble:
    """All of it at 0 < T < inf. A logit of −inf is a token that cannot be: it has no share in anything.

    Of z less its greatest: a shift of the logits moves U and F by itself and the others not at all, to the last digits.
    """
    logits_V = _logits(logits_V)
    if not 0 < temperature < math.inf:
        raise ValueError(f"a temperature is a finite number > 0, this is {temperature!r}")
    highest = float(logits_V.max())
    below_V = logits_V - highest
    with np.errstate(over="ignore"):  # z/T at a tiny T: −inf, and weight 0
        weight_V = np.exp(below_V / temperature)
    p_V = weight_V / weight_V.sum()
    top = int((below_V == 0).sum())
    # ln Σ apart from the greatest, so that an entropy of 1e-300 keeps its digits
    log_sum = math.log(top) + math.log1p(float(weight_V[below_V < 0].sum()) / top)
    mean = float(p_V @ below_V)
    variance = float(p_V @ np.square(below_V - mean))
    return CanonicalEnsemble(
        temperature=temperature,
        log_partition=highest / temperature + log_sum,
        energy=-highest - mean,
        free_energy=-highest - temperature * log_sum,
        entropy=log_sum - mean / temperature,
        heat_capacity=variance / temperature / temperature,
        entropy_slope=variance / temperature / temperature / temperature,
    )


def helmholtz_free_energy(p_V: ArrayLike, logits_V: ArrayLike, temperature: float = 1.0) -> float:
    """U(p) − T S(p) of any distribution p over the tokens: F + T D(p ‖ softmax(z/T)) ≥ F, least at the softmax.

    In units of logits; inf where p uses a token whose logit is −inf. Gibbs's variational principle.
    """
    p_V, logits_V = probabilities(p_V), np.asarray(logits_V, dtype=np.float64)
    _logits(logits_V)
    if p_V.shape != logits_V.shape:
        raise ValueError(f"{p_V.size} probabilities cannot go with {logits_V.size} logits")
    if not 0 < temperature < math.inf:
        raise ValueError(f"a temperature is a finite number > 0, this is {temperature!r}")
    used = p_V > 0
    return float(-(p_V[used] @ logits_V[used]) + temperature * xlogy(p_V, p_V).sum())


def temperature_for_entropy(logits_V: ArrayLike, entropy_bits: float) -> float:
    """The T at which softmax(z/T) has this entropy. It rises with T (dS/dT = Var(z)/T³ > 0), so there is one or none.

    From lg of how many tokens share the greatest logit (T → 0, which is returned as 0.0) to lg V (T → inf, returned as inf);
    ValueError outside, and where all logits are equal and every T is right.
    """
    logits_V = _logits(logits_V)
    least, most = math.log2((logits_V == logits_V.max()).sum()), math.log2(logits_V.size)
    if least == most:
        raise ValueError(f"all {logits_V.size} logits are equal: the entropy is {most:.6g} bits at every temperature")
    if not least <= entropy_bits <= most:
        raise ValueError(f"these logits have entropies of {least:.6g} to {most:.6g} bits, not {entropy_bits!r}")
    if entropy_bits in (least, most):
        return 0.0 if entropy_bits == least else math.inf

    def excess(log_temperature: float) -> float:
        return canonical_ensemble(logits_V, math.exp(log_temperature)).entropy_bits - entropy_bits

    low = high = math.log(float(np.ptp(logits_V)))
    while excess(low) > 0:
        low -= 1
        if low < -700:
            return 0.0  # no temperature of fp64 can be told from the limit
    while excess(high) < 0:
        high += 1
        if high > 700:
            return math.inf
    return math.exp(optimize.brentq(excess, low, high, xtol=1e-14))


def _logits(logits_V: ArrayLike) -> np.ndarray:
    """Those of the tokens that can be, in float64. ValueError where none can, or one is nan or +inf."""
    given_V = np.asarray(logits_V, dtype=np.float64)
    if np.isnan(given_V).any() or np.isposinf(given_V).any():
        raise ValueError("a logit is nan or +inf")
    if not np.isfinite(given_V).any():
        raise ValueError("there is no token with a finite logit")
    return given_V[np.isfinite(given_V)]
