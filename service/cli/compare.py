"""finebits compare JOB JOB..."""

from typing import TYPE_CHECKING, Any

import typer

from service.cli.as_json import AsJson
from service.cli.comparing import Difference, Side, difference, side, splits
from service.cli.connection import connected
from service.cli.exit_codes import ExitCode
from service.cli.job_id import job_ids
from service.cli.measured import cell, in_order, number
from service.cli.plot import curve
from service.cli.screen import Screen, give_up

if TYPE_CHECKING:
    from service.client import Client

POINTS = 1000


def compare(
    context: typer.Context,
    jobs: list[str] = typer.Argument(
        metavar="JOB...", help="Jobs, of which the last checkpoints are compared, or job-.../sft/40.", autocompletion=job_ids
    ),
    measure: str | None = typer.Option(None, help="Only this measure."),
    split: str | None = typer.Option(None, help="Only on this text: validation, dataset, train, anchor or test."),
    series: str | None = typer.Option(None, help="Plot this series of each instead, such as loss, on the same scale."),
    as_json: AsJson = False,
) -> None:
    """Show the measures of several jobs side by side, and how far they are apart.

    Differences are from the first. One that the service has paired by document has its standard error; of another, ≤ stands
    before the most that it can be. `finebits measure` takes checkpoints of several jobs on one text, and pairs them all.
    """
    if len(jobs) < 2:
        give_up("Name two jobs or more, or checkpoints as job-.../sft/40.", ExitCode.USAGE)
    screen = Screen()
    with connected(context) as client:
        if series is not None:
            _plot(screen, _curves(client, jobs, series), series, as_json)
            return
        measured = [client.metrics(job.split("/")[0], measure=measure) for job in jobs]
        texts = [name for name in splits(measured) if split in (None, name)]
        found = [[side(*_read(job), rows, text) for job, rows in zip(jobs, measured, strict=True)] for text in texts]
    compared = [[one for one in sides if one is not None] for sides in found if all(sides)]
    if as_json:
        screen.json([_document(sides) for sides in compared])
    elif not compared:
        screen.say("There is no text on which all of them were measured. `finebits measure` takes checkpoints on any.")
    for sides in () if as_json else compared:
        _show(screen, sides)


def _read(name: str) -> tuple[str, str | None, str | None]:
    """job-.../sft/40 -> its job, step and checkpoint, as far as they are named."""
    job, step, at = (*name.split("/"), None, None)[:3]
    return str(job), step, at


def _show(screen: Screen, sides: list[Side]) -> None:
    split = sides[0].row["split"]
    screen.pairs(f"On the text {split}", [(str(number), one.name) for number, one in enumerate(sides, 1)])
    names = in_order({name for one in sides for name in one.row["measures"]})
    columns = [str(number) for number in range(1, len(sides) + 1)]
    rows = [[_titled(name, sides), *(cell(one.value(name)) for one in sides)] for name in names]
    screen.numbers(f"{split}: measured, ± standard error", ["measure", *columns], rows)
    apart = [
        [_titled(name, sides), *(word for one in sides[1:] for word in _told(difference(sides[0], one, name)))] for name in names
    ]
    apart = [row for row in apart if any(row[1:])]
    if apart:
        heads = [head for column in columns[1:] for head in (f"{column} − 1", "95 %")]
        screen.numbers(f"{split}: differences, ± standard error", ["measure", *heads], apart)
    else:
        screen.say(
            "These are other texts, or other units: their difference says nothing. `finebits measure` takes both on one text."
        )


def _titled(name: str, sides: list[Side]) -> str:
    unit = next((value["unit"] for one in sides if (value := one.value(name)) is not None), "1")
    return name if unit in ("", "1") else f"{name} [{unit}]"


def _told(apart: Difference | None) -> tuple[str, str]:
    """The difference, and its interval."""
    if apart is None:
        return "", ""
    words = number(apart.value, apart.standard_error, "+")
    digits = len(words.split(" ")[0].partition(".")[2])
    interval = "" if apart.interval is None else f"[{apart.interval[0]:+.{digits}f}, {apart.interval[1]:+.{digits}f}]"
    return words if apart.is_paired else words.replace("± ", "± ≤"), interval


def _document(sides: list[Side]) -> dict[str, Any]:
    names = in_order({name for one in sides for name in one.row["measures"]}, all_of_them=True)
    return {
        "split": sides[0].row["split"],
        "checkpoints": [{"job": one.job, "step": one.row["step"], "checkpoint": one.row["checkpoint"]} for one in sides],
        "measures": {name: [one.value(name) for one in sides] for name in names},
        "differences": {name: [_numbers(difference(sides[0], one, name)) for one in sides[1:]] for name in names},
    }


def _numbers(apart: Difference | None) -> dict[str, Any] | None:
    return None if apart is None else vars(apart)


def _curves(client: "Client", jobs: list[str], series: str) -> dict[str, dict[str, Any]]:
    """By job and step, the series; of a job without a step, that of each of its steps that has it."""
    found: dict[str, dict[str, Any]] = {}
    for job, *place in (name.split("/") for name in jobs):
        for one in client.series_names(job):
            if series in one["names"] and place[:1] in ([], [one["pipeline_step"]]):
                step = one["pipeline_step"]
                found[f"{job}/{step}"] = dict(client.series(job, series, step=step, points=POINTS))
    return found


def _plot(screen: Screen, found: dict[str, dict[str, Any]], series: str, as_json: bool) -> None:
    if as_json:
        screen.json(found)
        return
    values = [value for one in found.values() for value in one["value"]]
    if not values:
        screen.say(f"None of them has a series {series} yet.")
    for name, one in found.items():
        screen.say(f"{name}: {series}", style="bold")
        for line in curve(one["step"], one["value"], screen.width, y_range=(min(values), max(values))):
            screen.say(line)
