"""finebits resume JOB"""

import typer

from service.cli.connection import connected
from service.cli.screen import Screen


def resume(context: typer.Context, job_id: str = typer.Argument(metavar="JOB", help="The job's id.")) -> None:
    """Let a paused job go on, from its last checkpoint."""
    with connected(context) as client:
        job = client.resume(job_id)
    Screen().say(f"{job_id} is {job['state']}; `finebits watch {job_id}` shows it.")
