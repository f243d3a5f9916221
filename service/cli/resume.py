"""finebits resume JOB"""

import typer

from service.cli.as_json import AsJson
from service.cli.connection import connected
from service.cli.job_id import JobId
from service.cli.screen import Screen


def resume(context: typer.Context, job_id: JobId, as_json: AsJson = False) -> None:
    """Let a paused job go on, from its last checkpoint."""
    with connected(context) as client:
        job = client.resume(job_id)
    if as_json:
        Screen().json(job)
    else:
        Screen().say(f"{job_id} is {job['state']}; `finebits watch {job_id}` shows it.")
