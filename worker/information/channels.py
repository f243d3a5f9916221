"""What a channel can carry, and what a description at a given rate must lose.

Shapes: X inputs or source symbols, Y outputs, Z reproductions, K parallel components. Rates are in bits a use, or a symbol.
What is found by iteration comes as a bracket [lower, upper] that holds whether or not the iteration has converged: the
upper end of a capacity and the lower end of a rate are Lagrangian duals, the other ends are reached by the input or the
test channel that is returned. Where the bracket is wide, `max_iterations` was too small.

Sources: Blahut 1972; Arimoto 1972; Berger, Rate Distortion Theory, 1971; Cover and Thomas, Elements of Information Theory,
2nd ed. 2006, ch. 7, 9 and 10. Longer steps of the iteration: Matz and Duhamel 2004.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp, xlogy

from worker.information.distributions import LN2, channel, probabilities
from worker.information.shannon import mutual_information

# each halves what is left of the curve: 30 leave a billionth of it, and a rate's error is quadratic in that
MOST_CHORDS = 40


@dataclass(frozen=True, eq=False)
class Capacity:
    """lower ≤ C ≤ upper, in bits a use; the input reaches the lower end."""

    lower_bits: float
    upper_bits: float
    input_X: np.ndarray


@dataclass(frozen=True, eq=False)
class Rate:
    """lower ≤ R(D) ≤ upper, in bits a symbol; the test channel reaches the upper end. Both are inf where D is out of reach."""

    lower_bits: float
    upper_bits: float
    test_channel_XZ: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Distortion:
    """lower ≤ D(R) ≤ upper, in the distortion's unit; the test channel reaches the upper end."""

    lower: float
    upper: float
    test_channel_XZ: np.ndarray


def channel_capacity(channel_XY: ArrayLike, tolerance_bits: float = 1e-9, max_iterations: int = 300) -> Capacity:
    """C = max over p(x) of I(X;Y). For any p(x) with output p(y): Σ_x p(x) D_x ≤ C ≤ max_x D_x, D_x = D(P(·|x) ‖ p(y)).

    A binary symmetric channel has 1 − h(ε), an erasure channel 1 − ε, Shannon 1948.
    """
    channel_XY = channel(channel_XY)
    channel_XY = channel_XY[:, channel_XY.any(axis=0)]
    with np.errstate(divide="ignore"):
        log_XY = np.log(channel_XY)
    minus_entropy_X = xlogy(channel_XY, channel_XY).sum(axis=1)

    def log_output(log_input_X: np.ndarray) -> np.ndarray:
        return logsumexp(log_input_X[:, None] + log_XY, axis=0)

    def evaluate(log_input_X: np.ndarray) -> _Ascent:
        gain_X = minus_entropy_X - channel_XY @ log_output(log_input_X)
        return _Ascent(float(np.exp(log_input_X) @ gain_X), float(gain_X.max()), gain_X)

    def root_curvature(log_input_X: np.ndarray) -> np.ndarray:
        return np.exp(log_XY - log_output(log_input_X) / 2).T

    log_input_X, best = _ascend(evaluate, root_curvature, len(channel_XY), tolerance_bits * LN2, max_iterations)
    lower, upper = max(best.lower, 0.0), max(best.upper, best.lower, 0.0)  # where they meet, rounding may cross them
    return Capacity(lower / LN2, upper / LN2, np.exp(log_input_X))


def awgn_capacity(snr: float) -> float:
    """½ lg(1 + S/N), bits a real dimension, of the additive white Gaussian noise channel. Shannon 1948."""
    return float(np.log1p(_not_negative("the signal-to-noise ratio", snr)) / (2 * LN2))


def shannon_hartley(bandwidth_hz: float, snr: float) -> float:
    """B lg(1 + S/N), bits a second: 2B real dimensions a second. `snr` is a ratio of powers, not decibels. Shannon 1949."""
    return 2 * _not_negative("the bandwidth", bandwidth_hz) * awgn_capacity(snr)


def parallel_gaussian_capacity(noise_K: ArrayLike, power: float) -> float:
    """Σ ½ lg(1 + P_k/N_k), bits, with the power poured like water: P_k = (ν − N_k)⁺, ΣP_k = power. Cover and Thomas §9.4.

    Noise variances must be > 0.
    """
    noise_K = np.sort(_positive("a noise variance", noise_K))
    power = _not_negative("the power", power)
    levels_K = (power + np.cumsum(noise_K)) / np.arange(1, len(noise_K) + 1)
    level = levels_K[levels_K >= noise_K][-1]
    return float(np.maximum(np.log(level / noise_K), 0).sum() / (2 * LN2))


