"""Training rows against held-out ones: what a model knows of the former that it does not know of text of their kind.

Shapes: D documents of one of the two sets; N their scored tokens. Higher scores are more like rows that were trained on.
"""

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from worker.information.generalized import maximal_leakage
from worker.information.intervals import Estimate, ratio
from worker.probes.finding import Finding, Findings, exact, jackknife, of_estimate, share
from worker.probes.token import Pass

STATISTICS = ("target_rank", "min_k_plus_plus", "base_nll")  # that a pass must take
LOWEST = 0.2  # the share of tokens of Min-K%++
FALSE_ALARMS = 0.01
BINS = 4
PREFIX, VERBATIM = 50, 50  # tokens that are given, and that must then come one after another
PLACES = ("verbatim_rate:train", "verbatim_rate:held_out")
TWO_SETS = "of independent documents, clustered"


@dataclass(frozen=True, eq=False)
class Rows:
    """One of the two sets through a checkpoint. Statistics of tokens, and the document of each; bytes of zlib by document."""

    nll_N: np.ndarray
    base_nll_N: np.ndarray
    first_choice_N: np.ndarray
    min_k_N: np.ndarray
    document_N: np.ndarray
    zlib_bits_D: np.ndarray
    verbatim_D: np.ndarray  # 1 where it comes word for word, 0 where it does not, nan where it is too short

    @property
    def D(self) -> int:
        return len(self.zlib_bits_D)

    def sums(self, values_N: np.ndarray) -> np.ndarray:
        return np.bincount(self.document_N, weights=values_N, minlength=self.D)

    @property
    def n_tokens_D(self) -> np.ndarray:
        return np.bincount(self.document_N, minlength=self.D)


def rows_of(one: Pass, document_N: np.ndarray, texts: Sequence[str]) -> Rows:
    """`texts` are what is scored of each document."""
    statistics = one.statistics
    base_nll_N, rank_N, min_k_N = statistics.base_nll, statistics.target_rank, statistics.min_k_plus_plus
    if base_nll_N is None or rank_N is None or min_k_N is None:
        raise ValueError(f"a pass for memorisation takes {', '.join(STATISTICS)}")
    zlib_bits_D = np.array([8 * len(zlib.compress(text.encode(), 9)) for text in texts], dtype=np.float64)
    first_choice_N = rank_N == 0
    verbatim_D = verbatim(one, first_choice_N, document_N)
    return Rows(statistics.nll, base_nll_N, first_choice_N, min_k_N, document_N, zlib_bits_D, verbatim_D)


def verbatim(one: Pass, first_choice_N: np.ndarray, document_N: np.ndarray) -> np.ndarray:
    """[D] whether greedy decoding goes on word for word: behind 50 tokens of a document the next 50 that are scored are all the
    first choice. So no text needs to be written. Of several windows the first that is long enough counts.
    """
    found_D = np.full(int(document_N.max()) + 1 if len(document_N) else 0, math.nan)
    start = 0
    for window in one.documents:
        behind = [place for place, t in enumerate(window.scored) if t >= PREFIX][:VERBATIM]
        if len(behind) == VERBATIM and window.scored[behind[-1]] - window.scored[behind[0]] == VERBATIM - 1:
            document = document_N[start]
            if math.isnan(found_D[document]):
                found_D[document] = first_choice_N[start + behind[0] : start + behind[-1] + 1].all()
        start += len(window.scored)
    return found_D


def memorization(train: Rows, held_out: Rows, names: set[str], is_base: bool) -> Findings:
    """The named measures. What compares with the base is not told of the base itself."""
    n_tokens = len(train.nll_N) + len(held_out.nll_N)
    if not all(np.isfinite(rows.nll_N).all() for rows in (train, held_out)):
        why = "Some losses are not finite, as happens when a model has diverged."
        told = [*(names & set(MEASURES)), *(PLACES if "verbatim_rate" in names else ())]
        return {name: exact(math.nan, why, "none", train.D + held_out.D, n_tokens) for name in told}
    found: Findings = {}
    if "verbatim_rate" in names:
        found |= {place: verbatim_rate(rows) for place, rows in zip(PLACES, (train, held_out), strict=True)}
    for name in names & set(MEASURES):
        score_of, of_scores, versus_base = MEASURES[name]
        if versus_base and is_base:
            continue
        found[name] = of_scores(train, held_out, score_of)
    return found


# -- scores of a document ----------------------------------------------------------------------------------------------


def ez_scores(rows: Rows) -> np.ndarray:
    """Σ Δ / Σ |Δ| over the scored tokens that are not the first choice, Δ the change of p(y) from the base, in [−1, 1].

    1 where every token is the first choice, 0 where nothing changed.
    """
    change_N = np.where(rows.first_choice_N, 0.0, np.exp2(-rows.nll_N) - np.exp2(-rows.base_nll_N))
    moved_D, errors_D = rows.sums(np.abs(change_N)), rows.sums(~rows.first_choice_N)
    score_D = np.divide(rows.sums(change_N), moved_D, out=np.zeros(rows.D), where=moved_D > 0)
    return np.where((errors_D == 0) & (rows.n_tokens_D > 0), 1.0, score_D)


def min_k_scores(rows: Rows) -> np.ndarray:
    """The mean of Min-K%++ over the lowest fifth of a document's tokens, one at least."""
    scores = []
    for document in range(rows.D):
        values = np.sort(rows.min_k_N[rows.document_N == document])
        scores.append(float(values[: max(1, math.ceil(LOWEST * len(values)))].mean()) if len(values) else 0.0)
    return np.array(scores)


