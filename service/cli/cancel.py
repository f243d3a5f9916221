"""finebits cancel JOB"""

import typer

from service.cli.as_json import AsJson
from service.cli.connection import connected
from service.cli.job_id import JobId
from service.cli.screen import Screen


def cancel(context: typer.Context, job_id: JobId, as_json: AsJson = False) -> None:
    """Cancel a job. One that runs stops within seconds, and keeps its checkpoints."""
    with connected(context) as client:
        job = client.cancel(job_id)
    if as_json:
        Screen().json(job)
    elif job["state"] == "cancelled":
        Screen().say(f"{job_id} is cancelled.")
    else:
        Screen().say(f"{job_id} will stop soon; `finebits watch {job_id}` shows when.")
