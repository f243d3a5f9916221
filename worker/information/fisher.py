"""What data tell of a parameter, and which of two series leads the other.

Shapes: N observations, P parameters, V vocabulary, T steps of time, K variables of a series. Fisher information is in natural
logarithms, nats per squared unit of the parameter, as everywhere; what is in bits says so.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.special import softmax

from worker.information.distributions import LN2, probabilities
from worker.information.samples import covariance_matrix, rounding, vectors

FEWEST_POINTS = 100


def fisher_information(scores_NP: ArrayLike, probabilities_N: ArrayLike | None = None) -> np.ndarray:
    """I(θ) = E[s sᵀ], [P, P], from scores s = ∂ ln f(x; θ)/∂θ at the true θ; equals −E[∂² ln f/∂θ²] where f is regular.

    A flat array holds the scores of one parameter. Observations count alike, or by `probabilities_N`, which makes the
    expectation exact over a finite alphabet. Scores of observations drawn from the model give the true information, scores of
    data the empirical one, which is another quantity (Kunstner, Hennig & Balles 2019).
    Source: Cover & Thomas 2006, §11.10; Lehmann & Casella 1998, §2.5.
    """
    s_NP = vectors(scores_NP)
    if probabilities_N is None:
        return s_NP.T @ s_NP / len(s_NP)
    p_N = probabilities(probabilities_N)
    if p_N.shape != (len(s_NP),):
        raise ValueError(f"{len(s_NP)} scores need as many probabilities, not {p_N.size}")
    return (s_NP * p_N[:, None]).T @ s_NP


def bernoulli_fisher_information(p: float) -> float:
    """1/(p(1−p)) about p, +inf at 0 and 1."""
    if not 0 <= p <= 1:
        raise ValueError(f"a probability lies between 0 and 1, {p} does not")
    return 1 / (p * (1 - p)) if 0 < p < 1 else math.inf


def gaussian_mean_fisher_information(covariance_DD: ArrayLike) -> np.ndarray:
    """Σ⁻¹ about the mean of a Gaussian of known covariance, [D, D]. Lehmann & Casella 1998, §2.5."""
    return _inverse(covariance_matrix(covariance_DD), "the covariance", "the mean of what does not vary is known exactly")


def cramer_rao_bound(information: ArrayLike, samples: int = 1) -> float | np.ndarray:
    """(n I)⁻¹: no unbiased estimator from n samples has a smaller variance (or covariance, as matrices).

    Reached, for every n, exactly where the score is affine in the estimator: by the mean of an exponential family, not "where
    the information is maximal". A number gives a number, +inf for I = 0; a singular matrix is a ValueError, since then some
    direction of θ cannot be estimated at all. Source: Rao 1945; Cramér 1946; Cover & Thomas 2006, §11.10.
    """
    if not samples >= 1:
        raise ValueError(f"samples must be at least 1, not {samples}")
    if np.ndim(information) > 0:
        unknowable = "some direction of the parameters changes nothing, and cannot be estimated"
        return _inverse(covariance_matrix(information), "the information", unknowable) / samples
    information = float(np.asarray(information))
    if not information >= 0:
        raise ValueError(f"an information is not negative, {information} is")
    return 1 / (samples * information) if information > 0 else math.inf


def temperature_fisher_information(logits_V: ArrayLike) -> np.ndarray:
    """Var_p(z) in nats², p = softmax(z), over the last axis: the information of one draw about β at β = 1 in p ∝ e^{βz}.

    The second derivative of ln Σ e^{βz}, and so the heat capacity of the softmax, and the varentropy at β = 1. From n tokens
    sd(β̂) ≥ 1/sqrt(n E[Var_p z]). Unchanged by a shift of the logits; a logit of −inf has probability 0 and adds nothing.
    +inf and nan are a ValueError. Source: Cover & Thomas 2006, §11.10; Brown 1986, ch. 1.
    """
    z_V = np.asarray(logits_V, dtype=np.float64)
    if z_V.size == 0:
        raise ValueError("there are no logits")
    top = z_V.max(axis=-1, keepdims=True)
    if not np.isfinite(top).all():
        raise ValueError("logits must be numbers, or −inf for what is excluded, with at least one finite in each row")
    p_V = softmax(z_V, axis=-1)
    z_V = np.where(np.isneginf(z_V), 0, z_V - top)
    z_V = z_V - (p_V * z_V).sum(axis=-1, keepdims=True)
    return (p_V * z_V**2).sum(axis=-1)


def fisher_predicted_kl(delta_P: ArrayLike, fisher: ArrayLike) -> float:
    """½ δᵀ F δ / ln 2 bits: D(p_θ ‖ p_{θ+δ}) to second order, what a step δ makes a model forget. F: [P, P] or diagonal [P].

    Source: Kullback 1959, §2.6; with the diagonal, elastic weight consolidation, Kirkpatrick et al. 2017.
    """
    delta_P, fisher = np.asarray(delta_P, dtype=np.float64), np.asarray(fisher, dtype=np.float64)
    P = delta_P.size
    if delta_P.shape != (P,) or fisher.shape not in {(P,), (P, P)}:
        raise ValueError(f"a step of the shape {delta_P.shape} does not go with an information of the shape {fisher.shape}")
    if not (np.isfinite(delta_P).all() and np.isfinite(fisher).all()):
        raise ValueError("a step and an information are finite numbers")
    F_delta_P = fisher * delta_P if fisher.ndim == 1 else fisher @ delta_P
    return 0.5 * float(delta_P @ F_delta_P) / LN2


@dataclass(frozen=True)
class GrangerTest:
    """Does the past of `cause` help to predict `effect` beyond the effect's own past?"""

    geweke_bits: float  # lg of the two residual variances' ratio, F_{X→Y} of Geweke 1982: twice the transfer entropy
    statistic: float  # F of the hypothesis that all coefficients of the cause's lags are 0
    p_value: float
    degrees_of_freedom: tuple[int, int]


