"""How many directions are in use: dimensions of samples and of laws, and spectra of matrices and of series.

Shapes: N samples of D variables; S scales; F frequencies; R the rank that a factorisation allows. Entropies are in bits,
dimensions and ranks are pure numbers.

The dimensions differ where a law is spread unevenly: on the Cantor set with weights (.2, .8) the information dimension is
.4555, while the boxes, which count alike whatever they hold, grow with .6309.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree

from worker.information.distributions import LN2, occupation, plain_entropy, probabilities
from worker.information.samples import vectors


def information_dimension(probabilities_by_scale: Sequence[ArrayLike], scales_S: ArrayLike) -> float:
    """Slope of H([X]_ε) against lg(1/ε), by least squares: d = lim H([X]_ε) / lg(1/ε). Rényi 1959.

    Each entry holds the probabilities of the cells of one scale ε (`cell_probabilities` has them from samples).
    The notebook's formula, with lg N_ε for H, is `box_counting_dimension`.
    """
    return _slope([plain_entropy(probabilities(p)) for p in probabilities_by_scale], scales_S)


def box_counting_dimension(probabilities_by_scale: Sequence[ArrayLike], scales_S: ArrayLike) -> float:
    """Slope of lg N_ε against lg(1/ε), N_ε the cells with p > 0: the Minkowski dimension of the support. Falconer 2003, ch. 3."""
    return _slope([math.log2(np.count_nonzero(probabilities(p))) for p in probabilities_by_scale], scales_S)


def correlation_dimension(samples_ND: ArrayLike, radii_S: ArrayLike) -> float:
    """Slope of lg C(ε) against lg ε, C(ε) the share of pairs of samples within ε. Grassberger & Procaccia 1983.

    Radii must lie where lg C is straight: above the spacing of the samples, well below their extent.
    ValueError where no pair lies within one.
    """
    x_ND = vectors(samples_ND)
    radii_S = _scales(radii_S)
    tree = cKDTree(x_ND)
    pairs_S = (tree.count_neighbors(tree, radii_S) - len(x_ND)) / 2
    if (pairs_S == 0).any():
        raise ValueError(f"no two samples lie within {radii_S[pairs_S == 0].max():g}: take larger radii")
    return -_slope(np.log2(pairs_S), radii_S)


def twonn_dimension(samples_ND: ArrayLike, discard: float = 0.1) -> float:
    """Slope through 0 of −ln(1 − i/N) against ln μ_(i), μ = r₂/r₁ of the two nearest neighbours: intrinsic dimension.

    The largest `discard` of the ratios are left out, as in the paper; of samples that repeat one is kept.
    Source: Facco, d'Errico, Rodriguez & Laio 2017, Scientific Reports 7, 12140.
    """
    x_ND = np.unique(vectors(samples_ND), axis=0)
    N = len(x_ND)
    kept = min(math.floor(N * (1 - discard)), N - 1)  # the largest has an empirical survival of 0, so it never counts
    if not 0 <= discard < 1 or N < 3 or kept < 2:
        raise ValueError(f"with {N} different samples and a discard of {discard} there are too few ratios")
    distances_N3 = cKDTree(x_ND).query(x_ND, k=3)[0]
    log_ratio_N = np.sort(np.log(distances_N3[:, 2] / distances_N3[:, 1]))[:kept]
    survival_N = -np.log1p(-np.arange(1, kept + 1) / N)
    if not log_ratio_N.any():
        raise ValueError("every sample has its two nearest at one distance, as on a grid: there is no dimension to read off")
    return float(log_ratio_N @ survival_N / (log_ratio_N @ log_ratio_N))


def cell_probabilities(samples_ND: ArrayLike, scale: float) -> np.ndarray:
    """Shares of the samples in the occupied cells of the grid ⌊x/ε⌋, in no particular order: [X]_ε."""
    if not 0 < scale < math.inf:
        raise ValueError(f"a scale is positive and finite, not {scale}")
    x_ND = vectors(samples_ND)
    counts = np.unique(np.floor(x_ND / scale), axis=0, return_counts=True)[1]
    return counts / len(x_ND)


def power_spectrum(series_T: ArrayLike) -> np.ndarray:
    """|X_f|² at f = 1 … ⌊T/2⌋: one-sided, without the mean (f = 0). Each frequency counts once: an impulse is flat."""
    x_TD = vectors(series_T)
    if x_TD.shape[1] != 1 or len(x_TD) < 2:
        raise ValueError(f"a series is a flat array of at least 2 numbers, not of the shape {np.shape(series_T)}")
    x_T = x_TD[:, 0] - x_TD[0, 0]  # first, so that what does not vary is exactly 0
    return np.square(np.abs(np.fft.rfft(x_T - x_T.mean())[1:]))


def spectral_entropy(power_F: ArrayLike, normalized: bool = False) -> float:
    """−Σ P lg P bits with P = power / Σ power; normalized: over lg F, so that 0 is one frequency and 1 a flat spectrum.

    Of `power_spectrum(series)`: 0 for a sine on a bin, lg ⌊T/2⌋ for an impulse. ValueError where there is no power at all, as of
    a constant. Source: Inouye et al. 1991, Electroencephalography and Clinical Neurophysiology 79, 204–210.
    """
    P_F = occupation(power_F)
    if not normalized:
        return plain_entropy(P_F)
    if P_F.size < 2:
        raise ValueError("one frequency has no normalised entropy: it would be 0/0")
    return plain_entropy(P_F) / math.log2(P_F.size)


def effective_rank(singular_values_R: ArrayLike) -> float:
    """exp of the entropy (nats) of σ/Σσ: between 1 and the rank, and the rank where all σ > 0 are equal. Roy & Vetterli 2007."""
    return 2 ** plain_entropy(occupation(singular_values_R))


def spectral_participation_ratio(covariance_DD: ArrayLike, samples: int | None = None) -> float:
    """(tr C)²/‖C‖² = (Σλ)²/Σλ², without an eigensolve: between 1 and the rank. Bell & Dean 1970; Gao et al. 2017.

    A Gram matrix has the same value as the covariance, and is the smaller one where N < D. Of a sample covariance it cannot
    exceed N; `samples` = N corrects that to first order, 1/(1/PR − 1/N), +inf where PR reaches N.
    """
    C_DD = _symmetric(covariance_DD)
    trace, square = float(np.trace(C_DD)), float(np.square(C_DD).sum())
    if trace <= 0:
        raise ValueError("the trace is 0 or less: a covariance that does not vary has no participation ratio")
    inverse = square / trace**2
    if samples is None:
        return 1 / inverse
    if not samples >= 1:
        raise ValueError(f"samples must be at least 1, not {samples}")
    corrected = inverse - 1 / samples
    return 1 / corrected if corrected > 4 * np.finfo(np.float64).eps else math.inf


def matrix_entropy_bias(dimensions: int, samples: int) -> float:
    """−D/(2N ln 2) bits: what N ≥ D samples of D equal directions take from the entropy of their covariance's
    eigenvalues over its trace (lg of their `effective_rank`). Have N ≥ 10 D, or subtract this.

    E[λ ln λ] = D/(2N) of the Marchenko–Pastur law, so the limit of many dimensions. Page 1993, Physical Review Letters 71, 1291.
    """
    if not (dimensions >= 1 and samples >= 1):
        raise ValueError(f"there must be at least 1 dimension and 1 sample, not {dimensions} and {samples}")
    return -dimensions / (2 * samples * LN2)


def low_rank_singular_values(B_MR: ArrayLike, A_RN: ArrayLike, scale: float = 1.0) -> np.ndarray:
    """[R'] singular values of scale·B·A, largest first, R' = min(M, R, N): a LoRA update's, without making it.

    Those of R_B R_Aᵀ, from the QR factors of B and Aᵀ: O((M+N) R²) instead of O(M N min(M, N)). Golub & Van Loan 2013, §5.2.
    """
    B_MR, A_RN = np.asarray(B_MR, dtype=np.float64), np.asarray(A_RN, dtype=np.float64)
    if B_MR.ndim != 2 or A_RN.ndim != 2 or B_MR.shape[1] != A_RN.shape[0]:
        raise ValueError(f"factors of the shapes {B_MR.shape} and {A_RN.shape} have no product")
    R_B, R_A = np.linalg.qr(B_MR).R, np.linalg.qr(A_RN.T).R
    return abs(scale) * np.linalg.svd(R_B @ R_A.T, compute_uv=False)


def _slope(values_S: ArrayLike, scales_S: ArrayLike) -> float:
    """Of the values against lg(1/ε)."""
    values_S, scales_S = np.asarray(values_S), _scales(scales_S)
    if len(values_S) != len(scales_S):
        raise ValueError(f"{len(values_S)} partitions cannot go with {len(scales_S)} scales: there must be one of each")
    return float(np.polyfit(-np.log2(scales_S), values_S, 1)[0])


def _scales(scales_S: ArrayLike) -> np.ndarray:
    scales_S = np.asarray(scales_S, dtype=np.float64)
    if scales_S.ndim != 1 or len(np.unique(scales_S)) < 2 or not ((scales_S > 0) & np.isfinite(scales_S)).all():
        raise ValueError("a slope needs at least two different scales, positive and finite")
    return scales_S


def _symmetric(covariance_DD: ArrayLike) -> np.ndarray:
    """As `samples.covariance_matrix`, but without the eigensolve that proves it semidefinite: that is what is to be saved."""
    C_DD = np.atleast_2d(np.asarray(covariance_DD, dtype=np.float64))
    if C_DD.ndim != 2 or C_DD.shape[0] != C_DD.shape[1] or not np.isfinite(C_DD).all():
        raise ValueError(f"a covariance is a finite square matrix, this has the shape {np.shape(covariance_DD)}")
    if not np.allclose(C_DD, C_DD.T, rtol=1e-9, atol=1e-12 * np.abs(C_DD).max(initial=0)):
        raise ValueError("a covariance is symmetric, this is not")
    return C_DD
