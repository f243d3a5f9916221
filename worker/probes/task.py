"""A labelled task as a channel: the true label goes in, the model's answer comes out.

Shapes: R rows, L labels; counts[x, y] of the rows with label x that were answered y.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from worker.information.channels import channel_capacity
from worker.information.comparison import le_cam_deficiency
from worker.information.estimators import mutual_information_from_counts
from worker.information.secrecy import equivocation, fano_bound
from worker.probes.finding import Findings, exact, jackknife
from worker.probes.token import Document, DocumentSums


@dataclass(frozen=True)
class Task:
    """`candidates[r * L + l]` is row r with label l for its answer."""

    labels: list[str]
    truth: list[int]
    candidates: list[Document]


def answers(task: Task, sums: DocumentSums) -> np.ndarray:
    """[R] the label that the model finds likeliest as a whole answer; the first of equals; −1 where a model diverged."""
    nll_RL = np.array(sums.nll).reshape(len(task.truth), len(task.labels))
    return np.where(np.isfinite(nll_RL).all(axis=1), nll_RL.argmin(axis=1), -1)


def channel_measures(task: Task, answer_R: np.ndarray, base_R: np.ndarray, n_tokens: int, names: set[str]) -> Findings:
    """The named measures of the answers, beside those of the base on the same rows."""
    R, L, truth_R = len(task.truth), len(task.labels), np.array(task.truth)
    if (answer_R < 0).any() or (base_R < 0).any():
        why = "The model's losses on the labels are not finite, as happens when a model has diverged."
        return {name: exact(np.nan, why, "none", R, n_tokens) for name in names & set(ESTIMATORS)}

    def of_counts(statistic: Callable[[np.ndarray, np.ndarray], float]) -> Callable[[np.ndarray], float]:
        def of(kept: np.ndarray) -> float:
            own, base = (_counts(truth_R[kept], answer[kept], L) for answer in (answer_R, base_R))
            return statistic(own, base)

        return of

    return {
        name: jackknife(of_counts(statistic), R, n_tokens, estimator)
        for name, (statistic, estimator) in ESTIMATORS.items()
        if name in names
    }


def _counts(truth_R: np.ndarray, answer_R: np.ndarray, L: int) -> np.ndarray:
    counts = np.zeros((L, L))
    np.add.at(counts, (truth_R, answer_R), 1)
    return counts


def _rows(counts: np.ndarray) -> np.ndarray:
    """P(answer | label), of the labels that there are."""
    seen = counts[counts.sum(axis=1) > 0]
    channel: np.ndarray = seen / seen.sum(axis=1, keepdims=True)
    return channel


def _information(counts: np.ndarray, _: np.ndarray) -> float:
    return mutual_information_from_counts(counts.astype(np.int64)).value


def _equivocation(counts: np.ndarray, _: np.ndarray) -> float:
    return equivocation(counts / counts.sum())


def _fano(counts: np.ndarray, _: np.ndarray) -> float:
    labels = int((counts.sum(axis=1) > 0).sum())
    return fano_bound(_equivocation(counts, counts), labels) if labels > 1 else 0.0


def _capacity(counts: np.ndarray, _: np.ndarray) -> float:
    return channel_capacity(_rows(counts)).lower_bits


def _deficiency(counts: np.ndarray, base: np.ndarray) -> float:
    return le_cam_deficiency(_rows(counts), _rows(base)).value


ESTIMATORS: dict[str, tuple[Callable[[np.ndarray, np.ndarray], float], str]] = {
    "mutual_information": (_information, "of labels and answers; Chao–Wang–Jost"),
    "equivocation": (_equivocation, "of the label, given the answer; plug-in"),
    "fano_bound": (_fano, "least error of any guess of the label from the answer; plug-in"),
    "channel_capacity": (_capacity, "of the shares of answers by label; lower end of the bracket"),
    "le_cam_deficiency": (_deficiency, "of the checkpoint for the base: 0 where it is as good for every decision; plug-in"),
}
