"""finebits watch JOB"""

import typer

from service.cli.connection import connected
from service.cli.following import follow_to_exit
from service.cli.screen import Screen


def watch(context: typer.Context, job_id: str = typer.Argument(metavar="JOB", help="The job's id.")) -> None:
    """Show a job until it ends; Ctrl-C leaves it running.

    Exits with 0 when it succeeded, 1 when it failed, 2 when it was cancelled; with 3 when the service refused or did not answer.
    """
    with connected(context) as client:
        follow_to_exit(client, job_id, Screen())
