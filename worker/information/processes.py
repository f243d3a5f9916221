"""How many bits a symbol a stationary process makes: exactly for Markov chains, from below and above for samples.

Shapes: S states, T symbols of one sequence, k the length of a block. transitions_SS[i, j] = P(next = j | now = i). In bits.

Sources: Shannon 1948; Cover and Thomas, Elements of Information Theory, 2nd ed. 2006, ch. 4 and §16.8; Parry 1964;
Grassmann, Taksar and Heyman 1985; Kontoyiannis, Algoet, Suhov and Wyner 1998; Algoet and Cover 1988.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csgraph
from scipy.special import entr

from worker.information.distributions import LN2, channel, distribution, losses
from worker.information.estimators import empirical_entropy


def stationary_distribution(transitions_SS: ArrayLike) -> np.ndarray:
    """π = πP, of a chain with one closed class of states; the transient states have 0. ValueError where π is not unique.

    By elimination without subtractions, so every entry is right to rounding relative to itself, also at 1e-300.
    """
    transitions_SS = square_channel(transitions_SS)
    closed = _closed_class(transitions_SS)
    eliminated = transitions_SS[np.ix_(closed, closed)]
    for k in range(len(closed) - 1, 0, -1):
        eliminated[:k, k] /= eliminated[k, :k].sum()
        eliminated[:k, :k] += np.outer(eliminated[:k, k], eliminated[k, :k])
    weights = np.ones(len(closed))
    for k in range(1, len(closed)):
        weights[k] = weights[:k] @ eliminated[:k, k]
    stationary_S = np.zeros(len(transitions_SS))
    stationary_S[closed] = weights / weights.sum()
    return stationary_S


def markov_entropy_rate(transitions_SS: ArrayLike) -> float:
    """h = Σ_i π_i H(P_i), bits a step. Cover and Thomas, theorem 4.2.4. ValueError where π is not unique."""
    transitions_SS = square_channel(transitions_SS)
    return float(stationary_distribution(transitions_SS) @ entr(transitions_SS).sum(axis=1) / LN2)


def parry_measure(adjacency_SS: ArrayLike) -> np.ndarray:
    """[S, S] P_ij = A_ij v_j / (λ v_i), Av = λv: of all chains on the edges of A the one with the greatest rate, lg λ.

    A ≥ 0 may count parallel edges; it must be irreducible, or v is not unique: ValueError. Parry 1964; Shannon 1948.
    """
    adjacency_SS = adjacency(adjacency_SS)
    n_classes, _ = csgraph.connected_components(adjacency_SS > 0, connection="strong")
    if n_classes > 1 or not adjacency_SS.any():
        raise ValueError("the graph is not irreducible: some state cannot be reached from some other")
    values, vectors = np.linalg.eig(adjacency_SS)
    perron = values.real.argmax()
    v_S = np.abs(vectors[:, perron].real)
    weights_SS = adjacency_SS * v_S
    return weights_SS / weights_SS.sum(axis=1, keepdims=True)


def block_entropies(
    sequences: Iterable[ArrayLike], longest: int, entropy_of_counts: Callable[[np.ndarray], float] = empirical_entropy
) -> np.ndarray:
    """[longest] H_1, …, H_longest: the entropies of blocks of k successive symbols, bits. No block crosses sequences.

    Those of long blocks are far too small where blocks of that length have not each been seen often: lg N is all that N
    blocks can show. Another `entropy_of_counts` than the plug-in lessens that.
    """
    sequences = symbol_sequences(sequences)
    _require_blocks(longest)
    return np.array([entropy_of_counts(_block_counts(_blocks(sequences, k))) for k in range(1, longest + 1)])


def block_entropy_rates(
    sequences: Iterable[ArrayLike], longest: int, entropy_of_counts: Callable[[np.ndarray], float] = empirical_entropy
) -> np.ndarray:
    """[longest] H_k − H_{k−1} for k = 1, …, longest, with H_0 = 0: the entropy of a symbol given the k−1 before it, bits.

    Of a stationary process they fall to the entropy rate. H_{k−1} is of the blocks' own beginnings, so that the plug-in
    difference is a conditional entropy, and not negative. Cover and Thomas, theorem 4.2.1.
    """
    sequences = symbol_sequences(sequences)
    _require_blocks(longest)
    rates = [entropy_of_counts(_block_counts(_blocks(sequences, 1)))]
    for k in range(2, longest + 1):
        blocks = _blocks(sequences, k)
        rates.append(entropy_of_counts(_block_counts(blocks)) - entropy_of_counts(_block_counts(blocks[:, :-1])))
    return np.array(rates)


def match_length_entropy_rate(symbols_T: ArrayLike) -> float:
    """(T−1) / Σ_t Λ_t / lg(t+1), bits a symbol, Λ_t = 1 + the longest match of the text from t on with one that begins before t.

    It needs no block length and converges for every stationary ergodic process that forgets its past (Kontoyiannis et al.
    1998), but slowly, as 1/lg T, and to a biased value on the way: on a two-state chain of .572 bits it says about .5 at 20,000
    symbols. To compare texts of one length, not to measure a rate. Time grows as T² in the worst case.
    """
    symbols_T = symbol_sequences([symbols_T])[0]
    if len(symbols_T) < 2:
        raise ValueError(f"matches need at least two symbols, there is {len(symbols_T)}")
    _, codes_T = np.unique(symbols_T, return_inverse=True)
    text = "".join(map(chr, codes_T))  # one character a symbol, for the search in C
    total, match = 0.0, 0
    for t in range(1, len(text)):
        match = max(match - 1, 0)
        while t + match < len(text) and text.find(text[t : t + match + 1], 0, t + match) >= 0:
            match += 1
        total += (match + 1) / math.log2(t + 1)
    return (len(text) - 1) / total


def sample_entropy_rate(nll_bits_T: ArrayLike) -> float:
    """−(1/T) lg p(x_1, …, x_T) = mean of −lg p(x_t | x_<t), bits a symbol.

    Shannon, McMillan and Breiman: of a stationary ergodic process it converges almost surely to the entropy rate. It is about the
    likelihood of the sample under the process, not about its empirical distribution. Algoet and Cover 1988.
    """
    return float(losses(nll_bits_T).mean())


def iid_nll(p_S: ArrayLike, symbols_T: ArrayLike) -> np.ndarray:
    """[T] −lg p(x_t), bits; inf where p says 0."""
    p_S = distribution(p_S)
    with np.errstate(divide="ignore"):
        return -np.log2(p_S)[_states(symbols_T, len(p_S))]


def markov_nll(transitions_SS: ArrayLike, symbols_T: ArrayLike, initial_S: ArrayLike | None = None) -> np.ndarray:
    """[T] −lg p(x_1), then −lg p(x_t | x_{t−1}), bits; inf where p says 0. Stationary unless `initial_S` is given."""
    transitions_SS = square_channel(transitions_SS)
    initial_S = stationary_distribution(transitions_SS) if initial_S is None else distribution(initial_S)
    symbols_T = _states(symbols_T, len(transitions_SS))
    with np.errstate(divide="ignore"):
        first = -np.log2(initial_S[symbols_T[:1]])
        return np.concatenate([first, -np.log2(transitions_SS[symbols_T[:-1], symbols_T[1:]])])


@dataclass(frozen=True)
class SelfConsistency:
    """How far a sample's losses lie above the entropies that were predicted on the way, bits a symbol, and in standard errors."""

    gap_bits: float
    z: float


