"""Entropies, divergences and informations with an order, α or q. Bits, except where a docstring says otherwise.

Every one of them is made of cumulants, K(t) = ln Σ p e^{t r}, of r = ln p, ln(p/q) or the information density, at t = α − 1.
That form keeps its digits as α → 1, where each is its Shannon measure: (1/(1−α)) lg Σ p^α loses one digit for each that α gains.

Shapes: p and q are distributions over the same symbols, of any shape; joint_XY[x, y] = P(X=x, Y=y).

Sources: Rényi 1961; Havrda and Charvát 1967; Arimoto 1977; Tsallis 1988; Csiszár 1995; van Erven and Harremoës 2014; Fehr and
Berens 2014; Verdú, α-mutual information, 2015; Issa, Wagner and Kamath 2020.
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp

from worker.information.distributions import (
    LN2,
    channel,
    cumulant,
    grouped,
    log_on,
    not_below_zero,
    occupation,
    pair,
    probabilities,
)
from worker.information.shannon import conditional_entropy, entropy, hartley_entropy, information_density, mutual_information

CSISZAR_GAP_NATS = 1e-12
CSISZAR_STEPS = 20_000


# -- one distribution


def renyi_entropy(p: ArrayLike, order: float) -> float:
    """H_α = (1/(1−α)) lg Σ p^α, never growing with α: lg |support| at 0, Shannon's at 1, −lg Σp² at 2, −lg max p at +inf."""
    p, order = probabilities(p), _order(order)
    if order == 0:
        return hartley_entropy(p)
    if order == 1:
        return entropy(p)
    if order == math.inf:
        return not_below_zero(-math.log2(p.max()))
    return not_below_zero(float(cumulant(p, log_on(p > 0, p), order - 1)) / (1 - order) / LN2)


def collision_entropy(p: ArrayLike) -> float:
    """H_2 = −lg Σ p²: two samples agree with probability 2^(−H_2)."""
    return renyi_entropy(p, 2)


def min_entropy(p: ArrayLike) -> float:
    """H_inf = −lg max p: the best single guess is right with probability 2^(−H_inf)."""
    return renyi_entropy(p, math.inf)


def hill_number(p: ArrayLike, order: float = 1) -> float:
    """(Σ p^α)^(1/(1−α)) = 2^H_α: how many equally likely symbols would be as diverse. Hill 1973; Jost 2006."""
    return 2 ** renyi_entropy(p, order)


def tsallis_entropy(p: ArrayLike, order: float) -> float:
    """S_q = (1 − Σ p^q)/(q − 1), without a unit; −Σ p ln p, in nats, at q = 1; |support| − 1 at 0; finite orders only."""
    p, order = probabilities(p), _finite_order(order)
    if order == 1:
        return entropy(p) * LN2
    return not_below_zero(float(-np.expm1(_log_power_sum(p, order))) / (order - 1))


def havrda_charvat_entropy(p: ArrayLike, order: float) -> float:
    """(Σ p^q − 1)/(2^(1−q) − 1) in bits, as a fair coin has 1 for every q; Shannon's at q = 1; finite orders only."""
    p, order = probabilities(p), _finite_order(order)
    if order == 1:
        return entropy(p)
    return not_below_zero(float(np.expm1(_log_power_sum(p, order))) / math.expm1((1 - order) * LN2))


def participation_entropy(weights: ArrayLike, order: float = 2) -> float:
    """H_α of the shares n_i/Σn of amounts n_i ≥ 0: occupations, eigenvalues, attention; α = 2 is lg participation_ratio.

    Bell and Dean 1970; Stéphan et al. 2009.
    """
    return renyi_entropy(occupation(weights), order)


def participation_ratio(weights: ArrayLike) -> float:
    """(Σ n)²/Σ n² of amounts n_i ≥ 0: how many share alike, from 1 to their number. Bell and Dean 1970."""
    return float(1 / np.sum(occupation(weights) ** 2))


# -- two distributions


