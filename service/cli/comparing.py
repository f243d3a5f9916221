"""Measures of several checkpoints side by side, and how far each is from the first.

Where the service has paired two of them by document, that difference is told. Else, of values that were taken on the same text,
what is told beside the difference is the most that its standard error can be: sd(X − Y) ≤ sd(X) + sd(Y) whatever binds the two;
of X and Y themselves, or of how far each is from the same base, whichever is less.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.client import Measured, Value

Z = 1.96  # two-sided, 95 %

# What is between a checkpoint and its base, and says nothing of another's.
OF_THE_BASE = frozenset(("kl_from_base", "kl_to_base"))


@dataclass(frozen=True)
class Side:
    """What was measured at one checkpoint on one text; `base` is the row of the base beside it."""

    job: str
    row: "Measured"
    base: "Measured | None"

    @property
    def name(self) -> str:
        return f"{self.job}/{self.row['step']}/{self.row['checkpoint']}"

    def value(self, measure: str) -> "Value | None":
        return self.row["measures"].get(measure)


@dataclass(frozen=True)
class Difference:
    """Of a side from the first. `standard_error` is exact where `is_paired`, and else the most that it can be."""

    value: float
    standard_error: float | None
    interval: tuple[float, float] | None
    is_paired: bool


def side(job: str, step: str | None, at: str | None, measured: "Sequence[Measured]", split: str) -> Side | None:
    """A job's last checkpoint, or the one of that step and number, on a text; None where it was not measured on that."""
    rows = [row for row in measured if row["split"] == split and step in (None, row["step"])]
    trained = [row for row in rows if str(row["checkpoint"]) == at or (at is None and row["checkpoint"] != "base")]
    if not trained:
        return None
    row = trained[-1]
    base = next((one for one in rows if one["step"] == row["step"] and one["checkpoint"] == "base"), None)
    return Side(job, row, base)


def splits(measured: "Sequence[Sequence[Measured]]") -> list[str]:
    """The texts that all jobs were measured on, in the order of the first."""
    known = [{row["split"] for row in rows} for rows in measured]
    return list(dict.fromkeys(row["split"] for row in measured[0] if all(row["split"] in names for names in known)))


def difference(first: Side, other: Side, measure: str) -> Difference | None:
    """None where one of them has no such value, or they were taken on other texts."""
    one, two = first.value(measure), other.value(measure)
    if one is None or two is None or one["value"] is None or two["value"] is None:
        return None
    for paired, sign in _paired(first, other, one, two):
        error, value = paired.get("standard_error"), sign * paired["value"]
        ends = sorted(sign * end for end in paired.get("interval") or ())
        return Difference(value, error, (ends[0], ends[1]) if ends else None, is_paired=True)
    if not _same_text(one, two) or (measure in OF_THE_BASE and not _same_base(first, other, "cross_entropy")):
        return None
    value = two["value"] - one["value"]
    error = _most(first, other, measure, one, two)
    return Difference(value, error, None if error is None else (value - Z * error, value + Z * error), is_paired=False)


def _paired(first: Side, other: Side, one: "Value", two: "Value") -> Iterator[tuple[dict[str, Any], int]]:
    """The service's differences between the two, with the sign that makes them other − first."""
    if (first.job, first.row["step"], first.row["split"]) != (other.job, other.row["step"], other.row["split"]):
        return
    for measured, against, sign in ((two, first, 1), (one, other, -1)):
        versus_base = measured.get("versus_base")
        if against.row["checkpoint"] == "base" and versus_base and versus_base.get("value") is not None:
            yield versus_base, sign
        for versus in (measured.get("versus_leader"), measured.get("versus_best")):
            if versus and versus.get("value") is not None and versus.get("global_step") == against.row["checkpoint"]:
                yield versus, sign


def _same_text(one: "Value", two: "Value") -> bool:
    return (one["n_documents"], one["n_tokens"], one["unit"]) == (two["n_documents"], two["n_tokens"], two["unit"])


def _most(first: Side, other: Side, measure: str, one: "Value", two: "Value") -> float | None:
    sums = [_sum(one, two)]
    if _same_base(first, other, "cross_entropy"):
        sums.append(_sum(one.get("versus_base") or {}, two.get("versus_base") or {}))
    known = [error for error in sums if error is not None]
    return min(known) if known else None


def _same_base(first: Side, other: Side, measure: str) -> bool:
    bases = [side.base["measures"].get(measure) if side.base else None for side in (first, other)]
    return bases[0] is not None and bases[1] is not None and bases[0]["value"] == bases[1]["value"]


def _sum(one: Any, two: Any) -> float | None:
    errors = one.get("standard_error"), two.get("standard_error")
    return None if errors[0] is None or errors[1] is None else float(errors[0] + errors[1])
