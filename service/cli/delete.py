"""finebits delete JOB"""

import typer

from service.cli.connection import connected
from service.cli.screen import Screen


def delete(
    context: typer.Context,
    job_id: str = typer.Argument(metavar="JOB", help="The job's id."),
    yes: bool = typer.Option(False, "--yes", "-y", help="Do not ask."),
) -> None:
    """Forget a job that has ended, with its checkpoints, measures and logs. This cannot be undone."""
    if not yes:
        typer.confirm(f"Delete {job_id} and all that it made?", abort=True)
    with connected(context) as client:
        client.delete(job_id)
    Screen().say(f"{job_id} is deleted.")