def zlib_scores(rows: Rows) -> np.ndarray:
    """Minus the bits that the model needs over those that zlib needs."""
    return -rows.sums(rows.nll_N) / rows.zlib_bits_D


# -- what scores say ----------------------------------------------------------------------------------------------------

Score = Callable[[Rows], np.ndarray]


def auroc(train: Rows, held_out: Rows, score_of: Score) -> Finding:
    """P(training row > held-out row) + ½ P(equal), with DeLong's error."""
    a_D, b_D = score_of(train), score_of(held_out)
    above = (a_D[:, None] > b_D[None, :]) + 0.5 * (a_D[:, None] == b_D[None, :])
    value = float(above.mean())
    influence = np.concatenate([(above.mean(axis=1) - value) / len(a_D), (above.mean(axis=0) - value) / len(b_D)])
    return _two_sets(value, influence, train, held_out, f"{len(a_D)} training rows against {len(b_D)} held out; DeLong")


def true_positive_rate(train: Rows, held_out: Rows, score_of: Score) -> Finding:
    """Of training rows, above the score that at most 1 % of the held-out rows exceed: of fewer than a hundred, their highest."""
    a_D, b_D = score_of(train), np.sort(score_of(held_out))
    threshold = b_D[len(b_D) - 1 - math.floor(FALSE_ALARMS * len(b_D))]
    return share(
        a_D > threshold, len(train.nll_N), f"of {len(a_D)} training rows above {1 - FALSE_ALARMS:.0%} of {len(b_D)} held out"
    )


def verbatim_rate(rows: Rows) -> Finding:
    """Of the rows that are long enough. Carlini et al. 2023, with prefixes and suffixes of 50 tokens."""
    hits_D = rows.verbatim_D[~np.isnan(rows.verbatim_D)]
    if not len(hits_D):
        why = f"No row has {VERBATIM} scored tokens one after another behind {PREFIX} others."
        return exact(math.nan, why, "none", 0, len(rows.nll_N))
    return share(hits_D, len(rows.nll_N), f"of {len(hits_D)} rows of {rows.D} that are long enough")


def leakage(train: Rows, held_out: Rows, score_of: Score) -> Finding:
    """Maximal leakage from membership to the score, in quarters of all rows' scores: lg Σ_bin max(P(bin|train), P(bin|held))."""
    a_D, b_D = score_of(train), score_of(held_out)
    edges = np.quantile(np.concatenate([a_D, b_D]), np.arange(1, BINS) / BINS)
    bins = np.searchsorted(edges, np.concatenate([a_D, b_D]), side="left")

    def statistic(kept: np.ndarray) -> float:
        of_train, of_held = bins[kept[kept < len(a_D)]], bins[kept[kept >= len(a_D)]]
        if not len(of_train) or not len(of_held):
            raise ValueError("a channel from membership needs rows of both kinds")
        return maximal_leakage(np.stack([np.bincount(part, minlength=BINS) / len(part) for part in (of_train, of_held)]))

    # rows of both kinds in each group that is left out
    order = np.argsort(np.concatenate([np.arange(len(a_D)) / len(a_D), np.arange(len(b_D)) / len(b_D)]), kind="stable")
    n_tokens = len(train.nll_N) + len(held_out.nll_N)
    estimator = f"score in {BINS} bins, plug-in: too high on few rows"
    return jackknife(lambda kept: statistic(order[kept]), len(order), n_tokens, estimator)


def gap(train: Rows, held_out: Rows, _: Score) -> Finding:
    """Cross-entropy on held-out rows less that on training rows."""
    return _difference(held_out, train, lambda rows: rows.nll_N)


def memorized(train: Rows, held_out: Rows, _: Score) -> Finding:
    """What training rows gained over the base, less what held-out rows gained, bits a token."""
    return _difference(train, held_out, lambda rows: rows.base_nll_N - rows.nll_N)


def _difference(a: Rows, b: Rows, values_of: Callable[[Rows], np.ndarray]) -> Finding:
    means = [ratio(rows.sums(values_of(rows)), rows.n_tokens_D) for rows in (a, b)]
    influence = np.concatenate([means[0].influence_D, -means[1].influence_D])
    return _two_sets(means[0].value - means[1].value, influence, a, b, f"difference of two ratios of sums, {TWO_SETS}")


def _two_sets(value: float, influence: np.ndarray, a: Rows, b: Rows, estimator: str) -> Finding:
    """An error of each of two documents, one of each set, is the least that there is."""
    if min(a.D, b.D) < 2:
        return exact(value, "An interval needs at least two training and two held-out rows.", estimator, a.D + b.D)
    return of_estimate(Estimate(value, influence, a.D + b.D, len(a.nll_N) + len(b.nll_N)), estimator)


# name -> the score of a document, what is made of both sets' scores, and whether it compares with the base
MEASURES: dict[str, tuple[Score, Callable[[Rows, Rows, Score], Finding], bool]] = {
    "generalization_gap": (zlib_scores, gap, False),
    "memorized_bits": (zlib_scores, memorized, True),
    "membership_auroc": (ez_scores, auroc, True),
    "min_k_auroc": (min_k_scores, auroc, False),
    "zlib_auroc": (zlib_scores, auroc, False),
    "membership_tpr": (ez_scores, true_positive_rate, True),
    "maximal_leakage": (ez_scores, leakage, True),
}
