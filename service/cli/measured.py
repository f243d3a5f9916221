"""Measures as tables: one of each step and split, a row for the base and for each checkpoint, and the differences to the base."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from service.cli.screen import Screen

if TYPE_CHECKING:
    from service.client import Measured, Value

# Shown where several measures are: a table of all that a report has would not fit a screen.
HEADLINES = (
    "cross_entropy",
    "perplexity",
    "bits_per_byte",
    "entropy",
    "kl_from_base",
    "kl_to_base",
    "accuracy",
    "answer_cross_entropy",
    "expected_calibration_error",
)

# A column of a table's own: its heading, and its cell of each row.
Column = tuple[str, Callable[["Measured"], str]]


def show_measured(screen: Screen, rows: "Sequence[Measured]", more: Sequence[Column] = ()) -> None:
    """Prints the tables. `more` are columns that follow the measures."""
    for (step, split), group in groupby(rows, key=lambda row: (row["step"], row["split"])):
        _show_table(screen, f"{step}, {split}", list(group), more)
    names = {name for row in rows for name in row["measures"]}
    others = len(names) - len(in_order(names))
    if others:
        screen.say(f"{others} more: --measure NAME shows one, --json all.")


def _show_table(screen: Screen, title: str, rows: "list[Measured]", more: Sequence[Column]) -> None:
    names = in_order({name for row in rows for name in row["measures"]})
    columns = ["checkpoint", *(_heading(name, rows) for name in names), *(heading for heading, _ in more)]
    lines = [
        [str(row["checkpoint"]), *(cell(row["measures"].get(name)) for name in names), *(cell(row) for _, cell in more)]
        for row in rows
    ]
    screen.numbers(f"{title}: measured, ± standard error", columns, lines)
    differences = list(_differences(names, rows))
    compared = [name for index, name in enumerate(names, 1) if any(line[index] != "" for line in differences)]
    if compared:
        kept = [0, *(index for index, name in enumerate(names, 1) if name in compared)]
        lines = [[line[index] for index in kept] for line in differences]
        screen.numbers(f"{title}: difference to the base", ["checkpoint", *(_heading(name, rows) for name in compared)], lines)


def in_order(names: set[str], all_of_them: bool = False) -> list[str]:
    """The headlines that there are; where there is none, all, as in the catalogue."""
    headlines = [name for name in HEADLINES if name in names]
    if headlines and not all_of_them:
        return headlines
    from service.specs.measures import BY_NAME  # here, since it takes longer than all the rest

    return [*(name for name in BY_NAME if name in names), *sorted(names - BY_NAME.keys())]


def _differences(names: list[str], rows: "list[Measured]") -> Iterator[list[str]]:
    for row in rows:
        if row["checkpoint"] != "base":
            measured = [row["measures"].get(name) for name in names]
            versus = [it and it.get("versus_base") for it in measured]
            yield [
                str(row["checkpoint"]),
                *(number(it.get("value"), it.get("standard_error"), "+") if it else "" for it in versus),
            ]


def _heading(name: str, rows: "list[Measured]") -> str:
    unit = next((row["measures"][name].get("unit") for row in rows if name in row["measures"]), None)
    return name if unit in (None, "", "1") else f"{name}\n[{unit}]"


def cell(value: "Value | None") -> str:
    """A value with its standard error; nothing where it was not measured."""
    return "" if value is None else number(value.get("value"), value.get("standard_error"))


def number(value: float | None, standard_error: float | None, sign: str = "") -> str:
    """A value with as many decimals as its standard error has meaning for: two of the error's digits."""
    if value is None:
        return "–"
    if not standard_error:
        return f"{value:{sign}.4g}"
    decimals = max(0, 1 - _magnitude(standard_error))
    if decimals > 6:
        return f"{value:{sign}.2g} ± {standard_error:.1g}"
    return f"{value:{sign}.{decimals}f} ± {standard_error:.{decimals}f}"


def _magnitude(value: float) -> int:
    """The power of ten of the first digit: 0.023 -> −2."""
    return int(f"{value:e}".split("e")[1])