def gaussian_rate_distortion(variance_K: ArrayLike, distortion: float) -> float:
    """R(D) of independent Gaussian components under total squared error ΣD_k = D, bits: Σ ½ lg⁺(σ_k²/D_k), D_k = min(θ, σ_k²).

    Of one component: max(0, ½ lg(σ²/D)). inf at D = 0. The water level θ: Cover and Thomas §10.3.3, Kolmogorov 1956.
    """
    variance_K = np.sort(_positive("a variance", variance_K))
    distortion = _not_negative("the distortion", distortion)
    if distortion == 0:
        return math.inf
    if distortion >= variance_K.sum():
        return 0.0
    # with the k smallest variances under water they give themselves, the K − k others θ each
    under_K = np.concatenate([[0.0], np.cumsum(variance_K)[:-1]])
    levels_K = (distortion - under_K) / np.arange(len(variance_K), 0, -1)
    level = levels_K[levels_K <= variance_K][0]
    return float(np.maximum(np.log(variance_K / level), 0).sum() / (2 * LN2))


def gaussian_distortion_rate(variance: float, rate_bits: float) -> float:
    """D(R) = σ² 2^{−2R}: the least mean squared error of a Gaussian at R bits a symbol, and by Shannon's bound no source of this
    variance needs more. At R bits a weight no quantiser of Gaussian weights does better. Cover and Thomas §10.3.2.
    """
    return float(_not_negative("the variance", variance) * 2.0 ** (-2 * _not_negative("the rate", rate_bits)))


def rate_distortion(
    p_X: ArrayLike, distortion_XZ: ArrayLike, distortion: float, tolerance_bits: float = 1e-9, max_iterations: int = 300
) -> Rate:
    """R(D) = min over p(z|x) with E d(x, z) ≤ D of I(X;Z).

    inf below D_min = Σ p(x) min_z d(x, z), 0 from D_max = min_z Σ p(x) d(x, z) on. Between them, tangents of the curve at
    the slope of the chord over D close in on it from below, chords from above, in halving steps.
    """
    p_X, distortion_XZ = _source(p_X, distortion_XZ)
    if math.isnan(distortion):
        raise ValueError("the distortion must be a number, it is nan")
    curve = _Curve(p_X, distortion_XZ, tolerance_bits / 4, max_iterations)
    left, right = curve.least_distortion(), curve.zero_rate()
    if distortion < left.distortion:
        if not math.isclose(distortion, left.distortion, rel_tol=1e-12, abs_tol=1e-15):
            return Rate(math.inf, math.inf, None)
        distortion = left.distortion
    if distortion >= right.distortion:
        return Rate(0.0, 0.0, right.test_channel_XZ)
    if distortion == left.distortion:
        return Rate(left.lower_bits, left.rate_bits, left.test_channel_XZ)
    lower = 0.0
    for _ in range(MOST_CHORDS):
        share = (right.distortion - distortion) / (right.distortion - left.distortion)
        upper = share * left.rate_bits + (1 - share) * right.rate_bits
        middle = curve.touch((right.rate_bits - left.rate_bits) / (right.distortion - left.distortion))
        lower = max(lower, middle.lower_bits + middle.slope * (distortion - middle.distortion))
        if upper - lower <= tolerance_bits or not left.distortion < middle.distortion < right.distortion:
            break
        left, right = (middle, right) if middle.distortion <= distortion else (left, middle)
    return Rate(min(lower, upper), upper, share * left.test_channel_XZ + (1 - share) * right.test_channel_XZ)


