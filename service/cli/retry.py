"""finebits retry JOB"""

import typer

from service.cli.connection import connected
from service.cli.screen import Screen


def retry(context: typer.Context, job_id: str = typer.Argument(metavar="JOB", help="The job's id.")) -> None:
    """Queue a job that failed or was cancelled again. What it has done stays done."""
    with connected(context) as client:
        job = client.retry(job_id)
    Screen().say(f"{job_id} is {job['state']} again; `finebits watch {job_id}` shows it.")
