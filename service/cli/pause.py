"""finebits pause JOB"""

import typer

from service.cli.as_json import AsJson
from service.cli.connection import connected
from service.cli.job_id import JobId
from service.cli.screen import Screen


def pause(context: typer.Context, job_id: JobId, as_json: AsJson = False) -> None:
    """Pause a job. One that runs saves a checkpoint and gives its GPU free within moments."""
    with connected(context) as client:
        job = client.pause(job_id)
    if as_json:
        Screen().json(job)
    elif job["state"] == "paused":
        Screen().say(f"{job_id} is paused; `finebits resume {job_id}` lets it go on.")
    else:
        Screen().say(f"{job_id} will be paused at its next step; `finebits resume {job_id}` lets it go on.")
