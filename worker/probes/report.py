"""From sums by document to the rows that are kept: each measure with its interval, beside the base and the best checkpoint.

A row is a plain dict, ready for JSON. To add a measure that is made of the sums: one small function and one line in MEASURES.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from service.specs.measures import BY_NAME as CATALOGUED
from service.specs.ranking import Candidate, ranked
from worker.information.intervals import Estimate, difference, interval, ratio, standard_error, transform, why_no_interval
from worker.probes.token import DocumentSums

ESTIMATOR = "ratio of sums over documents; Student t, clustered by document"

Row = dict[str, Any]


def report(checkpoints: dict[int, DocumentSums], base: DocumentSums) -> list[Row]:
    """Rows of the base (global_step None), then of each checkpoint by step; all on the same documents.

    A divergence that could not be had (another vocabulary) has no row.
    """
    best, leaders = best_checkpoint(checkpoints), leading_checkpoints(checkpoints)
    rows = _rows(None, base, base, checkpoints, best, leaders)
    for step in sorted(checkpoints):
        rows += _rows(step, checkpoints[step], base, checkpoints, best, leaders)
    return rows


def chosen_checkpoint(checkpoints: dict[int, DocumentSums]) -> int | None:
    """The earliest whose cross-entropy is within one standard error of the best; None where none is a number."""
    best = best_checkpoint(checkpoints)
    if best is None:
        return None
    candidates = []
    for step, sums in checkpoints.items():
        estimate = cross_entropy(sums)
        if math.isfinite(estimate.value):
            versus = None if step == best else _versus(estimate, cross_entropy(checkpoints[best]))
            candidates.append(Candidate(step, estimate.value, versus))
    return ranked(candidates, "lower")[0].global_step


def leading_checkpoints(checkpoints: dict[int, DocumentSums]) -> dict[str, int]:
    """By measure, the step of its own best value, the earliest of equals; no entry where neither direction is better."""
    leaders: dict[str, int] = {}
    for measure, (estimate_of, _) in MEASURES.items():
        better = CATALOGUED[measure].better
        estimates = {step: estimate_of(checkpoints[step]) for step in sorted(checkpoints)} if better else {}
        values = {step: it.value for step, it in estimates.items() if it is not None and math.isfinite(it.value)}
        if values:
            leaders[measure] = (min if better == "lower" else max)(values, key=values.__getitem__)
    return leaders


def best_checkpoint(checkpoints: dict[int, DocumentSums]) -> int | None:
    """The step of lowest cross-entropy, the earliest of equals; neither the base nor a checkpoint that diverged takes part."""
    bits = {step: cross_entropy(checkpoints[step]).value for step in sorted(checkpoints)}
    return min((step for step in bits if math.isfinite(bits[step])), key=bits.__getitem__, default=None)


def _rows(
    step: int | None,
    sums: DocumentSums,
    base: DocumentSums,
    checkpoints: dict[int, DocumentSums],
    best: int | None,
    leaders: dict[str, int],
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
            "versus_leader": None,
        }
        if step is not None and measure not in DIVERGENCES:
            row["versus_base"] = _versus(estimate, estimate_of(base))
        if best is not None and step != best:
            versus_best = _versus(estimate, estimate_of(checkpoints[best]))
            row["versus_best"] = versus_best and versus_best | {"global_step": best}
        leader = leaders.get(measure)
        if step is not None and leader is not None and step != leader:
            versus_leader = _versus(estimate, estimate_of(checkpoints[leader]))
            row["versus_leader"] = versus_leader and versus_leader | {"global_step": leader}
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
}
DIVERGENCES = ("kl_from_base", "kl_to_base")