def renyi_divergence(p: ArrayLike, q: ArrayLike, order: float) -> float:
    """D_α(p‖q) = (1/(α−1)) lg Σ p^α q^(1−α) ≥ 0, never falling with α.

    −lg q(p > 0) at 0, D(p‖q) at 1, lg max p/q at +inf. For α < 1 infinite only where nothing is common; from α = 1 on
    infinite where a p > 0 meets a q = 0. van Erven and Harremoës 2014.
    """
    p, q = pair(p, q)
    support = p > 0
    return not_below_zero(_cumulant_mean(p, log_on(support, p) - log_on(support, q), _order(order)) / LN2)


# -- a joint distribution


def conditional_renyi_entropy(joint_XY: ArrayLike, order: float) -> float:
    """H_α(X|Y) = (α/(1−α)) lg Σ_y p(y) (Σ_x p(x|y)^α)^(1/α), after Arimoto 1977: conditioning never adds to it.

    At 0 the largest lg |support of X given y|, at 1 H(X|Y), at +inf −lg of the chance of the best guess of X from Y.
    """
    joint_XY, order = grouped(joint_XY, 0, 1), _order(order)
    if order == 1:
        return conditional_entropy(joint_XY, given=1)
    support = joint_XY > 0
    log_posterior = log_on(support, joint_XY) - log_on(support, joint_XY.sum(axis=0))
    return not_below_zero(-_nested_mean(joint_XY, log_posterior, order) / LN2)


def sibson_mutual_information(joint_XY: ArrayLike, order: float) -> float:
    """I_α(X;Y) = (α/(α−1)) lg Σ_y (Σ_x p(x) p(y|x)^α)^(1/α) ≥ 0, the least D_α(P_XY ‖ P_X × Q_Y) over Q_Y; not symmetric.

    I(X;Y) at 1, the maximal leakage from those x that occur at +inf, −lg max_y P(x may give y) at 0. It never falls with α.
    """
    joint_XY, order = grouped(joint_XY, 0, 1), _order(order)
    if order == 1:
        return mutual_information(joint_XY)
    return not_below_zero(_nested_mean(joint_XY, information_density(joint_XY), order) / LN2)


def arimoto_mutual_information(joint_XY: ArrayLike, order: float) -> float:
    """H_α(X) − H_α(X|Y) ≥ 0, with Arimoto's conditional entropy: by how much Y helps to guess X. Not symmetric."""
    joint_XY = grouped(joint_XY, 0, 1)
    return not_below_zero(renyi_entropy(joint_XY.sum(axis=1), order) - conditional_renyi_entropy(joint_XY, order))


def csiszar_mutual_information(joint_XY: ArrayLike, order: float) -> float:
    """min over Q_Y of Σ_x p(x) D_α(P(·|x) ‖ Q_Y), 0 < α < inf; not symmetric. Csiszár 1995, Augustin 1978.

    At most Sibson's for α > 1 and at least Sibson's for α < 1. It has no closed form: Q is found by Augustin's fixed point,
    to within CSISZAR_GAP_NATS and rounding of the least value, which the gradient certifies. ArithmeticError where it is not
    reached in CSISZAR_STEPS, as happens for orders of many hundreds.
    """
    joint_XY, order = grouped(joint_XY, 0, 1), _finite_order(order)
    if order == 0:
        raise ValueError("Csiszár's information has orders above 0")
    if order == 1:
        return mutual_information(joint_XY)
    occurring_XY = joint_XY[joint_XY.sum(axis=1) > 0][:, joint_XY.sum(axis=0) > 0]
    p_X = occurring_XY.sum(axis=1)
    rows_XY = occurring_XY / p_X[:, None]
    q_Y = _augustin_mean(p_X, rows_XY, order)
    return float(sum(p * renyi_divergence(row, q_Y, order) for p, row in zip(p_X, rows_XY, strict=True)))


def renyi_divergence_from_independence(joint_XY: ArrayLike, order: float) -> float:
    """D_α(P_XY ‖ P_X × P_Y) ≥ 0: symmetric, and at least Sibson's information of the same order."""
    joint_XY = grouped(joint_XY, 0, 1)
    return not_below_zero(_cumulant_mean(joint_XY, information_density(joint_XY), _order(order)) / LN2)


