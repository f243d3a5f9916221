"""finebits metrics JOB"""

import typer

from service.cli.connection import connected
from service.cli.measured import show_measured
from service.cli.screen import Screen


def metrics(
    context: typer.Context,
    job_id: str = typer.Argument(metavar="JOB", help="The job's id."),
    measure: str | None = typer.Option(None, help="Only this measure."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON, with intervals and estimators."),
) -> None:
    """Show what was measured: the base and each checkpoint, and how far they are apart."""
    with connected(context) as client:
        measured = client.metrics(job_id, measure=measure)
    screen = Screen()
    if as_json:
        screen.json(measured)
    elif measured:
        show_measured(screen, measured)
    else:
        screen.say("Nothing has been measured yet.")
