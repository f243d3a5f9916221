"""From sums by document, and from findings, to the rows that are kept: each measure with its interval, beside the base and the
best checkpoint.

A row is a plain dict, ready for JSON. To add a measure that is made of the sums: one small function and one line in MEASURES.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from service.specs.measures import BY_NAME, KNOWN, measure_of
from service.specs.ranking import Better, Candidate, ranked
from worker.information.intervals import Estimate, difference, interval, ratio, standard_error, transform, why_no_interval
from worker.probes.finding import Finding, Findings
from worker.probes.token import DocumentSums

ESTIMATOR = "ratio of sums over documents; Student t, clustered by document"

Row = dict[str, Any]


def report(checkpoints: dict[int, DocumentSums], base: DocumentSums, text_base: DocumentSums | None = None) -> list[Row]:
    """Rows of the base (global_step None), then of each checkpoint by step; all on the same documents.

    A divergence that could not be had (another vocabulary) has no row. `text_base` is of a base with other tokens: OF_WHOLE_TEXTS
    are compared with that one, and all others with `base`.
    """
    best, leaders = best_checkpoint(checkpoints), leading_checkpoints(checkpoints)
    bases = dict.fromkeys(MEASURES, base) | (dict.fromkeys(OF_WHOLE_TEXTS, text_base) if text_base is not None else {})
    rows = _rows(None, base, bases, checkpoints, best, leaders)
    for step in sorted(checkpoints):
        rows += _rows(step, checkpoints[step], bases, checkpoints, best, leaders)
    return rows


def chosen_checkpoint(checkpoints: dict[int, DocumentSums]) -> int | None:
    """The earliest whose cross-entropy (a reward model's: of preferences) is within one standard error of the best."""
    best = best_checkpoint(checkpoints)
    if best is None:
        return None
    candidates = []
    for step, sums in checkpoints.items():
        estimate = _learned(sums)
        if math.isfinite(estimate.value):
            versus = None if step == best else _numbers(difference(estimate, _learned(checkpoints[best])))
            candidates.append(Candidate(step, estimate.value, versus))
    return ranked(candidates, "lower")[0].global_step


def leading_checkpoints(checkpoints: dict[int, DocumentSums]) -> dict[str, int]:
    """By measure, the step of its own best value, the earliest of equals; no entry where neither direction is better."""
    leaders: dict[str, int] = {}
    for measure, (estimate_of, _) in MEASURES.items():
        better = BY_NAME[measure].better
        estimates = {step: estimate_of(checkpoints[step]) for step in sorted(checkpoints)} if better else {}
        values = {step: it.value for step, it in estimates.items() if it is not None and math.isfinite(it.value)}
        if (leader := _leader(values, better)) is not None:
            leaders[measure] = leader
    return leaders


def report_findings(findings: dict[int | None, Findings], best: int | None) -> list[Row]:
    """Rows of the base (None) and of each checkpoint, by step. A name may end in :place, its measure stands before."""
    base, leaders = findings.get(None, {}), _leading_findings(findings)
    rows = []
    for step in sorted(findings, key=lambda step: -1 if step is None else step):
        for name, finding in findings[step].items():
            row: Row = {"global_step": step, "measure": name, "unit": KNOWN[measure_of(name)].unit} | _numbers(finding.estimate)
            if finding.bounds is not None:
                row["interval"] = list(finding.bounds)
            row |= {
                "interval_reason": finding.why_no_interval,
                "n_documents": finding.n_documents,
                "n_tokens": finding.estimate.n_tokens,
                "estimator": finding.estimator,
                "versus_base": None,
                "versus_best": None,
                "versus_leader": None,
            }
            if step is not None and name in base and measure_of(name) not in FROM_THE_BASE:
                row["versus_base"] = _between(finding, base[name])
            if best is not None and step != best and name in findings.get(best, {}):
                row["versus_best"] = _between(finding, findings[best][name]) | {"global_step": best}
            leader = leaders.get(name)
            if step is not None and leader is not None and step != leader:
                row["versus_leader"] = _between(finding, findings[leader][name]) | {"global_step": leader}
            rows.append(row)
    return rows


def _leading_findings(findings: dict[int | None, Findings]) -> dict[str, int]:
    """As `leading_checkpoints`, by the name of each finding."""
    values: dict[str, dict[int, float]] = {}
    for step in sorted(step for step in findings if step is not None):
        for name, finding in findings[step].items():
            if math.isfinite(finding.estimate.value):
                values.setdefault(name, {})[step] = finding.estimate.value
    found = {name: _leader(of_steps, KNOWN[measure_of(name)].better) for name, of_steps in values.items()}
    return {name: leader for name, leader in found.items() if leader is not None}


def _leader(values: dict[int, float], better: Better | None) -> int | None:
    """Of values by step, the earliest first."""
    if better is None or not values:
        return None
    return (min if better == "lower" else max)(values, key=values.__getitem__)


def _between(finding: Finding, other: Finding) -> Row:
    """How much more than the other; with an error only where both have one of the same documents."""
    return _apart(finding.estimate, other.estimate)


def _apart(a: Estimate, b: Estimate) -> Row:
    if len(a.influence_D) == len(b.influence_D) and (a.n_documents, a.n_tokens) == (b.n_documents, b.n_tokens):
        return _numbers(difference(a, b))
    return _numbers(Estimate(a.value - b.value, np.empty(0), 0, a.n_tokens))


def best_checkpoint(checkpoints: dict[int, DocumentSums]) -> int | None:
    """The step of lowest cross-entropy, the earliest of equals; neither the base nor a checkpoint that diverged takes part.

    Of a reward model that of the preferences: as a language model it is no better or worse at what it is for.
    """
    bits = {step: _learned(checkpoints[step]).value for step in sorted(checkpoints)}
    return min((step for step in bits if math.isfinite(bits[step])), key=bits.__getitem__, default=None)


def _learned(sums: DocumentSums) -> Estimate:
    return preference_cross_entropy(sums) or cross_entropy(sums)


def _rows(
    step: int | None,
    sums: DocumentSums,
    bases: dict[str, DocumentSums],
    checkpoints: dict[int, DocumentSums],
    best: int | None,
    leaders: dict[str, int],
) -> list[Row]:
    """One row a measure. Nothing is compared with itself, and a divergence, being from the base already, not with the base."""
    rows = []
    for measure, (estimate_of, unit) in MEASURES.items():
        measured = bases[measure] if step is None else sums
        estimate = estimate_of(measured)
        if estimate is None:
            continue
        row: Row = {"global_step": step, "measure": measure, "unit": unit} | _numbers(estimate)
        row |= {
            "interval_reason": _why_no_temperature(measure, estimate, sums) or why_no_interval(estimate),
            "n_documents": estimate.n_documents,
            "n_tokens": sum(measured.n_tokens),
            "estimator": ESTIMATOR + _beside(measure, measured),
            "versus_base": None,
            "versus_best": None,
            "versus_leader": None,
        }
        if step is not None and measure not in DIVERGENCES:
            row["versus_base"] = _versus(measure, estimate, estimate_of(bases[measure]))
        if best is not None and step != best:
            versus_best = _versus(measure, estimate, estimate_of(checkpoints[best]))
            row["versus_best"] = versus_best and versus_best | {"global_step": best}
        leader = leaders.get(measure)
        if step is not None and leader is not None and step != leader:
            versus_leader = _versus(measure, estimate, estimate_of(checkpoints[leader]))
            row["versus_leader"] = versus_leader and versus_leader | {"global_step": leader}
        rows.append(row)
    return rows


def _why_no_temperature(measure: str, estimate: Estimate, sums: DocumentSums) -> str | None:
    """A model may be so over-confident that a first-order step finds nothing, and has not diverged."""
    if measure != "calibrated_temperature" or math.isfinite(estimate.value) or not np.isfinite(sums.nll).all():
        return None
    return "One Newton step leads to no temperature above 0: the model is too over-confident, or certain of everything."


def _beside(measure: str, sums: DocumentSums) -> str:
    """What is told beside an interval: the Cramér–Rao bound of the inverse temperature, sd(β̂) ≥ 1/√(n E Var z)."""
    if measure != "calibrated_temperature" or not sums.varentropy:
        return ""
    information = math.log(2) ** 2 * sum(sums.varentropy)
    return f"; one Newton step, Cramér–Rao bound {information**-0.5:.3g} of 1/T" if information > 0 else ""


def _versus(measure: str, estimate: Estimate, other: Estimate | None) -> Row | None:
    """How much more than the other, paired on the documents. Of whole texts alone the other may have cut them elsewhere, having
    other tokens, and then there is no error.
    """
    if other is None:
        return None
    return _apart(estimate, other) if measure in OF_WHOLE_TEXTS else _numbers(difference(estimate, other))


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
    return _mean(sums, sums.nll)


def perplexity(sums: DocumentSums) -> Estimate:
    """2^cross-entropy, of the corpus (not a mean of perplexities). Jelinek et al. 1977."""
    return _two_to(cross_entropy(sums))


def bits_per_byte(sums: DocumentSums) -> Estimate | None:
    """Σ −lg p(y) / UTF-8 bytes of the scored text: comparable across tokenizers. None where no bytes were counted."""
    return ratio(np.array(sums.nll), np.array(sums.n_bytes)) if any(sums.n_bytes) else None


def byte_perplexity(sums: DocumentSums) -> Estimate | None:
    """2^(bits per byte), as lm-evaluation-harness has it: exp(−Σ ln p / Σ bytes). None where no bytes were counted."""
    return _two_to(bits_per_byte(sums))


def word_perplexity(sums: DocumentSums) -> Estimate | None:
    """2^(Σ −lg p / Σ words), as lm-evaluation-harness has it; words are what white space divides. None where none was counted."""
    return _two_to(ratio(np.array(sums.nll), np.array(sums.n_words))) if any(sums.n_words or ()) else None


def entropy(sums: DocumentSums) -> Estimate:
    """Σ H(p) / tokens: the model's own uncertainty about the next token. Shannon 1948."""
    return _mean(sums, sums.entropy)


def gibbs_entropy(sums: DocumentSums) -> Estimate:
    """ln 2 · H: the entropy of the softmax as a canonical ensemble at T = 1, k = 1. Gibbs 1902."""
    return _times(entropy(sums), math.log(2))


def normalized_entropy(sums: DocumentSums) -> Estimate | None:
    """H / lg V. Pielou 1966."""
    return _of_all(sums, sums.most_entropy, lambda most: _times(entropy(sums), 1 / most))


def negentropy_from_uniform(sums: DocumentSums) -> Estimate | None:
    """lg V − H = D(p‖uniform). Cover and Thomas 2006, §2.6."""
    return _of_all(sums, sums.most_entropy, lambda most: transform(entropy(sums), lambda bits: most - bits, lambda _: -1.0))


def calibration_gap(sums: DocumentSums) -> Estimate:
    """(Σ −lg p(y) − Σ H(p)) / tokens: > 0 is over-confidence. Braverman et al. 2020."""
    return difference(cross_entropy(sums), entropy(sums))


def calibrated_temperature(sums: DocumentSums) -> Estimate | None:
    """T = 1/(1 + Δβ), Δβ = Σ (H − NLL) ln 2 / Σ varentropy ln² 2, one Newton step. Guo et al. 2017. nan where T would be < 0."""
    if sums.varentropy is None:
        return None
    step = _quotient(np.subtract(sums.entropy, sums.nll), math.log(2) * np.array(sums.varentropy), np.array(sums.n_tokens))
    if not step.value > -1:
        return transform(step, lambda _: math.nan, lambda _: math.nan)
    return transform(step, lambda more: 1 / (1 + more), lambda more: -1 / (1 + more) ** 2)


def varentropy(sums: DocumentSums) -> Estimate | None:
    """Σ Var_p[−lg p] / tokens, bits². Kontoyiannis and Verdú 2014."""
    return _mean(sums, sums.varentropy)


def temperature_fisher_information(sums: DocumentSums) -> Estimate | None:
    """Σ Var_p(z) / tokens, nats²: what a token tells of the inverse temperature. Lehmann and Casella 1998, §2.5."""
    return _times(varentropy(sums), math.log(2) ** 2)


def collision_entropy(sums: DocumentSums) -> Estimate | None:
    """Σ −lg Σp² / tokens. Rényi 1961."""
    return _mean(sums, sums.renyi_entropy_2)


def min_entropy(sums: DocumentSums) -> Estimate | None:
    """Σ −lg max p / tokens. Rényi 1961."""
    return _mean(sums, sums.min_entropy)


def conditional_renyi_entropy(sums: DocumentSums) -> Estimate | None:
    """−lg E[max p], Arimoto's of order ∞ of the next token given those before: 2 to minus it is the accuracy expected."""
    top = _mean(sums, sums.top_probability)
    return top and transform(top, _minus_lg, lambda p: -1 / (math.log(2) * p))


def tsallis_entropy(sums: DocumentSums) -> Estimate | None:
    """Σ (1 − Σp²) / tokens, of order 2. Tsallis 1988."""
    return _mean(sums, sums.tsallis_entropy_2)


def havrda_charvat_entropy(sums: DocumentSums) -> Estimate | None:
    """2 Σ (1 − Σp²) / tokens, of order 2, in which a fair coin has 1. Havrda and Charvát 1967."""
    return _times(tsallis_entropy(sums), 2)


def brier_score(sums: DocumentSums) -> Estimate | None:
    """Σ_t Σ_v (p(v) − [v = y])² / tokens. Brier 1950."""
    return _mean(sums, sums.brier_score)


def top_1_accuracy(sums: DocumentSums) -> Estimate | None:
    """The share of targets that no token is likelier than."""
    return _mean(sums, sums.first_choice)


def mean_reciprocal_rank(sums: DocumentSums) -> Estimate | None:
    """Σ 1/(1 + rank) / tokens. Voorhees 1999."""
    return _mean(sums, sums.reciprocal_rank)


def mass_above_target(sums: DocumentSums) -> Estimate | None:
    """Σ p(likelier than y) / tokens. Holtzman et al. 2020."""
    return _mean(sums, sums.mass_above_target)


def kl_from_base(sums: DocumentSums) -> Estimate | None:
    """Σ D(base‖model) / tokens, whole vocabulary. Kullback and Leibler 1951; as a predictor of forgetting: arXiv 2509.04259."""
    return _mean(sums, sums.kl_from_base)


def kl_to_base(sums: DocumentSums) -> Estimate | None:
    """Σ D(model‖base) / tokens, whole vocabulary. Kullback and Leibler 1951."""
    return _mean(sums, sums.kl_to_base)


def bhattacharyya_coefficient(sums: DocumentSums) -> Estimate | None:
    """Σ_t Σ_v √(p q) / tokens. Bhattacharyya 1943."""
    return _mean(sums, sums.bhattacharyya_coefficient)


def renyi_divergence(sums: DocumentSums) -> Estimate | None:
    """Σ D_2(model‖base) / tokens, of order 2: 2^−D_2 is the share of base samples that count. Rényi 1961."""
    return _mean(sums, sums.renyi_divergence_2)


def total_variation(sums: DocumentSums) -> Estimate | None:
    """Σ ½Σ|p − q| / tokens: 1 less the acceptance of a draft by the base. Leviathan et al. 2023."""
    return _mean(sums, sums.total_variation)


def jensen_shannon_divergence(sums: DocumentSums) -> Estimate | None:
    """Σ JS(p, q) / tokens. Lin 1991."""
    return _mean(sums, sums.jensen_shannon)


def arithmetic_code_bits(sums: DocumentSums) -> Estimate:
    """⌈Σ −lg p⌉ + 1 bits a document, the mean. Cover and Thomas 2006, §13.3. A document with nothing scored is none."""
    scored_D = np.array(sums.n_tokens) > 0
    bits_D = np.where(scored_D, np.ceil(np.array(sums.nll) - CODE_ROUNDING) + 1, 0.0)
    estimate = ratio(bits_D, scored_D.astype(np.int64))
    return Estimate(estimate.value, estimate.influence_D, estimate.n_documents, sum(sums.n_tokens))


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


def _mean(sums: DocumentSums, values_D: list[float] | None) -> Any:
    """Over tokens. None where the statistic was not taken."""
    return None if values_D is None else ratio(np.array(values_D), np.array(sums.n_tokens))


def _two_to(estimate: Estimate | None) -> Any:
    return estimate and transform(estimate, _two_to_the, lambda bits: math.log(2) * _two_to_the(bits))


def _times(estimate: Estimate | None, factor: float) -> Any:
    return estimate and transform(estimate, lambda value: factor * value, lambda _: factor)


def _of_all(sums: DocumentSums, values_D: list[float] | None, made: Callable[[float], Estimate]) -> Estimate | None:
    """Made of a mean that is the same for every document, and so has no error."""
    return None if values_D is None else made(sum(values_D) / sum(sums.n_tokens))


def _quotient(sums_D: np.ndarray, weights_D: np.ndarray, n_tokens_D: np.ndarray) -> Estimate:
    """Σ S / Σ w, as `ratio`, of weights that are no counts. nan where they are all 0."""
    total = float(weights_D.sum())
    value = float(sums_D.sum()) / total if total else math.nan
    with np.errstate(invalid="ignore"):
        influence_D = (sums_D - value * weights_D) / (total or math.nan)
    return Estimate(value, influence_D, int((n_tokens_D > 0).sum()), int(n_tokens_D.sum()))


def _two_to_the(bits: float) -> float:
    return math.inf if bits >= 1024 else 2.0**bits  # Python raises where a float ends


def _minus_lg(p: float) -> float:
    return -math.log2(p) if p > 0 else math.nan


CODE_ROUNDING = 1e-6  # what fp32 losses add up to beside a whole number of bits
# name -> how it is estimated, unit
MEASURES: dict[str, tuple[Callable[[DocumentSums], Estimate | None], str]] = {
    "cross_entropy": (cross_entropy, "bits/token"),
    "perplexity": (perplexity, "1"),
    "bits_per_byte": (bits_per_byte, "bits/byte"),
    "byte_perplexity": (byte_perplexity, "1"),
    "word_perplexity": (word_perplexity, "1"),
    "entropy": (entropy, "bits/token"),
    "kl_from_base": (kl_from_base, "bits/token"),
    "kl_to_base": (kl_to_base, "bits/token"),
    "normalized_entropy": (normalized_entropy, "1"),
    "negentropy_from_uniform": (negentropy_from_uniform, "bits"),
    "gibbs_entropy": (gibbs_entropy, "nats"),
    "calibration_gap": (calibration_gap, "bits/token"),
    "calibrated_temperature": (calibrated_temperature, "1"),
    "varentropy": (varentropy, "bits²"),
    "temperature_fisher_information": (temperature_fisher_information, "nats²/token"),
    "collision_entropy": (collision_entropy, "bits"),
    "min_entropy": (min_entropy, "bits"),
    "conditional_renyi_entropy": (conditional_renyi_entropy, "bits"),
    "tsallis_entropy": (tsallis_entropy, "1"),
    "havrda_charvat_entropy": (havrda_charvat_entropy, "bits"),
    "brier_score": (brier_score, "1"),
    "top_1_accuracy": (top_1_accuracy, "1"),
    "mean_reciprocal_rank": (mean_reciprocal_rank, "1"),
    "mass_above_target": (mass_above_target, "1"),
    "bhattacharyya_coefficient": (bhattacharyya_coefficient, "1"),
    "renyi_divergence": (renyi_divergence, "bits"),
    "total_variation": (total_variation, "1"),
    "jensen_shannon_divergence": (jensen_shannon_divergence, "bits"),
    "arithmetic_code_bits": (arithmetic_code_bits, "bits"),
    "preference_cross_entropy": (preference_cross_entropy, "bits/pair"),
    "reward_accuracy": (reward_accuracy, "1"),
    "reward_margin": (reward_margin, "nats"),
    "chosen_reward": (chosen_reward, "nats"),
    "rejected_reward": (rejected_reward, "nats"),
}
# What does not depend on how a text is cut into tokens.
OF_WHOLE_TEXTS = ("bits_per_byte", "byte_perplexity", "word_perplexity")
DIVERGENCES = (
    "kl_from_base",
    "kl_to_base",
    "bhattacharyya_coefficient",
    "renyi_divergence",
    "total_variation",
    "jensen_shannon_divergence",
)
# Findings that compare with the base already.
FROM_THE_BASE = (
    "quantum_relative_entropy",
    "le_cam_deficiency",
    "memorized_bits",
    "membership_auroc",
    "membership_tpr",
    "maximal_leakage",
)

# The statistics of a pass that each measure needs beside loss, entropy and the two divergences.
_NEEDS: dict[str, tuple[str, ...]] = {
    "calibrated_temperature": ("varentropy",),
    "varentropy": ("varentropy",),
    "temperature_fisher_information": ("varentropy",),
    "collision_entropy": ("renyi_entropy_2",),
    "min_entropy": ("min_entropy",),
    "conditional_renyi_entropy": ("min_entropy",),
    "tsallis_entropy": ("tsallis_entropy_2",),
    "havrda_charvat_entropy": ("tsallis_entropy_2",),
    "brier_score": ("brier_score",),
    "top_1_accuracy": ("target_rank",),
    "mean_reciprocal_rank": ("target_rank",),
    "mass_above_target": ("mass_above_target",),
    "bhattacharyya_coefficient": ("bhattacharyya_coefficient",),
    "renyi_divergence": ("renyi_divergence_2",),
    "total_variation": ("total_variation",),
    "jensen_shannon_divergence": ("jensen_shannon",),
}


def statistics_for(names: Iterable[str]) -> tuple[str, ...]:
    """What a pass must take for the named measures."""
    return tuple(dict.fromkeys(statistic for name in names for statistic in _NEEDS.get(name, ())))