def distortion_rate(
    p_X: ArrayLike, distortion_XZ: ArrayLike, rate_bits: float, tolerance: float = 1e-9, max_iterations: int = 300
) -> Distortion:
    """D(R) = min over p(z|x) with I(X;Z) ≤ R of E d(x, z): the inverse of R(D), in the distortion's unit and tolerance."""
    p_X, distortion_XZ = _source(p_X, distortion_XZ)
    curve = _Curve(p_X, distortion_XZ, tolerance / 4, max_iterations)
    left, right = curve.least_distortion(), curve.zero_rate()
    if _not_negative("the rate", rate_bits) >= left.rate_bits:
        return Distortion(left.distortion, left.distortion, left.test_channel_XZ)
    if rate_bits == 0:
        return Distortion(right.distortion, right.distortion, right.test_channel_XZ)
    lower = left.distortion
    for _ in range(MOST_CHORDS):
        share = (rate_bits - right.rate_bits) / (left.rate_bits - right.rate_bits)
        upper = share * left.distortion + (1 - share) * right.distortion
        middle = curve.touch((right.rate_bits - left.rate_bits) / (right.distortion - left.distortion))
        lower = max(lower, middle.distortion + (rate_bits - middle.lower_bits) / middle.slope)
        if upper - lower <= tolerance or not left.distortion < middle.distortion < right.distortion:
            break
        left, right = (middle, right) if middle.rate_bits >= rate_bits else (left, middle)
    return Distortion(float(min(lower, upper)), float(upper), share * left.test_channel_XZ + (1 - share) * right.test_channel_XZ)


class _Ascent(NamedTuple):
    """At some weights: the concave objective, what it can at most become, and the score that moves each weight, in nats."""

    lower: float
    upper: float
    score_K: np.ndarray


def _ascend(
    evaluate: Callable[[np.ndarray], _Ascent],
    root_curvature: Callable[[np.ndarray], np.ndarray],
    K: int,
    tolerance: float,
    max_iterations: int,
) -> tuple[np.ndarray, _Ascent]:
    """ln of weights that sum to 1, from uniform ones until upper − lower ≤ tolerance, and what they reach.

    w ← w e^{step · score} with step 1 is Blahut's and Arimoto's iteration, which never descends; a longer step is kept where it
    ascends, else the step is 1 again. In logarithms, so that a weight that has all but vanished can come back. Where a weight
    vanishes on the border of being used they converge only as 1/n, and Newton's steps finish.
    """
    log_w_K = np.full(K, -math.log(K))
    at, step = evaluate(log_w_K), 1.0
    upper = at.upper
    for _ in range(max_iterations):
        if upper - at.lower <= tolerance:
            return log_w_K, at._replace(upper=upper)
        moved_K = log_w_K + step * at.score_K
        moved_K -= logsumexp(moved_K)
        there = evaluate(moved_K)
        if there.lower < at.lower and step > 1:
            step = 1.0
            continue
        log_w_K, at, step = moved_K, there, step * 1.5
        upper = min(upper, at.upper)
    return _follow_barrier(evaluate, root_curvature, log_w_K, at._replace(upper=upper), tolerance, max_iterations)


def _follow_barrier(
    evaluate: Callable[[np.ndarray], _Ascent],
    root_curvature: Callable[[np.ndarray], np.ndarray],
    log_w_K: np.ndarray,
    best: _Ascent,
    tolerance: float,
    max_iterations: int,
) -> tuple[np.ndarray, _Ascent]:
    """Newton's method for f(w) + μ Σ ln w on the simplex with falling μ, where f has the Hessian −BᵀB: at its maximum
    max score − Σ w score ≤ K μ. Boyd and Vandenberghe, Convex Optimization, 2004, §11.2.
    """
    K = len(log_w_K)
    w_K = 0.99 * np.exp(log_w_K) + 0.01 / K
    barrier = max(best.upper - best.lower, tolerance) / K
    for _ in range(max_iterations):
        at = evaluate(np.log(w_K))
        if at.lower > best.lower:
            log_w_K = np.log(w_K)
        best = _Ascent(max(best.lower, at.lower), min(best.upper, at.upper), at.score_K)
        if best.upper - best.lower <= tolerance:
            break
        # relative steps e = dw/w: (D BᵀB D + μ) e = w score + μ − ν w, with Σ w e = 0 and D = diag w
        scaled = root_curvature(np.log(w_K)) * w_K
        solved = np.linalg.solve(scaled.T @ scaled + barrier * np.eye(K), np.stack([w_K * at.score_K + barrier, w_K], axis=1))
        step_K = solved[:, 0] - (w_K @ solved[:, 0]) / (w_K @ solved[:, 1]) * solved[:, 1]
        longest = float(np.abs(step_K).max())
        w_K = w_K * (1 + min(1.0, 0.9 / longest) * step_K) if longest else w_K
        w_K /= w_K.sum()
        if longest < 0.5:
            barrier /= 5
    return log_w_K, best


