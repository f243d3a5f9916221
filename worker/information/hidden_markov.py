"""A chain seen through noise: the entropy rate of what is seen, and what is left to know of the states.

Shapes: S states, Y symbols that are seen, T of them. transitions_SS[i, j] = P(next = j | now = i), emissions_SY[s, y] = P(y | s).
In bits.

Sources: Blackwell 1957; Cover and Thomas, Elements of Information Theory, 2nd ed. 2006, §4.5; Hernando, Crespi and Cybenko 2005.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import entr, logsumexp

from worker.information.distributions import LN2, channel, distribution, plain_entropy
from worker.information.processes import square_channel, stationary_distribution

MOST_NUMBERS = 2**27  # 1 GiB: all words of n symbols, by first and last state


@dataclass(frozen=True, eq=False)
class RateBounds:
    """lower_N[n−1] = H(Y_n | Y^{n−1}, S_1) ≤ h ≤ H(Y_n | Y^{n−1}) = upper_N[n−1], n = 1, …, N, in bits a symbol."""

    lower_N: np.ndarray
    upper_N: np.ndarray


def hidden_markov_rate_bounds(transitions_SS: ArrayLike, emissions_SY: ArrayLike, longest: int) -> RateBounds:
    """Bounds of the entropy rate of what is seen, of the stationary process; the lower rise with n, the upper fall.

    Exact, over all Y^n words: ValueError where S² Y^n is more than memory holds.
    """
    transitions_SS, emissions_SY = _model(transitions_SS, emissions_SY)
    S, Y = emissions_SY.shape
    if longest < 1:
        raise ValueError(f"words have at least one symbol, not {longest}")
    if S * S * Y**longest > MOST_NUMBERS:
        raise ValueError(f"{Y}^{longest} words of {S} states are too many to go through: take shorter ones")
    # [first state, word, last state]; the last state is that at the last symbol
    joint = np.diag(stationary_distribution(transitions_SS))[:, None, :]
    known_first, unknown_first = [plain_entropy(joint.sum(axis=(1, 2)))], [0.0]
    for n in range(longest):
        if n:
            joint = joint @ transitions_SS
        joint = (joint[:, :, None, :] * emissions_SY.T).reshape(S, -1, S)
        known_first.append(plain_entropy(joint.sum(axis=2)))
        unknown_first.append(plain_entropy(joint.sum(axis=(0, 2))))
    return RateBounds(np.diff(known_first), np.diff(unknown_first))


def state_posterior_entropy(
    initial_S: ArrayLike, transitions_SS: ArrayLike, emissions_SY: ArrayLike, observations_T: ArrayLike
) -> float:
    """H(S_1, …, S_T | y_1, …, y_T), bits: how many state paths explain what was seen, in time T S².

    H_t(s) = H(S_1..S_{t−1} | S_t = s, y_1..y_t) = Σ_r a_t(r|s) (H_{t−1}(r) − lg a_t(r|s)), a_t(r|s) = P(S_{t−1} = r | S_t = s,
    y_1..y_{t−1}).
    ValueError where the model cannot give these observations.
    """
    transitions_SS, emissions_SY = _model(transitions_SS, emissions_SY)
    initial_S, observations_T = distribution(initial_S), _observations(observations_T, emissions_SY.shape[1])
    if len(initial_S) != len(transitions_SS):
        raise ValueError(f"the initial distribution is over {len(initial_S)} states, the transitions over {len(transitions_SS)}")
    with np.errstate(divide="ignore"):
        log_initial_S, log_transitions_SS, log_emissions_SY = (np.log(p) for p in (initial_S, transitions_SS, emissions_SY))
    log_forward_S = log_initial_S + log_emissions_SY[:, observations_T[0]]
    path_entropy_S = np.zeros(len(initial_S))  # in nats
    for y in observations_T[1:]:
        log_step_SS = log_forward_S[:, None] + log_transitions_SS
        log_reached_S = logsumexp(log_step_SS, axis=0)
        back_SS = np.exp(log_step_SS - np.where(np.isfinite(log_reached_S), log_reached_S, 0.0))
        path_entropy_S = path_entropy_S @ back_SS + entr(back_SS).sum(axis=0)
        log_forward_S = log_reached_S + log_emissions_SY[:, y]
    log_likelihood = logsumexp(log_forward_S)
    if not np.isfinite(log_likelihood):
        raise ValueError("the model cannot give these observations: their probability is 0")
    last_S = np.exp(log_forward_S - log_likelihood)
    return float(last_S @ path_entropy_S + entr(last_S).sum()) / LN2


def _model(transitions_SS: ArrayLike, emissions_SY: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    transitions_SS, emissions_SY = square_channel(transitions_SS), channel(emissions_SY)
    if len(emissions_SY) != len(transitions_SS):
        raise ValueError(f"there are transitions of {len(transitions_SS)} states and emissions of {len(emissions_SY)}")
    return transitions_SS, emissions_SY


def _observations(observations_T: ArrayLike, Y: int) -> np.ndarray:
    observations_T = np.asarray(observations_T)
    if observations_T.ndim != 1 or observations_T.size == 0 or not np.issubdtype(observations_T.dtype, np.integer):
        raise ValueError("observations must be a flat array of whole numbers, and there must be one")
    if observations_T.min() < 0 or observations_T.max() >= Y:
        raise ValueError(
            f"observations must lie in 0 to {Y - 1}, those here go from {observations_T.min()} to {observations_T.max()}"
        )
    return observations_T