def maximal_leakage(rows: ArrayLike) -> float:
    """lg Σ_y max_x P(y|x) of a channel [X, Y]: the most by which Y can multiply the chance to guess any function of X.

    From 0, where all rows are equal, to lg min(X, Y). Sibson's information of order +inf for every X that takes all values.
    """
    return not_below_zero(math.log2(channel(rows).max(axis=0).sum()))


# -- cumulants


def _cumulant_mean(p: np.ndarray, r: np.ndarray, order: float) -> float:
    """(1/(α−1)) ln Σ p e^{(α−1) r}, in nats: E[r] at α = 1, the largest r at +inf."""
    if order == 1:
        return float(np.sum(np.where(p > 0, p * r, 0.0), initial=0.0))
    if order == math.inf:
        return float(r[p > 0].max())
    return float(cumulant(p, r, order - 1)) / (order - 1)


def _nested_mean(joint_XY: np.ndarray, r_XY: np.ndarray, order: float) -> float:
    """(α/(α−1)) ln Σ_y p(y) (Σ_x p(x|y) e^{(α−1) r})^{1/α}, in nats, α ≠ 1: minus the largest inner cumulant at 0."""
    joint_XY, r_XY = joint_XY[:, joint_XY.sum(axis=0) > 0], r_XY[:, joint_XY.sum(axis=0) > 0]
    p_Y = joint_XY.sum(axis=0)
    if order == math.inf:
        return float(cumulant(p_Y, np.where(joint_XY > 0, r_XY, -np.inf).max(axis=0), 1))
    inner_Y = cumulant(joint_XY / p_Y, r_XY, order - 1, axis=0)
    if order == 0:
        return float(-inner_Y.max())
    return order / (order - 1) * float(cumulant(p_Y, inner_Y / order, 1))


def _log_power_sum(p: np.ndarray, order: float) -> float:
    """ln Σ p^q over the support."""
    return float(cumulant(p, log_on(p > 0, p), order - 1))


def _augustin_mean(p_X: np.ndarray, rows_XY: np.ndarray, order: float) -> np.ndarray:
    """The Q for which Σ_x p(x) P(y|x)^α Q(y)^(1−α) / Z_x = Q(y): where it stands, the mean divergence is least.

    The ratio g of the two sides is minus the gradient, Σ Q g = 1, and max g − 1 bounds the distance to the least value, as that
    is convex in Q. Steps Q g converge for α < 1 (Nakiboğlu 2019), Q g^(1/α) for α > 1 (Tsai, Cheng and Li 2024).
    """
    log_rows_XY = log_on(rows_XY >= 0, rows_XY)
    log_q_Y = np.log(p_X @ rows_XY)
    largest = max(1.0, order) * (np.abs(log_rows_XY[rows_XY > 0]).max() + np.abs(log_q_Y).max())
    gap = CSISZAR_GAP_NATS + 4 * np.finfo(np.float64).eps * largest  # what rounding leaves of the sums of such logarithms
    for _ in range(CSISZAR_STEPS):
        tilted_XY = order * log_rows_XY + (1 - order) * log_q_Y
        tilted_XY -= logsumexp(tilted_XY, axis=1, keepdims=True)
        log_g_Y = logsumexp(tilted_XY, b=p_X[:, None], axis=0) - log_q_Y
        if np.expm1(log_g_Y.max()) < gap:
            return np.exp(log_q_Y)
        log_q_Y = log_q_Y + log_g_Y * min(1.0, 1 / order)
        log_q_Y -= logsumexp(log_q_Y)
    raise ArithmeticError(f"Csiszár's information of order {order} was not found within {CSISZAR_STEPS} steps")


def _order(order: float) -> float:
    if not order >= 0:
        raise ValueError(f"an order is ≥ 0, this is {order!r}")
    return float(order)


def _finite_order(order: float) -> float:
    if not 0 <= order < math.inf:
        raise ValueError(f"an order here is ≥ 0 and finite, this is {order!r}")
    return float(order)
