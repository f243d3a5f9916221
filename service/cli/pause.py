"""finebits pause JOB"""

import typer

from service.cli.connection import connected
from service.cli.screen import Screen


def pause(context: typer.Context, job_id: str = typer.Argument(metavar="JOB", help="The job's id.")) -> None:
    """Pause a job. One that runs saves a checkpoint and gives its GPU free within moments."""
    with connected(context) as client:
        job = client.pause(job_id)
    if job["state"] == "paused":
        Screen().say(f"{job_id} is paused; `finebits resume {job_id}` lets it go on.")
    else:
        Screen().say(f"{job_id} will be paused at its next step; `finebits resume {job_id}` lets it go on.")
