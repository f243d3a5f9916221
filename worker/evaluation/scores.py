"""From answers to what is told of them: accuracies, calibration, the channel from right letters to chosen ones, comparisons.

Models are numbered as a step names them, the base being None. Q questions of all subjects in order, G = a category or a subject.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from service.specs.benchmark import CATEGORIES, LETTERS, Benchmark
from worker.evaluation.answers import Answers
from worker.information.calibration import expected_calibration_error, fitted_temperature
from worker.information.intervals import difference, interval
from worker.information.significance import clopper_pearson, mcnemar
from worker.probes.finding import Findings, exact, jackknife, mean
from worker.probes.report import Row, report_findings
from worker.probes.task import ESTIMATORS, Task, channel_measures

Number = int | None

SHARE = "share of questions; Clopper–Pearson"
DIVERGED = "The model's logits are not finite, as happens when a model has diverged."


@dataclass(frozen=True)
class Answered:
    """All of one model's answers, subject after subject."""

    subject_Q: np.ndarray  # places in the mapping
    truth_Q: np.ndarray
    choice_Q: np.ndarray
    bits_QL: np.ndarray

    @property
    def right_Q(self) -> np.ndarray:
        return self.truth_Q == self.choice_Q

    @property
    def diverged(self) -> bool:
        return bool((self.choice_Q < 0).any())


def answered(benchmark: Benchmark, by_subject: Mapping[str, Answers]) -> Answered:
    answers = [by_subject[subject.key] for subject in benchmark.subjects]
    return Answered(
        subject_Q=np.repeat(np.arange(len(answers)), [len(one.rows) for one in answers]),
        truth_Q=np.concatenate([one.truth_Q for one in answers]),
        choice_Q=np.concatenate([one.choice_Q for one in answers]),
        bits_QL=np.concatenate([one.bits_QL for one in answers]),
    )


def rows(benchmark: Benchmark, models: Mapping[Number, Answered]) -> list[Row]:
    """Of each model, every measure, beside the base and the best, paired by question."""
    base = models.get(None)
    findings = {number: _findings(benchmark, one, base) for number, one in models.items()}
    told = report_findings(findings, best_model(models))
    return [_with_counts(row, benchmark, models) for row in told]


def best_model(models: Mapping[Number, Answered]) -> int | None:
    """The first of the greatest accuracy; neither the base nor one that diverged takes part."""
    shares = {number: one.right_Q.mean() for number, one in models.items() if number is not None and not one.diverged}
    return max(sorted(shares), key=lambda number: shares[number], default=None)


def comparisons(models: Mapping[Number, Answered]) -> Iterator[dict[str, Any]]:
    """Each pair of models: the difference of their accuracies, paired, and McNemar's exact test of it."""
    for a, b in combinations(models, 2):
        first, second = models[a], models[b]
        if first.diverged or second.diverged:
            yield {"model": _called(b), "less": _called(a), "difference": None, "reason": DIVERGED}
            continue
        apart = difference(_accuracy(second.right_Q).estimate, _accuracy(first.right_Q).estimate)
        ends = interval(apart)
        yield {
            "model": _called(b),
            "less": _called(a),
            "difference": apart.value,
            "interval": ends and list(ends),
            **_discordant(second.right_Q, first.right_Q),
        }


def confusion(one: Answered) -> list[list[int]]:
    """[right letter][chosen letter], without what a model that diverged did not choose."""
    counts = np.zeros((len(LETTERS), len(LETTERS)), dtype=np.int64)
    chosen_Q = one.choice_Q >= 0
    np.add.at(counts, (one.truth_Q[chosen_Q], one.choice_Q[chosen_Q]), 1)
    return counts.tolist()


def groups(benchmark: Benchmark, subject_Q: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """(name, whether each question is of it): the categories that there are, then the subjects."""
    category_S = np.array([subject.category for subject in benchmark.subjects])
    for category in CATEGORIES:
        if (category_S == category).any():
            yield category, category_S[subject_Q] == category
    for place, subject in enumerate(benchmark.subjects):
        yield subject.key, subject_Q == place


def _findings(benchmark: Benchmark, one: Answered, base: Answered | None) -> Findings:
    names = set(ESTIMATORS) - ({"le_cam_deficiency"} if base is None or base is one else set())
    found: Findings = {"accuracy": _accuracy(one.right_Q)}
    of_groups = groups(benchmark, one.subject_Q)
    found |= {f"accuracy:{name}": _accuracy(one.right_Q[is_Q]) for name, is_Q in of_groups}
    if one.diverged:
        return {name: exact(np.nan, DIVERGED, SHARE, len(one.truth_Q)) for name in found}
    truth_Q = one.truth_Q
    task = Task(list(LETTERS), truth_Q.tolist(), [])
    return found | _calibration(one) | channel_measures(task, one.choice_Q, (base or one).choice_Q, len(truth_Q), names)


def _accuracy(right_Q: np.ndarray) -> Any:
    return mean(right_Q.astype(np.float64), SHARE, len(right_Q))


def _calibration(one: Answered) -> Findings:
    p_QL, truth_Q = np.exp2(-one.bits_QL), one.truth_Q
    Q = len(truth_Q)
    right_QL = np.eye(len(LETTERS))[truth_Q]

    def of(statistic: Callable[[np.ndarray, np.ndarray], float], of_Q: np.ndarray, against_Q: np.ndarray) -> Any:
        return lambda kept: statistic(of_Q[kept], against_Q[kept])

    confidence_Q = p_QL.max(axis=1)
    return {
        "answer_cross_entropy": mean(one.bits_QL[np.arange(Q), truth_Q], "mean over questions", Q),
        "answer_brier_score": mean(((p_QL - right_QL) ** 2).sum(axis=1), "mean over questions", Q),
        "expected_calibration_error": jackknife(
            of(expected_calibration_error, confidence_Q, one.right_Q), Q, Q, "bins of equal numbers, less what chance adds"
        ),
        "fitted_temperature": jackknife(of(fitted_temperature, -one.bits_QL, truth_Q), Q, Q, "of least cross-entropy"),
    }


def _with_counts(row: Row, benchmark: Benchmark, models: Mapping[Number, Answered]) -> Row:
    """An accuracy's exact interval, and the test of its differences."""
    name, _, place = row["measure"].partition(":")
    one = models[row["global_step"]]
    if name == "fitted_temperature" and row["value"] is None and not one.diverged:
        return row | {"interval_reason": "No temperature is best, as where every answer is right, or none likelier than chance."}
    if name != "accuracy" or row["value"] is None:
        return row
    is_Q = dict(groups(benchmark, one.subject_Q))[place] if place else np.full(len(one.truth_Q), True)
    ends = list(clopper_pearson(int(one.right_Q[is_Q].sum()), int(is_Q.sum())))
    told = row | {"interval": ends, "interval_reason": None}
    best = best_model(models)
    for versus, other in (
        ("versus_base", None),
        ("versus_best", best),
        ("versus_leader", (row["versus_leader"] or {}).get("global_step")),
    ):
        if told[versus] is not None:
            told[versus] = told[versus] | _discordant(one.right_Q[is_Q], models[other].right_Q[is_Q])
    return told


def _discordant(right_Q: np.ndarray, other_Q: np.ndarray) -> dict[str, Any]:
    """How many questions only this one answers rightly, and only the other one; and whether that is chance."""
    here, there = int((right_Q & ~other_Q).sum()), int((other_Q & ~right_Q).sum())
    return {"only_here": here, "only_there": there, "p_value": mcnemar(here, there), "test": "McNemar's, exact, two-sided"}


def _called(number: Number) -> str | int:
    return "base" if number is None else number
