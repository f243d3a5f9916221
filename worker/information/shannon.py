"""Shannon's measures of one distribution, of two, and of variables that are distributed together. Bits, unless a name says nats.

Shapes: p and q are distributions over the same symbols, of any shape. A joint distribution has one axis a variable, and a
variable (`x`, `y`, `given`) is an axis or a tuple of axes. 0 lg 0 = 0 throughout, and p lg (p/0) = +inf.

Sources: Shannon, A Mathematical Theory of Communication, 1948; CT: Cover and Thomas, Elements of Information Theory, 2nd ed.
2006.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import rel_entr, xlogy

from worker.information.distributions import LN2, Axes, grouped, log_on, not_below_zero, pair, probabilities


def entropy(p: ArrayLike) -> float:
    """H(p) = −Σ p lg p, of all entries of p: between 0, of a certain symbol, and lg n, of the uniform distribution. CT §2.1."""
    p = probabilities(p)
    return not_below_zero(-xlogy(p, p).sum() / LN2)


def varentropy(p: ArrayLike) -> float:
    """Var_p[−lg p] in bits²: 0 where all symbols that occur are equally likely. Kontoyiannis and Verdú 2014."""
    p = probabilities(p)
    surprisal = -log_on(p > 0, p) / LN2
    return float(np.sum(p * (surprisal - np.sum(p * surprisal)) ** 2))


def joint_entropy(joint: ArrayLike, of: Axes | None = None) -> float:
    """H(X_1, ..., X_n) = −Σ p lg p, of the variables `of`, or of all. CT §2.2."""
    joint = np.asarray(joint)
    return entropy(grouped(joint, tuple(range(joint.ndim)) if of is None else of))


def conditional_entropy(joint: ArrayLike, given: Axes) -> float:
    """H(X|Y) = −Σ p(x,y) lg p(x|y) of all other variables X, Y being `given`; H(X) where nothing is given. CT §2.2."""
    joint = np.asarray(joint)
    given = (given,) if isinstance(given, int) else tuple(given)
    joint_XY = grouped(joint, tuple(axis for axis in range(joint.ndim) if axis not in given), given)
    return not_below_zero(-rel_entr(joint_XY, np.broadcast_to(joint_XY.sum(axis=0), joint_XY.shape)).sum() / LN2)


def relative_entropy(p: ArrayLike, q: ArrayLike) -> float:
    """D(p‖q) = Σ p lg(p/q) ≥ 0, +inf where a p > 0 meets a q = 0. Kullback and Leibler 1951; CT §2.3."""
    p, q = pair(p, q)
    return not_below_zero(rel_entr(p, q).sum() / LN2)


def reversed_relative_entropy(p: ArrayLike, q: ArrayLike) -> float:
    """D(q‖p), of which the first argument is the one in the logarithm's denominator. +inf where a q > 0 meets a p = 0."""
    return relative_entropy(q, p)


def cross_entropy(p: ArrayLike, q: ArrayLike) -> float:
    """−Σ p lg q = H(p) + D(p‖q): the code length of symbols from p in a code made for q. +inf where a p > 0 meets a q = 0.

    A functional of two distributions of one variable, which the notation H(X,Y) of the joint entropy hides. CT §5.4.
    """
    p, q = pair(p, q)
    return not_below_zero(-xlogy(p, q).sum() / LN2)


def mutual_information(joint: ArrayLike, x: Axes = 0, y: Axes = 1) -> float:
    """I(X;Y) = Σ p(x,y) lg [p(x,y) / p(x)p(y)] = H(X) − H(X|Y) ≥ 0, other variables summed out. CT §2.3."""
    return conditional_mutual_information(joint, x, y, given=())


def pointwise_mutual_information(joint_XY: ArrayLike) -> np.ndarray:
    """lg [p(x,y) / p(x)p(y)] for each x and y, of which I(X;Y) is the mean; −inf where p(x,y) = 0.

    Fano, Transmission of Information, 1961, ch. 2; Church and Hanks 1990.
    """
    joint_XY = grouped(joint_XY, 0, 1)
    return np.where(joint_XY > 0, information_density(joint_XY) / LN2, -np.inf)


def information_density(joint_XY: np.ndarray) -> np.ndarray:
    """ln [p(x,y) / p(x)p(y)] in nats, and 0 where p(x,y) = 0, which has no weight in any mean."""
    support = joint_XY > 0
    p_X, p_Y = joint_XY.sum(axis=1, keepdims=True), joint_XY.sum(axis=0, keepdims=True)
    return log_on(support, joint_XY) - log_on(support, p_X) - log_on(support, p_Y)


