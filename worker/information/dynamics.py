"""How many orbits a system has, and how many bits a step a partition of it shows.

Shapes: S states of a graph, k the length of a word, P points, n steps. In bits a step.

Sources: Adler, Konheim and McAndrew 1965; Bowen 1971; Lind and Marcus, An Introduction to Symbolic Dynamics and Coding,
1995, ch. 4; Walters, An Introduction to Ergodic Theory, 1982, ch. 4 and 7.
"""

import math
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csgraph

from worker.information.processes import adjacency, block_entropy_rates, symbol_sequences


def topological_entropy(adjacency_SS: ArrayLike) -> float:
    """lg of the spectral radius of the matrix: how fast the number of walks along the edges grows.

    0 for a graph of disjoint cycles, a text that loops; −inf for one without cycles, which has no walk that goes on for ever.
    """
    adjacency_SS = adjacency(adjacency_SS)
    n_classes, class_S = csgraph.connected_components(adjacency_SS > 0, connection="strong")
    # by strong components, where the greatest eigenvalue is simple: several in a row make it defective, and blur it
    radii = (_spectral_radius(adjacency_SS[np.ix_(class_S == c, class_S == c)]) for c in range(n_classes))
    radius = max(radii)
    return math.log2(radius) if radius > 0 else -math.inf


def walk_counts(adjacency_SS: ArrayLike, longest: int) -> np.ndarray:
    """[longest] 1ᵀA^{k−1}1: the words of k states that the graph allows, whose lg over k falls to topological_entropy."""
    adjacency_SS = adjacency(adjacency_SS)
    counts, ends_S = [], np.ones(len(adjacency_SS))
    for _ in range(longest):
        counts.append(ends_S.sum())
        ends_S = ends_S @ adjacency_SS
    return np.array(counts)


def transition_graph(sequences: Iterable[ArrayLike]) -> np.ndarray:
    """[S, S] 1 where one symbol was seen right after another, of the S symbols that were seen, in sorted order."""
    sequences = symbol_sequences(sequences)
    symbols_S = np.unique(np.concatenate(sequences))
    adjacency_SS = np.zeros((len(symbols_S), len(symbols_S)))
    for symbols_T in sequences:
        codes_T = np.searchsorted(symbols_S, symbols_T)
        adjacency_SS[codes_T[:-1], codes_T[1:]] = 1
    return adjacency_SS


def distinct_words(sequences: Iterable[ArrayLike], longest: int) -> np.ndarray:
    """[longest] how many different k-grams were seen, k = 1, …, longest; none crosses sequences."""
    arrays = symbol_sequences(sequences)
    return np.array([_distinct(arrays, k) for k in range(1, longest + 1)])


def word_growth(counts_K: ArrayLike) -> np.ndarray:
    """[K − 1] lg N_{k+1} − lg N_k: near topological_entropy as long as the sample could show every word, and 0 for loops.

    A sample of T symbols has at most T words, so the growth of longer words than lg T over the entropy says nothing.
    """
    counts_K = np.asarray(counts_K, dtype=np.float64)
    if counts_K.ndim != 1 or not ((counts_K > 0) & np.isfinite(counts_K)).all():
        raise ValueError("growth needs a finite number of words ≥ 1 for every length, in a flat array")
    return np.diff(np.log2(counts_K))


def separated_set_sizes(
    f: Callable[[np.ndarray], np.ndarray],
    points_P: ArrayLike,
    epsilon: float,
    longest: int,
    distance: Callable[[np.ndarray, np.ndarray], np.ndarray] = lambda x, y: np.abs(x - y),
) -> np.ndarray:
    """[longest] N(n, ε) of a sample of points: how many of them keep d_n(x, y) = max_{i<n} d(fⁱx, fⁱy) > ε from each other.

    Greedy, so a lower bound of the greatest set, and at least its (n, 2ε) value of the sample. lim_ε limsup_n lg N(n, ε)/n is the
    topological entropy (Bowen 1971): the slope of lg N in n shows it, until N runs out of points.
    f maps an array of points, `distance` broadcasts over arrays of them.
    """
    orbit = [np.asarray(points_P, dtype=np.float64)]
    while len(orbit) < longest:
        orbit.append(f(orbit[-1]))
    return np.array([_separated(np.stack(orbit[:n]), epsilon, distance) for n in range(1, longest + 1)])


def partition_entropy_rates(
    f: Callable[[np.ndarray], np.ndarray], start: ArrayLike, cell: Callable[[np.ndarray], np.ndarray], steps: int, longest: int
) -> np.ndarray:
    """[longest] H(∨_{i<k} f⁻ⁱα) − H(∨_{i<k−1} f⁻ⁱα), which falls to h(f, α): the entropy of a map with respect to a partition α.

    From the orbits of the starting points, `steps` long, named by the cell that each point lies in. The supremum over partitions
    is the Kolmogorov–Sinai entropy, which a generating partition attains. Plug-in, so biased downwards for long blocks.
    """
    point = np.asarray(start, dtype=np.float64)
    names = []
    for _ in range(steps):
        names.append(np.atleast_1d(cell(point)))
        point = f(point)
    return block_entropy_rates(list(np.stack(names, axis=1)), longest)


def _spectral_radius(component_SS: np.ndarray) -> float:
    return float(np.abs(np.linalg.eigvals(component_SS)).max())


def _distinct(sequences: list[np.ndarray], k: int) -> int:
    windows = [np.lib.stride_tricks.sliding_window_view(symbols_T, k) for symbols_T in sequences if len(symbols_T) >= k]
    return len(np.unique(np.concatenate(windows), axis=0)) if windows else 0


def _separated(orbits_nP: np.ndarray, epsilon: float, distance: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> int:
    left = np.arange(orbits_nP.shape[1])
    size = 0
    while len(left):
        first, left = left[0], left[1:]
        size += 1
        left = left[distance(orbits_nP[:, left], orbits_nP[:, [first]]).max(axis=0) > epsilon]
    return size
