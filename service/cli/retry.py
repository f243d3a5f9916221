"""finebits retry JOB"""

import typer

from service.cli.as_json import AsJson
from service.cli.connection import connected
from service.cli.job_id import JobId
from service.cli.screen import Screen


def retry(context: typer.Context, job_id: JobId, as_json: AsJson = False) -> None:
    """Queue a job that failed or was cancelled again. What it has done stays done."""
    with connected(context) as client:
        job = client.retry(job_id)
    if as_json:
        Screen().json(job)
    else:
        Screen().say(f"{job_id} is {job['state']} again; `finebits watch {job_id}` shows it.")
