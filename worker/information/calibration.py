"""Whether the probabilities that a model gives its answers are how often it is right.

Shapes: N answers, B bins, L alternatives.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special, stats

BINS = 15
LEAST_IN_A_BIN = 10


def expected_calibration_error(confidence_N: ArrayLike, right_N: ArrayLike, bins: int = BINS) -> float:
    """Σ_b n_b/N |share right − mean confidence| over bins of equal numbers, less what chance adds; 0 is calibrated, 1 the worst.

    Bins are of answers in the order of their confidence, as many as hold LEAST_IN_A_BIN, `bins` at most. A share of n answers
    deviates by chance with s² = share (1 − share)/n, which makes |d| larger in the mean by E|N(d, s²)| − |d|; that is taken off
    each bin, and the sum is not below 0. Of a calibrated model's plain sum about six tenths are left.
    Guo et al. 2017 (arXiv 1706.04599); Kumar, Liang & Ma 2019 (arXiv 1909.10155), §5.
    """
    confidence_N, right_N = _answers(confidence_N, right_N)
    N = len(confidence_N)
    order_N = np.argsort(confidence_N, kind="stable")
    total = 0.0
    for bin_ in np.array_split(order_N, max(1, min(bins, N // LEAST_IN_A_BIN))):
        share, n = float(right_N[bin_].mean()), len(bin_)
        deviation = abs(share - float(confidence_N[bin_].mean()))
        by_chance = _folded_mean(deviation, np.sqrt(share * (1 - share) / n)) - deviation
        total += n / N * (deviation - by_chance)
    return max(total, 0.0)


def fitted_temperature(logits_NL: ArrayLike, truth_N: ArrayLike) -> float:
    """The T > 0 at which softmax(z/T) has the least mean −lg p(truth): above 1 the model is over-confident.

    The mean is convex in 1/T. ValueError where no T is best: every likeliest answer is right (T would be 0), or the truth is no
    likelier than chance (infinite). Guo et al. 2017 (arXiv 1706.04599), §4.2.
    """
    logits_NL, truth_N = np.asarray(logits_NL, dtype=np.float64), np.asarray(truth_N, dtype=np.int64)
    if logits_NL.ndim != 2 or truth_N.shape != logits_NL.shape[:1] or not len(truth_N) or not np.isfinite(logits_NL).all():
        raise ValueError("the logits are a finite [N, L], with one true alternative for each N")
    true_N = np.take_along_axis(logits_NL, truth_N[:, None], axis=1)[:, 0]

    def slope(beta: float) -> float:
        """d/dβ of the mean NLL of softmax(βz): E_p z − z_y."""
        expected_N = (special.softmax(beta * logits_NL, axis=1) * logits_NL).sum(axis=1)
        return float((expected_N - true_N).mean())

    low, high = 1e-4, 1e4
    if slope(low) >= 0 or slope(high) <= 0:
        raise ValueError("no temperature is best: the likeliest answers are all right, or no likelier to be right than others")
    return 1 / float(optimize.brentq(slope, low, high))


def _folded_mean(mean: float, deviation: float) -> float:
    """E|X| of X normal: σ √(2/π) exp(−μ²/2σ²) + μ (1 − 2Φ(−μ/σ)). Leone, Nelson & Nottingham 1961."""
    if deviation == 0:
        return abs(mean)
    z = mean / deviation
    return float(deviation * np.sqrt(2 / np.pi) * np.exp(-z * z / 2) + mean * (1 - 2 * stats.norm.cdf(-z)))


def _answers(confidence_N: ArrayLike, right_N: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    confidence_N, right_N = np.asarray(confidence_N, dtype=np.float64), np.asarray(right_N, dtype=np.float64)
    if confidence_N.ndim != 1 or confidence_N.shape != right_N.shape or not len(right_N):
        raise ValueError(f"{right_N.shape} answers cannot go with confidences of the shape {confidence_N.shape}")
    if not ((confidence_N >= 0) & (confidence_N <= 1)).all() or not np.isin(right_N, (0, 1)).all():
        raise ValueError("a confidence is a probability, and an answer is right (1) or wrong (0)")
    return confidence_N, right_N