def conditional_mutual_information(joint: ArrayLike, x: Axes = 0, y: Axes = 1, given: Axes = 2) -> float:
    """I(X;Y|Z) = H(X|Z) − H(X|Y,Z) ≥ 0, Z being `given`; it may be more or less than I(X;Y). CT §2.5."""
    joint_XYZ = grouped(joint, x, y, given)
    support = joint_XYZ > 0
    p_XZ, p_YZ = joint_XYZ.sum(axis=1, keepdims=True), joint_XYZ.sum(axis=0, keepdims=True)
    p_Z = p_XZ.sum(axis=0, keepdims=True)
    ratio = log_on(support, joint_XYZ) + log_on(support, p_Z) - log_on(support, p_XZ) - log_on(support, p_YZ)
    return not_below_zero(np.sum(joint_XYZ * ratio) / LN2)


def variation_of_information(joint: ArrayLike, x: Axes = 0, y: Axes = 1) -> float:
    """VI(X;Y) = H(X|Y) + H(Y|X), a metric between clusterings of the same items. Meilă 2007.

    Not the total variation, which the notebook calls variational information.
    """
    joint_XY = grouped(joint, x, y)
    return conditional_entropy(joint_XY, given=1) + conditional_entropy(joint_XY, given=0)


def entropy_decrease(prior: ArrayLike, posterior: ArrayLike) -> float:
    """H(prior) − H(posterior): negative where an observation left one less sure; its mean is I(θ;Y), as that of
    `relative_entropy(posterior, prior)` is. DeWeese and Meister 1999: the specific information.
    """
    prior, posterior = pair(prior, posterior)
    return entropy(prior) - entropy(posterior)


def hartley_entropy(p: ArrayLike) -> float:
    """lg of the number of symbols that may occur, p > 0: Rényi's entropy of order 0. Hartley 1928."""
    return math.log2(np.count_nonzero(probabilities(p)))


def normalized_entropy(p: ArrayLike) -> float:
    """H(p) / lg n between 0 and 1, n the number of entries of p, those with p = 0 too. ValueError for n = 1: lg 1 = 0.

    Pielou 1966 (evenness: drop the species that were not seen); Shannon's relative entropy of a source, 1948 §7.
    """
    p = probabilities(p)
    if p.size == 1:
        raise ValueError("one symbol has no normalised entropy: it is 0/0")
    return entropy(p) / math.log2(p.size)


def negentropy_from_uniform(p: ArrayLike) -> float:
    """lg n − H(p) = D(p‖uniform) ≥ 0, n the number of entries of p: what a code for uniform symbols wastes. CT §2.6."""
    p = probabilities(p)
    return relative_entropy(p, np.full(p.shape, 1 / p.size))


def shannon_wiener(p: ArrayLike) -> float:
    """H′ = −Σ p ln p in **nats**, the diversity index of ecology; e^H′ is `generalized.hill_number` of order 1. Hill 1973."""
    return entropy(p) * LN2


def partitioned_entropy(p: ArrayLike, blocks: Sequence[object]) -> float:
    """H of the blocks of one partition, −Σ_A P(A) lg P(A): blocks[i] names the block that holds point i. p is [n].

    Points that are sampled answers and blocks that are their meanings make it the semantic entropy of Farquhar et al. 2024.
    Walters, An Introduction to Ergodic Theory, 1982, ch. 4.
    """
    p = probabilities(p)
    if p.shape != (len(blocks),):
        raise ValueError(f"each point has one block: {len(blocks)} blocks cannot go with probabilities of shape {p.shape}")
    mass: dict[object, float] = {}
    for block, probability in zip(blocks, p.tolist(), strict=True):
        mass[block] = mass.get(block, 0.0) + probability
    return entropy(list(mass.values()))


def perplexity(p: ArrayLike, q: ArrayLike | None = None) -> float:
    """2^(−Σ p lg q) of a model q on symbols from p, +inf where a p > 0 meets a q = 0; without q that of p itself, 2^H(p).

    Jelinek, Mercer, Bahl and Baker 1977. A corpus is one p: per-text perplexities do not average to its perplexity.
    """
    with np.errstate(over="ignore"):
        return float(np.exp2(cross_entropy(p, p if q is None else q)))
