"""Samples of real vectors and their covariances, as the measures of continuous variables take them.

Shapes: N samples of D variables.
"""

import numpy as np
from numpy.typing import ArrayLike


def vectors(samples_ND: ArrayLike) -> np.ndarray:
    """float64 [N, D]; a flat array is N samples of one variable. ValueError where a value is not finite or there is none."""
    x_ND = np.asarray(samples_ND, dtype=np.float64)
    if x_ND.ndim == 1:
        x_ND = x_ND[:, None]
    if x_ND.ndim != 2 or x_ND.size == 0:
        raise ValueError(f"samples must be N vectors of D numbers, not an array of the shape {np.shape(samples_ND)}")
    if not np.isfinite(x_ND).all():
        row, column = np.argwhere(~np.isfinite(x_ND))[0]
        raise ValueError(f"sample {row}, variable {column} is {x_ND[row, column]}: samples must be finite")
    return x_ND


def covariance_matrix(covariance_DD: ArrayLike) -> np.ndarray:
    """float64 [D, D]; a number is the variance of one variable. ValueError unless symmetric and positive semidefinite."""
    C_DD = np.atleast_2d(np.asarray(covariance_DD, dtype=np.float64))
    if C_DD.ndim != 2 or C_DD.shape[0] != C_DD.shape[1] or C_DD.size == 0:
        raise ValueError(f"a covariance is a square matrix, this has the shape {np.shape(covariance_DD)}")
    if not np.isfinite(C_DD).all():
        raise ValueError("a covariance must be finite")
    if not np.allclose(C_DD, C_DD.T, rtol=1e-9, atol=1e-12 * np.abs(C_DD).max()):
        raise ValueError("a covariance is symmetric, this is not")
    eigenvalues_D = np.linalg.eigvalsh(C_DD)
    if eigenvalues_D[0] < -rounding(C_DD):
        raise ValueError(f"a covariance has no negative eigenvalue, this has {eigenvalues_D[0]:.3g}")
    return C_DD


def rounding(matrix_DD: np.ndarray) -> float:
    """What an eigenvalue of 0 may come out as."""
    return float(len(matrix_DD) * np.finfo(np.float64).eps * np.linalg.norm(matrix_DD) * 4)


def sample_covariance(samples_ND: ArrayLike) -> np.ndarray:
    """Σ (x − x̄)(x − x̄)ᵀ / N, the maximum likelihood estimate [D, D]."""
    x_ND = vectors(samples_ND)
    x_ND = x_ND - x_ND.mean(axis=0)
    return x_ND.T @ x_ND / len(x_ND)


def shrunk_covariance(samples_ND: ArrayLike) -> tuple[np.ndarray, float]:
    """(1−λ) S + λ (tr S / D) I and λ in [0, 1], the weight that minimises the expected squared Frobenius error.

    S = `sample_covariance`, λ = min(b², d²)/d² with d² = ‖S − (tr S/D) I‖² and b² = Σ ‖x xᵀ − S‖² / N² over centred x.
    Positive definite for N < D too, unless the samples do not vary at all.
    Source: Ledoit & Wolf 2004, Journal of Multivariate Analysis 88, 365–411, §3.
    """
    x_ND = vectors(samples_ND)
    N, D = x_ND.shape
    S_DD = sample_covariance(x_ND)
    target_DD = np.trace(S_DD) / D * np.eye(D)
    apart = float(np.square(S_DD - target_DD).sum())
    if apart == 0:
        return S_DD, 1.0
    lengths_N = np.square(x_ND - x_ND.mean(axis=0)).sum(axis=1)
    # Σ ‖x xᵀ − S‖² = Σ ‖x‖⁴ − N ‖S‖², since Σ x xᵀ = N S
    noise = float(np.square(lengths_N).sum() - N * np.square(S_DD).sum()) / N**2
    shrinkage = min(noise, apart) / apart
    return (1 - shrinkage) * S_DD + shrinkage * target_DD, shrinkage
