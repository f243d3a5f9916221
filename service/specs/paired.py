"""How far two checkpoints are apart on the same documents, with an interval that clusters on them. In plain Python, for the
service, which has no numpy; `worker/information/intervals.py` is the same for what a worker compares, and a test holds the two
against each other.

Of ratios m = ΣS/Σn and k = ΣT/Σn the influence of document i on m − k is r_i = ((S_i − m n_i) − (T_i − k n_i)) / Σn, and the
standard error sqrt(D/(D−1) Σ r_i²). Source: linearised ratio estimator, Cochran, Sampling Techniques, 3rd ed. 1977, ch. 6.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

# What is a ratio of sums, by measure: the sum, what it is counted by, and the unit.
RATIOS: dict[str, tuple[str, str, str]] = {
    "cross_entropy": ("nll", "n_tokens", "bits/token"),
    "bits_per_byte": ("nll", "n_bytes", "bits/byte"),
    "entropy": ("entropy", "n_tokens", "bits/token"),
    "kl_from_base": ("kl_from_base", "n_tokens", "bits/token"),
    "kl_to_base": ("kl_to_base", "n_tokens", "bits/token"),
    "brier_score": ("brier_score", "n_tokens", "1"),
    "top_1_accuracy": ("first_choice", "n_tokens", "1"),
    "mean_reciprocal_rank": ("reciprocal_rank", "n_tokens", "1"),
}


@dataclass(frozen=True)
class Difference:
    value: float
    standard_error: float | None  # None of fewer than two documents
    interval: tuple[float, float] | None  # 95 %, of Student's t with D − 1 degrees of freedom
    n_documents: int


def difference(sums: Sequence[float], others: Sequence[float], counts: Sequence[int]) -> Difference:
    """ΣS/Σn − ΣT/Σn, of sums of the same documents. ValueError where nothing is counted."""
    total = sum(counts)
    if total == 0:
        raise ValueError("no document counts anything, so there is no difference")
    value, other = math.fsum(sums) / total, math.fsum(others) / total
    apart = value - other
    influences = [((s - t) - apart * n) / total for s, t, n in zip(sums, others, counts, strict=True)]
    documents = sum(n > 0 for n in counts)
    if documents < 2:
        return Difference(apart, None, None, documents)
    error = math.sqrt(documents / (documents - 1) * math.fsum(r * r for r in influences))
    half = student_975(documents - 1) * error
    return Difference(apart, error, (apart - half, apart + half), documents)


_FEW = (12.706205, 4.302653, 3.182446, 2.776445)  # of 1 to 4 degrees of freedom


def student_975(freedom: int) -> float:
    """The 97.5 % quantile of Student's t, to a thousandth: Abramowitz and Stegun 1964, 26.7.5."""
    if freedom <= len(_FEW):
        return _FEW[freedom - 1]
    z = 1.959963985
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / freedom**power for power, term in enumerate(terms, 1))
