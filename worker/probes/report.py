"""From sums by document to the rows that are kept: each measure with its interval, beside the base and the best checkpoint.

A row is a plain dict, ready for JSON. To add a measure that is made of the sums: one small function and one line in MEASURES.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from worker.information.intervals import Estimate, difference, interval, ratio, standard_error, transform, why_no_interval
from worker.probes.token import DocumentSums

ESTIMATOR = "ratio of sums over documents; Student t, clustered by document"

Row = dict[str, Any]


def report(checkpoints: dict[int, DocumentSums], base: DocumentSums) -> list[Row]:
    """Rows of the base (global_step None), then of each checkpoint by step; all on the same documents.

    A divergence that could not be had (another vocabulary) has no row.
    """
    best = best_checkpoint(checkpoints)
    rows = _rows(None, base, base, checkpoints, best)
    for step in sorted(checkpoints):
        rows += _rows(step, checkpoints[step], base, checkpoints, best)
    return rows


def best_checkpoint(checkpoints: dict[int, DocumentSums]) -> int | None:
    """The step of lowest cross-entropy, the earliest of equals; neither the base nor a checkpoint that diverged takes part.

    Of a reward model that of the preferences: as a language model it is no better or worse at what it is for.
    """
    bits = {step: _learned(checkpoints[step]).value for step in sorted(checkpoints)}
    return min((step for step in bits if math.isfinite(bits[step])), key=bits.__getitem__, default=None)


def _learned(sums: DocumentSums) -> Estimate:
    return preference_cross_entropy(sums) or cross_entropy(sums)


def _rows(
    step: int | None, sums: DocumentSums, base: DocumentSums, checkpoints: dict[int, DocumentSums], best: int | None
) -> list[Row]:
    """One row a measure. Nothing is compared with itself, and a divergence, being from the base already, not with the base."""
    rows = []
    for measure, (estimate_of, unit) in MEASURES.items():
        estimate = estimate_of(sums)
        if estimate is None:
            continue
        row: Row = {"global_step": step, "measure": measure, "unit": unit} | _numbers(estimate)
        row |= {
            "interval_reason": why_no_interval(estimate),
            "n_documents": estimate.n_documents,
            "n_tokens": sum(sums.n_tokens),
            "estimator": ESTIMATOR,
            "versus_base": None,
            "versus_best": None,
        }
        if step is not None and measure not in DIVERGENCES:
            row["versus_base"] = _versus(estimate, estimate_of(base))
        if best is not None and step != best:
            versus_best = _versus(estimate, estimate_of(checkpoints[best]))
            row["versus_best"] = versus_best and versus_best | {"global_step": best}
        rows.append(row)
    return rows


def _versus(estimate: Estimate, other: Estimate | None) -> Row | None:
    """How much more than the other, paired on the documents."""
    return None if other is None else _numbers(difference(estimate, other))


def _numbers(estimate: Estimate) -> Row:
    ends = interval(estimate)
    return {
        "value": estimate.value if math.isfinite(estimate.value) else None,  # JSON has no nan
        "standard_error": standard_error(estimate),
        "interval": None if ends is None else list(ends),
    }


# -- the measures ------------------------------------------------------------------------------------------------------


def cross_entropy(sums: DocumentSums) -> Estimate:
    """Σ −lg p(y) / tokens. Cover and Thomas 2006, §2.3 and §5.4; token-weighted, not a mean of documents."""
    return _per_token(sums, sums.nll)


def perplexity(sums: DocumentSums) -> Estimate:
    """2^cross-entropy, of the corpus (not a mean of perplexities). Jelinek et al. 1977."""
    return transform(cross_entropy(sums), _two_to_the, lambda bits: math.log(2) * _two_to_the(bits))


def bits_per_byte(sums: DocumentSums) -> Estimate | None:
    """Σ −lg p(y) / UTF-8 bytes of the scored text: comparable across tokenizers. None where no bytes were counted."""
    return ratio(np.array(sums.nll), np.array(sums.n_bytes)) if any(sums.n_bytes) else None


def entropy(sums: DocumentSums) -> Estimate:
    """Σ H(p) / tokens: the model's own uncertainty about the next token. Shannon 1948."""
    return _per_token(sums, sums.entropy)


def kl_from_base(sums: DocumentSums) -> Estimate | None:
    """Σ D(base‖model) / tokens, whole vocabulary. Kullback and Leibler 1951; as a predictor of forgetting: arXiv 2509.04259."""
    return None if sums.kl_from_base is None else _per_token(sums, sums.kl_from_base)


def kl_to_base(sums: DocumentSums) -> Estimate | None:
    """Σ D(model‖base) / tokens, whole vocabulary. Kullback and Leibler 1951."""
    return None if sums.kl_to_base is None else _per_token(sums, sums.kl_to_base)


def preference_cross_entropy(sums: DocumentSums) -> Estimate | None:
    """Σ −lg σ(s_chosen − s_rejected) / pairs: 1 bit for a coin. Bradley and Terry 1952; arXiv 2203.02155 §3.5."""
    return _per_pair(sums.pair_nll)


def reward_accuracy(sums: DocumentSums) -> Estimate | None:
    """The share of pairs whose chosen answer has strictly the higher score."""
    return _per_pair(sums.pairs_won)


def reward_margin(sums: DocumentSums) -> Estimate | None:
    """Σ (s_chosen − s_rejected) / pairs: log-odds of the preference."""
    chosen, rejected = sums.chosen_score, sums.rejected_score
    return None if chosen is None or rejected is None else _per_pair([c - r for c, r in zip(chosen, rejected, strict=True)])


def chosen_reward(sums: DocumentSums) -> Estimate | None:
    return _per_pair(sums.chosen_score)


def rejected_reward(sums: DocumentSums) -> Estimate | None:
    return _per_pair(sums.rejected_score)


def _per_pair(values_D: Sequence[float] | None) -> Estimate | None:
    return None if values_D is None else ratio(np.array(values_D), np.ones(len(values_D)))


def _per_token(sums: DocumentSums, bits_D: list[float]) -> Estimate:
    return ratio(np.array(bits_D), np.array(sums.n_tokens))


def _two_to_the(bits: float) -> float:
    return math.inf if bits >= 1024 else 2.0**bits  # Python raises where a float ends


# name -> how it is estimated, unit
MEASURES: dict[str, tuple[Callable[[DocumentSums], Estimate | None], str]] = {
    "cross_entropy": (cross_entropy, "bits/token"),
    "perplexity": (perplexity, "1"),
    "bits_per_byte": (bits_per_byte, "bits/byte"),
    "entropy": (entropy, "bits/token"),
    "kl_from_base": (kl_from_base, "bits/token"),
    "kl_to_base": (kl_to_base, "bits/token"),
    "preference_cross_entropy": (preference_cross_entropy, "bits/pair"),
    "reward_accuracy": (reward_accuracy, "1"),
    "reward_margin": (reward_margin, "nats"),
    "chosen_reward": (chosen_reward, "nats"),
    "rejected_reward": (rejected_reward, "nats"),
}
DIVERGENCES = ("kl_from_base", "kl_to_base")