class _Point(NamedTuple):
    """Where a line of this slope touches R(D): `rate_bits` is reached at `distortion`, and the tangent, at most
    `rate_bits − lower_bits` below, lies under the whole curve."""

    slope: float
    distortion: float
    rate_bits: float
    lower_bits: float
    test_channel_XZ: np.ndarray


@dataclass(frozen=True, eq=False)
class _Curve:
    p_X: np.ndarray
    distortion_XZ: np.ndarray
    tolerance_bits: float
    max_iterations: int

    def touch(self, slope: float) -> _Point:
        """Blahut's iteration on the reproductions' weights, at a slope < 0 in bits per unit of distortion."""
        return self._solve(slope, slope * LN2 * self.distortion_XZ)

    def least_distortion(self) -> _Point:
        """The left end, slope −inf: each symbol may go only to the reproductions nearest to it."""
        nearest_XZ = self.distortion_XZ == self.distortion_XZ.min(axis=1, keepdims=True)
        return self._solve(-math.inf, np.where(nearest_XZ, 0.0, -np.inf))

    def zero_rate(self) -> _Point:
        """The right end: the one reproduction that is best when nothing is known."""
        mean_Z = self.p_X @ self.distortion_XZ
        test_channel_XZ = np.zeros_like(self.distortion_XZ)
        test_channel_XZ[:, mean_Z.argmin()] = 1
        return _Point(0.0, float(mean_Z.min()), 0.0, 0.0, test_channel_XZ)

    def _solve(self, slope: float, log_kernel_XZ: np.ndarray) -> _Point:
        p_X = self.p_X
        with np.errstate(divide="ignore"):
            log_p_X = np.log(p_X)

        def log_partition(log_q_Z: np.ndarray) -> np.ndarray:
            return logsumexp(log_q_Z + log_kernel_XZ, axis=1)

        def evaluate(log_q_Z: np.ndarray) -> _Ascent:
            log_partition_X = log_partition(log_q_Z)
            score_Z = logsumexp((log_p_X - log_partition_X)[:, None] + log_kernel_XZ, axis=0)
            score_Z = np.maximum(score_Z, -1e2)  # a reproduction that no symbol may use
            value = float(p_X @ log_partition_X)
            return _Ascent(value, value + max(float(score_Z.max()), 0.0), score_Z)

        def root_curvature(log_q_Z: np.ndarray) -> np.ndarray:
            return np.exp(log_p_X[:, None] / 2 + log_kernel_XZ - log_partition(log_q_Z)[:, None])

        Z, tolerance = log_kernel_XZ.shape[1], self.tolerance_bits * LN2
        log_q_Z, best = _ascend(evaluate, root_curvature, Z, tolerance, self.max_iterations)
        test_channel_XZ = np.exp(log_q_Z + log_kernel_XZ - log_partition(log_q_Z)[:, None])
        distortion = float(p_X @ (test_channel_XZ * self.distortion_XZ).sum(axis=1))
        rate_bits = mutual_information(p_X[:, None] * test_channel_XZ)
        # the objective is −(R − slope · D) at its best: what it can at most become is the intercept of a line under the curve
        intercept = -best.upper / LN2
        lower_bits = intercept if math.isinf(slope) else intercept + slope * distortion
        return _Point(slope, distortion, rate_bits, min(lower_bits, rate_bits), test_channel_XZ)


def _source(p_X: ArrayLike, distortion_XZ: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    p_X, distortion_XZ = probabilities(p_X), np.asarray(distortion_XZ, dtype=np.float64)
    if distortion_XZ.ndim != 2 or p_X.shape != distortion_XZ.shape[:1]:
        raise ValueError(f"d(x, z) of {p_X.size} symbols must be a matrix of {p_X.size} rows, its shape is {distortion_XZ.shape}")
    if not (np.isfinite(distortion_XZ).all() and (distortion_XZ >= 0).all()):
        raise ValueError("a distortion must be a finite number ≥ 0")
    return p_X[p_X > 0], distortion_XZ[p_X > 0]


def _not_negative(what: str, value: float) -> float:
    if not value >= 0:
        raise ValueError(f"{what} must be a number ≥ 0, it is {value!r}")
    return value


def _positive(what: str, values: ArrayLike) -> np.ndarray:
    values = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if values.size == 0 or values.ndim > 1 or not (np.isfinite(values).all() and (values > 0).all()):
        raise ValueError(f"{what} must be a finite number > 0, one for each component; here: {values.tolist()}")
    return values