def self_consistency(nll_bits_T: ArrayLike, entropy_bits_T: ArrayLike, varentropy_bits2_T: ArrayLike) -> SelfConsistency:
    """gap = (1/T) Σ (−lg p(x_t|x_<t) − H(p_t)), z = Σ (…) / sqrt(Σ V_t), V_t the variance of −lg p_t under p_t.

    The terms are martingale differences if x was sampled from p itself, whatever the process: their mean is 0 and z is nearly
    standard normal. On text of other origin a gap > 0 is over-confidence. z is 0 where all V_t and the gap are 0, ±inf where only
    V_t are. Braverman et al. 2020 (entropy calibration).
    """
    nll_bits_T, entropy_bits_T, varentropy_bits2_T = map(losses, (nll_bits_T, entropy_bits_T, varentropy_bits2_T))
    if not nll_bits_T.shape == entropy_bits_T.shape == varentropy_bits2_T.shape:
        sizes = f"{nll_bits_T.size}, {entropy_bits_T.size} and {varentropy_bits2_T.size}"
        raise ValueError(f"losses, entropies and varentropies must be of the same tokens, here there are {sizes}")
    if not np.isfinite([entropy_bits_T, varentropy_bits2_T]).all():
        raise ValueError("the entropy and the varentropy of a token must be finite")
    terms_T, variance = nll_bits_T - entropy_bits_T, float(varentropy_bits2_T.sum())
    total = float(terms_T.sum())
    if variance == 0:
        return SelfConsistency(total / terms_T.size, math.copysign(math.inf, total) if total else 0.0)
    return SelfConsistency(total / terms_T.size, total / math.sqrt(variance))