def granger_causality(cause_T: ArrayLike, effect_T: ArrayLike, lags: int, difference: bool = False) -> GrangerTest:
    """Least squares of effect_t on its own last `lags` values and a constant, with and without the cause's last `lags` values.

    Series that wander must be differenced first: on random walks the test at 5 % is wrong 15 % of the time, on white noise 5 %.
    ValueError with fewer than 100 points to fit, where a series does not vary, or where the fit leaves no residual.
    Source: Granger 1969; Geweke 1982.
    """
    cause_TK, effect_TK = _series(cause_T, difference), _series(effect_T, difference)
    if cause_TK.shape[1] != 1 or effect_TK.shape[1] != 1:
        raise ValueError("the F-test is of one series by one other; of several, use gaussian_transfer_entropy")
    restricted, full, points = _residual_covariances(cause_TK, effect_TK, lags)
    ratio = float(restricted[0, 0] / full[0, 0])
    degrees = (lags, points - 2 * lags - 1)
    statistic = max(0.0, ratio - 1) * degrees[1] / degrees[0]
    return GrangerTest(max(0.0, math.log2(ratio)), statistic, float(stats.f.sf(statistic, *degrees)), degrees)


def gaussian_transfer_entropy(cause_TK: ArrayLike, effect_TK: ArrayLike, lags: int, difference: bool = False) -> float:
    """I(Y_t; X_{t−1…t−lags} | Y_{t−1…t−lags}) of jointly Gaussian series, in bits: ½ lg of the residual determinants' ratio.

    Half of Geweke's measure. In the sample it is ≥ 0 and too high by about lags·K_X·K_Y/(2T ln 2); errors as `granger_causality`.
    Source: Schreiber 2000; Barnett, Barrett & Seth 2009, Physical Review Letters 103, 238701.
    """
    restricted, full, _ = _residual_covariances(_series(cause_TK, difference), _series(effect_TK, difference), lags)
    return max(0.0, 0.5 * float(np.linalg.slogdet(restricted)[1] - np.linalg.slogdet(full)[1]) / LN2)


def _inverse(matrix_PP: np.ndarray, what: str, why: str) -> np.ndarray:
    eigenvalues_P, axes_PP = np.linalg.eigh(matrix_PP)
    if eigenvalues_P[0] <= rounding(matrix_PP):
        raise ValueError(f"{what} is singular: {why}")
    return axes_PP / eigenvalues_P @ axes_PP.T


def _series(series_TK: ArrayLike, difference: bool) -> np.ndarray:
    x_TK = vectors(series_TK)
    return np.diff(x_TK, axis=0) if difference else x_TK


def _residual_covariances(cause_TK: np.ndarray, effect_TK: np.ndarray, lags: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Of the effect by its own past, of the effect by both pasts, and how many points were fitted."""
    if len(cause_TK) != len(effect_TK):
        raise ValueError(f"a cause of {len(cause_TK)} steps cannot go with an effect of {len(effect_TK)}")
    if lags < 1:
        raise ValueError(f"lags must be at least 1, not {lags}")
    points = len(effect_TK) - lags
    if points < FEWEST_POINTS:
        raise ValueError(f"{max(points, 0)} points are left to fit, and the test needs at least {FEWEST_POINTS}")
    if (np.ptp(cause_TK, axis=0) == 0).any() or (np.ptp(effect_TK, axis=0) == 0).any():
        raise ValueError("a series does not vary, so it can neither lead nor be led")
    own, others = _lagged(effect_TK, lags), _lagged(cause_TK, lags)
    restricted = _residual_covariance(effect_TK[lags:], own)
    full = _residual_covariance(effect_TK[lags:], np.concatenate([own, others], axis=1))
    return restricted, full, points


def _lagged(x_TK: np.ndarray, lags: int) -> np.ndarray:
    """[T − lags, lags·K]: row t holds x at t−1, …, t−lags, centred and scaled for the sake of the solver."""
    x_TK = (x_TK - x_TK.mean(axis=0)) / x_TK.std(axis=0)
    return np.concatenate([x_TK[lags - lag : len(x_TK) - lag] for lag in range(1, lags + 1)], axis=1)


def _residual_covariance(y_TK: np.ndarray, regressors_TR: np.ndarray) -> np.ndarray:
    design = np.concatenate([np.ones((len(y_TK), 1)), regressors_TR], axis=1)
    residual_TK = y_TK - design @ np.linalg.lstsq(design, y_TK, rcond=None)[0]
    scale = np.square(y_TK - y_TK.mean(axis=0)).sum(axis=0)
    if len(y_TK) <= design.shape[1] or (np.square(residual_TK).sum(axis=0) <= 1e-20 * scale).any():
        raise ValueError("the fit leaves no residual: the effect is determined by the past, or there are too many lags")
    covariance_KK = residual_TK.T @ residual_TK / len(y_TK)
    if np.linalg.eigvalsh(covariance_KK)[0] <= rounding(covariance_KK):
        raise ValueError("the effect's series determine one another: drop those that the others give")
    return covariance_KK
