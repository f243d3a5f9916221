"""finebits logs JOB"""

import typer

from service.cli.connection import connected
from service.cli.screen import Screen


def logs(context: typer.Context, job_id: str = typer.Argument(metavar="JOB", help="The job's id.")) -> None:
    """Print what the training process of a job wrote."""
    with connected(context) as client:
        text = client.logs(job_id)
    Screen().say(text.rstrip("\n"))
