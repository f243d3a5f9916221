"""Entropies and informations of real variables: of densities, of Gaussians, and of samples by nearest neighbours. Bits.

Shapes: N samples of D variables; covariance_DD is a covariance. A flat array of samples is N samples of one variable.

Differential entropy may be negative, moves with the unit, h(aX) = h(X) + lg|a|, and is −inf where the variable has an atom or
lives on a lower dimension. Mutual information has none of this: it is ≥ 0, keeps its value under invertible maps of each side,
and is +inf where one side determines the other.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.integrate import quad
from scipy.spatial import cKDTree
from scipy.special import digamma, gammaln, xlogy

from worker.information.distributions import to_bits
from worker.information.samples import covariance_matrix, rounding, sample_covariance, vectors

MOST_NEIGHBOUR_DIMENSIONS = 10

Density = Callable[[float], float]


def differential_entropy(density: Density, low: float = -math.inf, high: float = math.inf) -> float:
    """h = −∫ f lg f over [low, high], by quadrature. Cover & Thomas 2006, ch. 8.

    0 lg 0 = 0. ValueError where f is negative, or its integral over [low, high] differs from 1 by more than 1e-6.
    """
    mass = quad(density, low, high, limit=200)[0]
    if not abs(mass - 1) <= 1e-6:
        raise ValueError(f"the density integrates to {mass:.6g} over [{low:g}, {high:g}], not to 1")

    def surprise(x: float) -> float:
        f = density(x)
        if f < 0:
            raise ValueError(f"the density is negative, {f:.3g}, at {x:.6g}")
        return -float(xlogy(f, f))

    return to_bits(quad(surprise, low, high, limit=200)[0])


def gaussian_entropy(covariance_DD: ArrayLike) -> float:
    """½ lg det(2πe Σ), the most that any density of this covariance has; −inf where Σ is singular. Cover & Thomas 2006, §8.4."""
    C_DD = covariance_matrix(covariance_DD)
    variances_D = np.diag(C_DD)
    if not variances_D.all():
        return -math.inf
    # of standardised variables: what is singular must not depend on the units
    return to_bits(0.5 * np.log(2 * math.pi * math.e * variances_D).sum()) - _multi_information(C_DD)


def uniform_entropy(low: float, high: float) -> float:
    """lg(high − low), the most that any density on [low, high] has."""
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"an interval is finite and goes from a lower to a higher end, not from {low:g} to {high:g}")
    return to_bits(math.log(high - low))


def exponential_entropy(rate: float) -> float:
    """lg(e/rate), the most that any density on x ≥ 0 of mean 1/rate has."""
    return to_bits(1 - math.log(_positive("rate", rate)))


def laplace_entropy(scale: float) -> float:
    """lg(2e·scale), the most that any density of mean absolute deviation `scale` from its centre has."""
    return to_bits(1 + math.log(2 * _positive("scale", scale)))


def vasicek_entropy(samples_N: ArrayLike) -> float:
    """h of one variable from the spacings of its order statistics; −inf where many samples are equal. Vasicek 1976.

    Too low on small samples: by some 0.13 bit for 100 Gaussian draws.
    """
    x_ND = vectors(samples_N)
    if x_ND.shape[1] != 1:
        raise ValueError(f"spacings need one variable, these samples have {x_ND.shape[1]}: use kozachenko_leonenko_entropy")
    with np.errstate(divide="ignore"):
        return float(stats.differential_entropy(x_ND[:, 0], base=2, method="vasicek"))


def kozachenko_leonenko_entropy(samples_ND: ArrayLike, k: int = 3) -> float:
    """[ψ(N) − ψ(k) + ln V_D + (D/N) Σ ln r_k] / ln 2 bits; r_k the distance to the k-th neighbour, V_D the unit ball's volume.

    −inf where a sample has k others equal to it: there is an atom, and no density. Bias grows with D.
    Source: Kozachenko & Leonenko 1987; for k > 1, Goria et al. 2005, Journal of Nonparametric Statistics 17, 277–297.
    """
    x_ND = vectors(samples_ND)
    N, D = x_ND.shape
    r_N = _neighbour_distances(x_ND, k, norm=2)
    if (r_N == 0).any():
        return -math.inf
    ball = D / 2 * math.log(math.pi) - gammaln(D / 2 + 1)
    return to_bits(digamma(N) - digamma(k) + ball + D * np.log(r_N).mean())


def negentropy(
    density: Density,
    low: float = -math.inf,
    high: float = math.inf,
    reference: Literal["gaussian", "uniform"] = "gaussian",
) -> float:
    """J = h(Gaussian of the same variance) − h(f) ≥ 0 bits, 0 for a Gaussian only. Comon 1994; Hyvärinen 1998.

    The notebook's formula is the other reference, "uniform": lg(high − low) − h(f) = D(f ‖ uniform), for a bounded range.
    """
    h = differential_entropy(density, low, high)
    if reference == "uniform":
        if not math.isfinite(high - low):
            raise ValueError("there is no uniform density on an infinite range: give low and high")
        return uniform_entropy(low, high) - h
    if reference != "gaussian":
        raise ValueError(f'the reference is "gaussian" or "uniform", not {reference!r}')
    mean = quad(lambda x: x * density(x), low, high, limit=200)[0]
    variance = quad(lambda x: (x - mean) ** 2 * density(x), low, high, limit=200)[0]
    return gaussian_entropy(variance) - h


def negentropy_from_samples(samples_ND: ArrayLike, k: int = 3) -> float:
    """J of the samples, whitened, with `kozachenko_leonenko_entropy`: exactly the same after any invertible affine map.

    +inf where samples repeat; ValueError where they lie on a lower dimension, on which J has no meaning.
    """
    x_ND = _standardised(samples_ND)
    R_DD = sample_covariance(x_ND)
    eigenvalues_D, axes_DD = np.linalg.eigh(R_DD)
    if eigenvalues_D[0] <= rounding(R_DD):
        raise ValueError("the samples do not span their dimensions: drop the variables that the others determine")
    white_ND = x_ND @ axes_DD / np.sqrt(eigenvalues_D)
    return gaussian_entropy(np.eye(len(R_DD))) - kozachenko_leonenko_entropy(white_ND, k)


def ksg_mutual_information(x_ND: ArrayLike, y_ND: ArrayLike, k: int = 3) -> float:
    """[ψ(k) + ψ(N) − ⟨ψ(n_x+1) + ψ(n_y+1)⟩] / ln 2 bits; n_x counts the samples nearer in x than the k-th joint neighbour.

    Distances are the largest coordinate's, each coordinate over its standard deviation, which changes no mutual information.
    May come out slightly below 0. ValueError where samples repeat, which densities do not, and above 10 dimensions together,
    where it is badly too low.
    Source: Kraskov, Stögbauer & Grassberger 2004, Physical Review E 69, 066138, equation 8.
    """
    x_ND, y_ND = _standardised(x_ND), _standardised(y_ND)
    if len(x_ND) != len(y_ND):
        raise ValueError(f"{len(x_ND)} samples of x cannot be paired with {len(y_ND)} of y")
    joint_ND = np.concatenate([x_ND, y_ND], axis=1)
    if joint_ND.shape[1] > MOST_NEIGHBOUR_DIMENSIONS:
        raise ValueError(f"nearest neighbours tell little in {joint_ND.shape[1]} dimensions: reduce x and y to 10 together")
    r_N = _neighbour_distances(joint_ND, k, norm=math.inf)
    if (r_N == 0).any():
        raise ValueError(f"a sample has {k} others equal to it: these are not draws from a density, count them instead")
    near = [digamma(_nearer(side_ND, r_N) + 1).mean() for side_ND in (x_ND, y_ND)]
    return to_bits(digamma(k) + digamma(len(joint_ND)) - sum(near))


def gaussian_mutual_information(covariance_DD: ArrayLike, x: Sequence[int], y: Sequence[int], given: Sequence[int] = ()) -> float:
    """I(X;Y|Z) = −½ Σ lg(1 − ρ²) over the canonical correlations of variables x and y after those of z: ½ lg (|Σx||Σy|/|Σxy|).

    +inf where a combination of x determines one of y. What does not vary (given z) tells nothing, and adds 0.
    Source: Gelfand & Yaglom 1957; Cover & Thomas 2006, §8.5.
    """
    C_DD = covariance_matrix(covariance_DD)
    x, y, z = list(x), list(y), list(given)
    if len({*x, *y, *z}) != len(x + y + z) or not x or not y:
        raise ValueError("x and y must each name variables, and no variable may be named twice")
    if not {*x, *y, *z} <= set(range(len(C_DD))):
        raise ValueError(f"the variables are numbered 0 to {len(C_DD) - 1}, here: {sorted({*x, *y, *z})}")
    R_DD = _correlations(C_DD)
    floor = rounding(R_DD)
    after_z = _conditional_covariance(R_DD, x + y, z, floor)
    n = len(x)
    whitened = _whitener(after_z[:n, :n], floor).T @ after_z[:n, n:] @ _whitener(after_z[n:, n:], floor)
    unexplained_K = 1 - np.square(np.linalg.svd(whitened, compute_uv=False))
    if (unexplained_K <= floor).any():
        return math.inf
    return max(0.0, to_bits(-0.5 * np.log(unexplained_K).sum()))


def gaussian_multi_information(covariance_DD: ArrayLike) -> float:
    """Σ h(X_i) − h(X) = −½ lg det R, R the correlation matrix; +inf where variables determine one another. Watanabe 1960.

    A variable that does not vary is independent of all others, and adds 0.
    """
    return _multi_information(covariance_matrix(covariance_DD))


def _positive(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"the {name} must be positive and finite, not {value}")
    return value


def _neighbour_distances(x_ND: np.ndarray, k: int, norm: float) -> np.ndarray:
    """[N] to the k-th nearest other sample."""
    if not 1 <= k < len(x_ND):
        raise ValueError(f"k must lie between 1 and {len(x_ND) - 1}, one less than there are samples; it is {k}")
    return cKDTree(x_ND).query(x_ND, k=[k + 1], p=norm)[0][:, 0]


def _standardised(samples_ND: ArrayLike) -> np.ndarray:
    x_ND = vectors(samples_ND)
    spread_D = x_ND.std(axis=0)
    return (x_ND - x_ND.mean(axis=0)) / np.where(spread_D > 0, spread_D, 1)


def _nearer(side_ND: np.ndarray, r_N: np.ndarray) -> np.ndarray:
    """[N] how many other samples lie strictly within r of each."""
    within_N = np.nextafter(r_N, 0)
    return cKDTree(side_ND).query_ball_point(side_ND, within_N, p=math.inf, return_length=True) - 1


def _multi_information(C_DD: np.ndarray) -> float:
    R_DD = _correlations(C_DD)
    eigenvalues_D = np.linalg.eigvalsh(R_DD)
    if eigenvalues_D[0] <= rounding(R_DD):
        return math.inf
    return max(0.0, to_bits(-0.5 * np.log(eigenvalues_D).sum()))


def _correlations(C_DD: np.ndarray) -> np.ndarray:
    """R with a diagonal of 1, also for a variable that does not vary: it is uncorrelated with all others."""
    scale_D = np.sqrt(np.diag(C_DD))
    scale_D = np.where(scale_D > 0, scale_D, 1)
    R_DD = C_DD / np.outer(scale_D, scale_D)
    np.fill_diagonal(R_DD, 1)
    return R_DD


def _conditional_covariance(C_DD: np.ndarray, of: list[int], given: list[int], floor: float) -> np.ndarray:
    """Σ_aa − Σ_ab Σ_bb⁺ Σ_ba."""
    W = _whitener(C_DD[np.ix_(given, given)], floor) if given else np.empty((0, 0))
    cross = C_DD[np.ix_(of, given)] @ W
    return C_DD[np.ix_(of, of)] - cross @ cross.T


def _whitener(C_DD: np.ndarray, floor: float) -> np.ndarray:
    """[D, rank]: columns w with wᵀ C w = 1, over the directions that vary."""
    eigenvalues_D, axes_DD = np.linalg.eigh(C_DD)
    varies = eigenvalues_D > floor
    return axes_DD[:, varies] / np.sqrt(eigenvalues_D[varies])