def square_channel(transitions_SS: ArrayLike) -> np.ndarray:
    """A channel from states to the same states. ValueError otherwise."""
    transitions_SS = channel(transitions_SS)
    if transitions_SS.shape[0] != transitions_SS.shape[1]:
        raise ValueError(f"transitions are a square matrix, this one is {transitions_SS.shape[0]} by {transitions_SS.shape[1]}")
    return transitions_SS


def adjacency(edges_SS: ArrayLike) -> np.ndarray:
    """A square matrix of numbers of edges, ≥ 0. ValueError otherwise."""
    edges_SS = np.array(edges_SS, dtype=np.float64)
    if edges_SS.ndim != 2 or edges_SS.shape[0] != edges_SS.shape[1] or edges_SS.size == 0:
        raise ValueError(f"the edges of a graph are a square matrix, the shape here is {edges_SS.shape}")
    if not (np.isfinite(edges_SS).all() and (edges_SS >= 0).all()):
        raise ValueError("a number of edges must be finite and ≥ 0")
    return edges_SS


def symbol_sequences(sequences: Iterable[ArrayLike]) -> list[np.ndarray]:
    """Each of them flat. ValueError where one is not, or there is none."""
    made = [np.asarray(symbols_T) for symbols_T in sequences]
    if not made or any(symbols_T.ndim != 1 for symbols_T in made):
        raise ValueError("there must be a sequence, and each one-dimensional: pass [symbols] for a single one")
    return made


def _closed_class(transitions_SS: np.ndarray) -> np.ndarray:
    n_classes, class_S = csgraph.connected_components(transitions_SS > 0, connection="strong")
    leaves = {int(class_S[i]) for i, j in np.argwhere(transitions_SS > 0) if class_S[i] != class_S[j]}
    closed = sorted(set(range(n_classes)) - leaves)
    if len(closed) > 1:
        raise ValueError(f"the chain has {len(closed)} closed classes of states, so its stationary distribution is not unique")
    return np.flatnonzero(class_S == closed[0])


def _require_blocks(longest: int) -> None:
    if longest < 1:
        raise ValueError(f"blocks have at least one symbol, not {longest}")


def _blocks(sequences: list[np.ndarray], k: int) -> np.ndarray:
    windows = [np.lib.stride_tricks.sliding_window_view(symbols_T, k) for symbols_T in sequences if len(symbols_T) >= k]
    if not windows:
        raise ValueError(f"no sequence has {k} symbols, so there are no blocks of that length")
    return np.concatenate(windows)


def _block_counts(blocks: np.ndarray) -> np.ndarray:
    return np.unique(blocks, axis=0, return_counts=True)[1]


def _states(symbols_T: ArrayLike, S: int) -> np.ndarray:
    symbols_T = np.asarray(symbols_T)
    if symbols_T.size == 0:
        raise ValueError("there are no symbols")
    if not np.issubdtype(symbols_T.dtype, np.integer) or symbols_T.min() < 0 or symbols_T.max() >= S:
        raise ValueError(f"symbols must be whole numbers from 0 to {S - 1}")
    return symbols_T
