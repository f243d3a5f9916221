"""What an observer is left not knowing of a secret. Bits.

Sources: Shannon, Communication Theory of Secrecy Systems, 1949; Cover and Thomas, Elements of Information Theory, 2nd ed.
2006, §2.10; Carlini et al., The Secret Sharer, 2019.
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import xlogy

from worker.information.distributions import LN2, grouped, probabilities
from worker.information.shannon import conditional_entropy


def equivocation(joint_SO: ArrayLike) -> float:
    """H(S|O) = −Σ p(s,o) lg p(s|o) of a secret S (axis 0) from what is observed of it, O (axis 1). Shannon 1949 §12."""
    return conditional_entropy(grouped(joint_SO, 0, 1), given=1)


def message_equivocation(p_M: ArrayLike, p_K: ArrayLike, cipher_MK: ArrayLike) -> float:
    """H(M|C), messages and keys independent, cipher[m, k] the number of the cryptogram. H(M) is perfect secrecy."""
    return equivocation(_cryptograms(p_M, p_K, cipher_MK).sum(axis=1))


def key_equivocation(p_M: ArrayLike, p_K: ArrayLike, cipher_MK: ArrayLike) -> float:
    """H(K|C) = H(K) + H(M) − H(C) where each key can be undone; at least H(M|C). Shannon 1949 §13."""
    return equivocation(_cryptograms(p_M, p_K, cipher_MK).sum(axis=0))


def fano_bound(equivocation_bits: float, n_values: int) -> float:
    """The least error P of any guess of S from O: the P for which h(P) + P lg(n−1) = H(S|O), n the values S may have.

    ValueError where H(S|O) is above lg n, which no S with n values has. CT §2.10.
    """
    if n_values < 1 or not 0 <= equivocation_bits <= math.log2(n_values) + 1e-9:
        raise ValueError(f"{equivocation_bits} bits cannot be the equivocation of something with {n_values} values")

    def uncertainty(error: float) -> float:
        h = -(xlogy(error, error) + xlogy(1 - error, 1 - error)) / LN2
        return h + (error * math.log2(n_values - 1) if error else 0.0)

    worst = 1 - 1 / n_values  # a blind guess; the left side grows up to there, to lg n
    if equivocation_bits >= uncertainty(worst):
        return worst
    return float(brentq(lambda error: uncertainty(error) - equivocation_bits, 0.0, worst, xtol=1e-15))


def exposure(rank: int, n_candidates: int) -> float:
    """lg|R| − lg rank of a canary among the candidates R, the likeliest to the model having rank 1: from 0 to lg|R|.

    The bits by which the model shortens the search for it. Carlini et al. 2019 §4.
    """
    if not 1 <= rank <= n_candidates:
        raise ValueError(f"the rank lies between 1 and the number of candidates, {n_candidates}; here it is {rank}")
    return math.log2(n_candidates) - math.log2(rank)


def _cryptograms(p_M: ArrayLike, p_K: ArrayLike, cipher_MK: ArrayLike) -> np.ndarray:
    """[M, K, C]: all of P(m) P(k) at c = cipher[m, k]."""
    p_MK = np.multiply.outer(probabilities(p_M), probabilities(p_K))
    cipher_MK = np.asarray(cipher_MK)
    if cipher_MK.shape != p_MK.shape:
        raise ValueError(f"a cryptogram for each message and key is {p_MK.shape}, these are {cipher_MK.shape}")
    names, cryptogram_MK = np.unique(cipher_MK, return_inverse=True)
    return np.where(cryptogram_MK.reshape(p_MK.shape)[..., None] == np.arange(len(names)), p_MK[..., None], 0.0)
