"""What a representation T of X keeps about Y: the information bottleneck, and what a predictor proves of it from below.

Shapes: X inputs, Y what is to be predicted, T values of the representation, N examples, D and E dimensions. T − X − Y is
a Markov chain: T sees X alone. All in bits.

Sources: Tishby, Pereira and Bialek 1999; Chechik, Globerson, Tishby and Weiss 2005 (Gaussian); Barber and Agakov 2003;
Xu, Zhao, Song, Stewart and Ermon 2020 (usable information).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import linalg
from scipy.special import logsumexp, rel_entr

from worker.information.distributions import LN2, losses, probabilities
from worker.information.samples import covariance_matrix
from worker.information.shannon import entropy, mutual_information


@dataclass(frozen=True, eq=False)
class Bottleneck:
    """A stationary point of I(X;T) − β I(T;Y), the least found; with beta inf, the minimal sufficient statistic."""

    beta: float
    complexity_bits: float  # I(X;T)
    relevance_bits: float  # I(T;Y)
    encoder_XT: np.ndarray

    @property
    def lagrangian_bits(self) -> float:
        return self.complexity_bits - self.beta * self.relevance_bits if self.relevance_bits else self.complexity_bits


@dataclass(frozen=True, eq=False)
class GaussianBottleneck:
    """The optimum for jointly Gaussian X and Y: T = projection_KD · X + N(0, I_K)."""

    beta: float
    complexity_bits: float
    relevance_bits: float
    projection_KD: np.ndarray


def information_bottleneck(
    joint_XY: ArrayLike,
    beta: float,
    restarts: int = 0,
    rng: np.random.Generator | None = None,
    tolerance_bits: float = 1e-13,
    max_iterations: int = 5_000,
) -> Bottleneck:
    """min over p(t|x) of I(X;T) − β I(T;Y), T of as many values as X.

    The iteration p(t|x) ∝ p(t) e^{−β D(p(y|x) ‖ p(y|t))} never ascends, but finds local minima. It is run from T = X, once at
    β and once coming down to it from β · 2⁵ (each run beginning where the last one ended), and from `restarts` random
    encoders drawn from `rng`; the best is returned, and T = constant, which costs 0, where nothing is better. By data
    processing that is so for β ≤ 1.
    β = inf gives the minimal sufficient statistic, I(T;Y) = I(X;Y): symbols with equal p(y|x) are one.
    """
    joint_XY = probabilities(joint_XY)
    if joint_XY.ndim != 2:
        raise ValueError(f"a joint distribution of X and Y has 2 axes, this array has {joint_XY.ndim}")
    if not beta >= 0:
        raise ValueError(f"beta must be a number ≥ 0, it is {beta!r}")
    if restarts and rng is None:
        raise ValueError("random restarts need a rng: pass numpy.random.default_rng(seed)")
    used_X = joint_XY.sum(axis=1) > 0
    encoder_XT = np.zeros((len(joint_XY), len(joint_XY)))
    encoder_XT[:, 0] = 1  # also for a symbol that never occurs
    if math.isinf(beta):
        encoder_XT[used_X] = _sufficient(joint_XY[used_X], len(joint_XY))
    elif beta > 1:
        encoder_XT[used_X] = _least(joint_XY[used_X], len(joint_XY), beta, restarts, rng, tolerance_bits, max_iterations)
    return _bottleneck(joint_XY, encoder_XT, beta)


def gaussian_information_bottleneck(
    covariance_X: ArrayLike, covariance_XY: ArrayLike, covariance_Y: ArrayLike, beta: float
) -> GaussianBottleneck:
    """Σ over λ_i < 1 − 1/β: I(X;T) = Σ ½ lg((β−1)(1−λ_i)/λ_i), I(T;Y) = Σ ½ lg((β−1)/(β λ_i)).

    λ_i are the eigenvalues of Σ_{X|Y} Σ_X⁻¹, 1 less the squared canonical correlations: each direction opens at β = 1/(1−λ_i).
    Both are inf where some λ_i is 0 and β allows it. Covariances [D, D], [D, E], [E, E], positive definite; β finite.
    """
    if not 0 <= beta < math.inf:
        raise ValueError(f"beta must be a finite number ≥ 0, it is {beta!r}")
    covariance_X, covariance_XY, covariance_Y = (
        np.atleast_2d(np.asarray(c, dtype=np.float64)) for c in (covariance_X, covariance_XY, covariance_Y)
    )
    expected = (len(covariance_X), len(covariance_Y))
    if covariance_XY.shape != expected:
        raise ValueError(f"the covariance of X with Y must be {expected}, it is {covariance_XY.shape}")
    if not np.isfinite(covariance_XY).all():
        raise ValueError("a covariance must be finite")
    root_X, root_Y = (_cholesky(c, name) for c, name in ((covariance_X, "X"), (covariance_Y, "Y")))
    whitened_DE = linalg.solve_triangular(root_X, covariance_XY, lower=True)
    whitened_DE = linalg.solve_triangular(root_Y, whitened_DE.T, lower=True).T
    directions_DD, correlations, _ = np.linalg.svd(whitened_DE)
    if correlations.max(initial=0) > 1 + 1e-9:
        raise ValueError("the covariances do not belong together: a canonical correlation would be above 1")
    opened = correlations**2 > 1 / beta if beta > 1 else np.zeros(len(correlations), dtype=bool)
    gain_K = np.minimum(correlations[opened], 1) ** 2
    left_K = (1 - np.sqrt(gain_K)) * (1 + np.sqrt(gain_K))
    with np.errstate(divide="ignore"):
        complexity = float(np.log((beta - 1) * gain_K / left_K).sum() / (2 * LN2))
        relevance = float(np.log((beta - 1) / (beta * left_K)).sum() / (2 * LN2))
        scale_K = np.sqrt((beta * gain_K - 1) / left_K)
    rows_KD = linalg.solve_triangular(root_X, directions_DD[:, : len(correlations)][:, opened], lower=True, trans="T").T
    return GaussianBottleneck(beta, complexity, relevance, scale_K[:, None] * rows_KD)


def relevance_lower_bound(p_Y: ArrayLike, nll_bits_N: ArrayLike) -> float:
    """I(T;Y) ≥ H(Y) − CE, bits: CE is the mean −lg q(y|t) of any predictor from T, so a probe or a logit lens proves a bound.

    It may be negative, where the predictor is worse than the prior p_Y. Barber and Agakov 2003.
    """
    return entropy(p_Y) - float(losses(nll_bits_N).mean())


def usable_information(blind_nll_bits_N: ArrayLike, informed_nll_bits_N: ArrayLike) -> float:
    """I_V(X→Y) = H_V(Y) − H_V(Y|X): what predictors of a family V can use, from the losses of its best without and with X.

    Each is the mean −lg q(y) on the same N held-out examples. It may exceed I(X;Y) of the data on a finite sample, can grow by
    processing X, and is negative when the informed predictor is the worse one, so that neither was V's best. Xu et al. 2020.
    """
    return float(pointwise_usable_information(blind_nll_bits_N, informed_nll_bits_N).mean())


def pointwise_usable_information(blind_nll_bits_N: ArrayLike, informed_nll_bits_N: ArrayLike) -> np.ndarray:
    """[N] lg q(y|x) − lg q(y): how much X helps with this example; ±inf where one of the two held it impossible, ValueError where
    both did. Ethayarajh, Choi and Swayamdipta 2022.
    """
    blind_N, informed_N = losses(blind_nll_bits_N), losses(informed_nll_bits_N)
    if blind_N.shape != informed_N.shape:
        raise ValueError(f"{blind_N.size} losses without X cannot be paired with {informed_N.size} losses with it")
    if (np.isinf(blind_N) & np.isinf(informed_N)).any():
        raise ValueError("an example is impossible both without X and with it: there is no difference of two infinite losses")
    return blind_N - informed_N


def _least(
    joint_XY: np.ndarray,
    T: int,
    beta: float,
    restarts: int,
    rng: np.random.Generator | None,
    tolerance_bits: float,
    max_iterations: int,
) -> np.ndarray:
    X = len(joint_XY)
    smooth = 1e-3 / T  # a zero of p(t|x) would stay one
    identity_XT = (1 - 1e-3) * np.eye(X, T) + smooth
    constant_XT = np.eye(1, T).repeat(X, axis=0)
    candidates = [constant_XT, _iterate(joint_XY, identity_XT, beta, tolerance_bits, max_iterations)]
    cooled_XT = identity_XT
    for doubling in range(5, -1, -1):
        cooled_XT = _iterate(joint_XY, (1 - 1e-3) * cooled_XT + smooth, beta * 2**doubling, tolerance_bits, max_iterations)
    candidates.append(cooled_XT)
    if rng is not None:
        starts = (rng.dirichlet(np.ones(T), size=X) for _ in range(restarts))
        candidates += [_iterate(joint_XY, start_XT, beta, tolerance_bits, max_iterations) for start_XT in starts]
    return min(candidates, key=lambda encoder_XT: _bottleneck(joint_XY, encoder_XT, beta).lagrangian_bits)


def _iterate(joint_XY: np.ndarray, encoder_XT: np.ndarray, beta: float, tolerance_bits: float, max_iterations: int) -> np.ndarray:
    p_X = joint_XY.sum(axis=1)
    posterior_XY = joint_XY / p_X[:, None]
    before = math.inf
    for _ in range(max_iterations):
        p_T = p_X @ encoder_XT
        kept = p_T > 0
        posterior_TY = (encoder_XT[:, kept].T @ joint_XY) / p_T[kept, None]
        divergence_XT = rel_entr(posterior_XY[:, None, :], posterior_TY[None, :, :]).sum(axis=2)
        log_encoder_XT = np.log(p_T[kept]) - beta * divergence_XT
        log_partition_X = logsumexp(log_encoder_XT, axis=1)
        encoder_XT = np.zeros_like(encoder_XT)
        encoder_XT[:, kept] = np.exp(log_encoder_XT - log_partition_X[:, None])
        # the free energy −Σ p(x) ln Z(x), which the iteration lowers
        energy = -float(p_X @ log_partition_X)
        if before - energy <= tolerance_bits * LN2:
            break
        before = energy
    return encoder_XT


def _sufficient(joint_XY: np.ndarray, T: int) -> np.ndarray:
    """Symbols with the same p(y|x), to 1e-12, share a value of T."""
    posterior_XY = joint_XY / joint_XY.sum(axis=1, keepdims=True)
    values: list[np.ndarray] = []
    encoder_XT = np.zeros((len(joint_XY), T))
    for x, posterior_Y in enumerate(posterior_XY):
        same = (t for t, value_Y in enumerate(values) if np.allclose(value_Y, posterior_Y, rtol=0, atol=1e-12))
        t = next(same, len(values))
        if t == len(values):
            values.append(posterior_Y)
        encoder_XT[x, t] = 1
    return encoder_XT


def _bottleneck(joint_XY: np.ndarray, encoder_XT: np.ndarray, beta: float) -> Bottleneck:
    joint_XT = joint_XY.sum(axis=1)[:, None] * encoder_XT
    return Bottleneck(beta, mutual_information(joint_XT), mutual_information(encoder_XT.T @ joint_XY), encoder_XT)


def _cholesky(covariance: np.ndarray, name: str) -> np.ndarray:
    try:
        return np.linalg.cholesky(covariance_matrix(covariance))
    except np.linalg.LinAlgError as error:
        raise ValueError(f"the covariance of {name} is not positive definite") from error
