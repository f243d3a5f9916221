"""Density matrices: von Neumann's entropy and its relatives, and the entropy of Gram matrices. Bits.

A density matrix ρ is Hermitian, has trace 1 and no eigenvalue below 0. Its entropy is Shannon's of its eigenvalues. One of two
systems A and B is an array [dA·dB, dA·dB] in the order of np.kron, with `dims` = (dA, dB).

Sources: NC: Nielsen and Chuang, Quantum Computation and Quantum Information, 2000, ch. 11; Umegaki 1962; Cerf and Adami 1997;
Sánchez Giraldo, Rao and Príncipe 2015 for Gram matrices.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from worker.information.distributions import LN2, TOLERANCE, not_below_zero
from worker.information.generalized import renyi_entropy
from worker.information.shannon import entropy

KERNEL = 1e-12


def density_matrix(rho: ArrayLike) -> np.ndarray:
    """A copy of ρ in fp64 or complex128. ValueError where it is not square, not finite, not Hermitian, of another trace than 1
    or with an eigenvalue below 0, each by more than rounding. Nothing is repaired.
    """
    rho = _square(rho)
    if np.abs(rho - rho.conj().T).max() > TOLERANCE:
        raise ValueError("a density matrix is Hermitian, this one differs from its conjugate transpose")
    trace = float(np.trace(rho).real)
    if abs(trace - 1) > TOLERANCE / 2:
        raise ValueError(f"a density matrix has trace 1, this one has {trace!r}: divide by it first, if that is meant")
    negative = _negative_mass(np.linalg.eigvalsh(rho))
    if negative > TOLERANCE / 2:
        raise ValueError(f"a density matrix has no eigenvalue below 0, those of this one that are sum to {-negative:.3g}")
    return rho


def von_neumann_entropy(rho: ArrayLike) -> float:
    """S(ρ) = −Tr ρ lg ρ, from 0 of a pure state to lg d of the maximally mixed one. NC §11.3."""
    return entropy(_spectrum(density_matrix(rho)))


def quantum_effective_rank(rho: ArrayLike) -> float:
    """2^S(ρ), from 1 to d: over how many directions ρ is spread. Roy and Vetterli 2007.

    Of K/n, K the kernel matrix of n samples, it is the Vendi score of Friedman and Dieng 2023.
    """
    return 2 ** von_neumann_entropy(rho)


def quantum_relative_entropy(rho: ArrayLike, sigma: ArrayLike) -> float:
    """S(ρ‖σ) = Tr ρ (lg ρ − lg σ) ≥ 0 (Klein), Shannon's for matrices that commute. NC §11.3.1.

    +inf where ρ reaches into the kernel of σ: where more than KERNEL of it lies on eigenvectors of σ whose eigenvalues are
    below KERNEL times the largest, which is what rounding leaves of a 0.
    """
    rho, sigma = density_matrix(rho), density_matrix(sigma)
    if rho.shape != sigma.shape:
        raise ValueError(f"ρ and σ must act on the same space, they are {rho.shape} and {sigma.shape}")
    values_D, vectors_DD = np.linalg.eigh(sigma)
    weights_D = np.einsum("ij,ik,kj->j", vectors_DD.conj(), rho, vectors_DD).real  # <v|ρ|v>
    kernel_D = values_D < KERNEL * values_D[-1]
    if weights_D[kernel_D].sum() > KERNEL:
        return math.inf
    cross = -float(weights_D[~kernel_D] @ np.log(values_D[~kernel_D])) / LN2
    return not_below_zero(cross - entropy(_spectrum(rho)))


def reversed_quantum_relative_entropy(rho: ArrayLike, sigma: ArrayLike) -> float:
    """S(σ‖ρ): of a checkpoint's ρ and the base model's σ, what the base had and the checkpoint lost."""
    return quantum_relative_entropy(sigma, rho)


def partial_trace(rho: ArrayLike, dims: Sequence[int], keep: int) -> np.ndarray:
    """The density matrix of one of the systems, the others traced out. NC §2.4.3."""
    rho = _square(rho)
    if math.prod(dims) != len(rho):
        raise ValueError(f"systems of dimensions {tuple(dims)} have {math.prod(dims)} together, the matrix has {len(rho)}")
    if not 0 <= keep < len(dims):
        raise ValueError(f"the systems are numbered 0 to {len(dims) - 1}, there is no {keep}")
    before, after = math.prod(dims[:keep]), math.prod(dims[keep + 1 :])
    return np.einsum("aibajb->ij", rho.reshape(before, dims[keep], after, before, dims[keep], after))


def quantum_conditional_entropy(rho: ArrayLike, dims: tuple[int, int]) -> float:
    """S(A|B) = S(AB) − S(B), from −lg dA to lg dA: negative only where A and B are entangled (a Bell pair: −1)."""
    return von_neumann_entropy(rho) - von_neumann_entropy(partial_trace(rho, dims, keep=1))


def quantum_mutual_information(rho: ArrayLike, dims: tuple[int, int]) -> float:
    """S(A) + S(B) − S(AB) ≥ 0, up to 2 lg min(dA, dB): twice what classical systems can share. NC §11.3.4."""
    A, B = (von_neumann_entropy(partial_trace(rho, dims, keep)) for keep in (0, 1))
    return not_below_zero(A + B - von_neumann_entropy(rho))


def matrix_based_entropy(gram_NN: ArrayLike, order: float = 1) -> float:
    """S_α(A) = (1/(1−α)) lg Tr A^α of A_ij = K_ij/(n √(K_ii K_jj)), K a Gram matrix: Rényi's entropy of its eigenvalues.

    From 0, where all n samples look alike to the kernel, to lg n. The division by K_ii is part of the definition.
    """
    return renyi_entropy(_spectrum(_normalized_gram(gram_NN)), order)


def matrix_based_joint_entropy(gram_X_NN: ArrayLike, gram_Y_NN: ArrayLike, order: float = 1) -> float:
    """S_α(A∘B / Tr A∘B), two kernels on the same n samples, ∘ the product by elements; at least S_α(A) and S_α(B)."""
    return renyi_entropy(_spectrum(_hadamard(gram_X_NN, gram_Y_NN)), order)


def matrix_based_conditional_entropy(gram_X_NN: ArrayLike, gram_Y_NN: ArrayLike, order: float = 1) -> float:
    """S_α(X|Y) = S_α(A∘B / Tr A∘B) − S_α(B) ≥ 0: what X, say one layer, tells samples apart by that Y does not."""
    joint = matrix_based_joint_entropy(gram_X_NN, gram_Y_NN, order)
    return not_below_zero(joint - matrix_based_entropy(gram_Y_NN, order))


def matrix_based_mutual_information(gram_X_NN: ArrayLike, gram_Y_NN: ArrayLike, order: float = 1) -> float:
    """S_α(A) + S_α(B) − S_α(A∘B / Tr A∘B); ≥ 0 at α = 1, where the entropy is subadditive."""
    separate = matrix_based_entropy(gram_X_NN, order) + matrix_based_entropy(gram_Y_NN, order)
    return separate - matrix_based_joint_entropy(gram_X_NN, gram_Y_NN, order)


def _square(matrix: ArrayLike) -> np.ndarray:
    matrix = np.asarray(matrix)
    matrix = matrix.astype(np.complex128 if np.iscomplexobj(matrix) else np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.size == 0:
        raise ValueError(f"the matrix must be square, it is {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise ValueError("the matrix has entries that are not finite numbers")
    return matrix


def _spectrum(rho: np.ndarray) -> np.ndarray:
    """The eigenvalues; what rounding took below 0 is 0, and the sum is as near to 1 as `probabilities` wants it."""
    return np.maximum(np.linalg.eigvalsh(rho), 0.0)


def _negative_mass(values: np.ndarray) -> float:
    return float(-np.minimum(values, 0.0).sum())


def _normalized_gram(gram_NN: ArrayLike) -> np.ndarray:
    gram_NN = _square(gram_NN)
    diagonal_N = np.diagonal(gram_NN).real
    if (diagonal_N <= 0).any():
        raise ValueError(
            f"the diagonal of a Gram matrix is positive, at {int(np.argmin(diagonal_N))} stands {float(diagonal_N.min())!r}"
        )
    root_N = np.sqrt(diagonal_N)
    return density_matrix(gram_NN / root_N[:, None] / root_N / len(gram_NN))


def _hadamard(gram_X_NN: ArrayLike, gram_Y_NN: ArrayLike) -> np.ndarray:
    A, B = _normalized_gram(gram_X_NN), _normalized_gram(gram_Y_NN)
    if A.shape != B.shape:
        raise ValueError(f"the two Gram matrices must be of the same samples, they are {A.shape} and {B.shape}")
    return A * B * len(A)  # Tr A∘B = n · 1/n²
