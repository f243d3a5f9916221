"""A chain seen through noise: the entropy rate of what is seen, and what is left to know of the states.

Shapes: S states, Y symbols that are seen, T of them. transitions_SS[i, j] = P(next = j | now = i), emissions_SY[s, y] = P(y | s).
In bits.

Sources: Blackwell 1957; Cover and Thomas, Elements of Information Theory, 2nd ed. 2006, §4.5; Hernando, Crespi and Cybenko 2005.
"""

from collections.abc import Sequence
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


@dataclass(frozen=True, eq=False)
class FittedChain:
    """Of greatest likelihood, as far as it was climbed: the parameters, and lg of the likelihood."""

    initial_S: np.ndarray
    transitions_SS: np.ndarray
    emissions_SY: np.ndarray
    log_likelihood_bits: float


def fitted_chain(sequences: Sequence[ArrayLike], states: int, symbols: int, iterations: int = 50) -> FittedChain:
    """Expectation–maximisation from a fixed start: states that stay with .8, each with symbols of its own preferred.

    It climbs to a stationary point of the likelihood, not always its greatest. Baum et al. 1970; Rabiner 1989 (scaling).
    """
    y_DT, lengths_D = _padded(sequences, symbols)
    stay = 0.8 if states > 1 else 1.0
    transitions_SS = np.full((states, states), (1 - stay) / max(states - 1, 1))
    np.fill_diagonal(transitions_SS, stay)
    near_SY = 1 / (1 + np.abs(np.linspace(0, 1, states)[:, None] - np.linspace(0, 1, symbols)[None, :]) * symbols)
    emissions_SY, initial_S = near_SY / near_SY.sum(axis=1, keepdims=True), np.full(states, 1 / states)
    log_likelihood = -np.inf
    for _ in range(iterations):
        before = log_likelihood
        counts, log_likelihood = _expected_counts(y_DT, lengths_D, initial_S, transitions_SS, emissions_SY)
        initial_S, transitions_SS, emissions_SY = (_shares(count) for count in counts)
        if log_likelihood - before < 1e-9 * abs(log_likelihood):
            break
    return FittedChain(initial_S, transitions_SS, emissions_SY, float(log_likelihood) / LN2)


def _padded(sequences: Sequence[ArrayLike], symbols: int) -> tuple[np.ndarray, np.ndarray]:
    checked = [_observations(np.asarray(sequence), symbols) for sequence in sequences]
    if not checked:
        raise ValueError("there must be a sequence to fit a chain to")
    lengths_D = np.array([len(sequence) for sequence in checked])
    y_DT = np.zeros((len(checked), lengths_D.max()), dtype=np.int64)
    for row, sequence in zip(y_DT, checked, strict=True):
        row[: len(sequence)] = sequence
    return y_DT, lengths_D


def _expected_counts(
    y_DT: np.ndarray, lengths_D: np.ndarray, initial_S: np.ndarray, transitions_SS: np.ndarray, emissions_SY: np.ndarray
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], float]:
    """Forwards and backwards over all sequences at once; what stands behind the end of one counts nothing."""
    D, T = y_DT.shape
    there_DT = np.arange(T) < lengths_D[:, None]
    emitted_DTS = np.where(there_DT[:, :, None], emissions_SY.T[y_DT], 1.0)
    forward_DTS, scale_DT = np.empty_like(emitted_DTS), np.ones((D, T))
    for t in range(T):
        reached_DS = np.broadcast_to(initial_S, (D, len(initial_S))) if t == 0 else forward_DTS[:, t - 1] @ transitions_SS
        joint_DS = reached_DS * emitted_DTS[:, t]
        scale_DT[:, t] = joint_DS.sum(axis=1)
        forward_DTS[:, t] = joint_DS / scale_DT[:, t, None]
    backward_DTS = np.ones_like(forward_DTS)
    moves_SS = np.zeros_like(transitions_SS)
    for t in range(T - 2, -1, -1):
        ahead_DS = emitted_DTS[:, t + 1] * backward_DTS[:, t + 1] / scale_DT[:, t + 1, None]
        goes_on_D = there_DT[:, t + 1, None]
        backward_DTS[:, t] = np.where(goes_on_D, ahead_DS @ transitions_SS.T, 1.0)
        moves_SS += transitions_SS * ((forward_DTS[:, t] * goes_on_D).T @ ahead_DS)
    posterior_DTS = np.where(there_DT[:, :, None], forward_DTS * backward_DTS, 0.0)
    shown_SY = np.stack([posterior_DTS[y_DT == y].sum(axis=0) for y in range(emissions_SY.shape[1])], axis=1)
    return (posterior_DTS[:, 0].sum(axis=0), moves_SS, shown_SY), float(np.log(scale_DT[there_DT]).sum())


def _shares(counts: np.ndarray) -> np.ndarray:
    """Of rows that sum to 1; a state that is never left, or never reached, is uniform."""
    total = counts.sum(axis=-1, keepdims=True)
    return np.where(total > 0, counts / np.where(total > 0, total, 1), 1 / counts.shape[-1])
