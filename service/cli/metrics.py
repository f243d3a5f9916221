"""finebits metrics JOB, finebits metrics JOB --series loss"""

from typing import TYPE_CHECKING

import typer

from service.cli.as_json import AsJson
from service.cli.connection import connected
from service.cli.job_id import JobId
from service.cli.measured import show_measured
from service.cli.plot import curve
from service.cli.screen import Screen

if TYPE_CHECKING:
    from service.client import Client, Series

POINTS = 1000  # of a series, for a plot of one screen


def metrics(
    context: typer.Context,
    job_id: JobId,
    measure: str | None = typer.Option(None, help="Only this measure."),
    step: str | None = typer.Option(None, help="Only this step."),
    series: str | None = typer.Option(None, help="Plot what the training told of itself instead, such as loss."),
    as_json: AsJson = False,
) -> None:
    """Show what was measured: the base and each checkpoint, and how far they are apart.

    With --json come intervals and estimators; of a series every point, and not only those of the plot.
    """
    screen = Screen()
    with connected(context) as client:
        if series is not None:
            found = _series(client, job_id, series, step, None if as_json else POINTS)
            screen.json(found) if as_json else _plot(screen, found)
            return
        measured = client.metrics(job_id, measure=measure, step=step)
    if as_json:
        screen.json(measured)
    elif measured:
        show_measured(screen, measured)
    else:
        screen.say("Nothing has been measured yet.")


def _series(client: "Client", job_id: str, name: str, step: str | None, points: int | None) -> "list[Series]":
    """Of the step, or of each that has it."""
    known = [one["pipeline_step"] for one in client.series_names(job_id) if name in one["names"]]
    steps = [step] if step is not None else known
    return [client.series(job_id, name, step=one, points=points) for one in steps]


def _plot(screen: Screen, found: "list[Series]") -> None:
    if not any(one["value"] for one in found):
        screen.say("There is no such series yet.")
    for one in found:
        screen.say(f"{one['pipeline_step']}: {one['name']}", style="bold")
        for line in curve(one["step"], one["value"], screen.width):
            screen.say(line)
