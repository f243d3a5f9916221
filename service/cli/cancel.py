"""finebits cancel JOB"""

import typer

from service.cli.connection import connected
from service.cli.screen import Screen


def cancel(context: typer.Context, job_id: str = typer.Argument(metavar="JOB", help="The job's id.")) -> None:
    """Cancel a job. One that runs stops within seconds, and keeps its checkpoints."""
    with connected(context) as client:
        job = client.cancel(job_id)
    if job["state"] == "cancelled":
        Screen().say(f"{job_id} is cancelled.")
    else:
        Screen().say(f"{job_id} will stop soon; `finebits watch {job_id}` shows when.")
