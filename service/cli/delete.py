"""finebits delete JOB"""

import typer

from service.cli.as_json import AsJson
from service.cli.connection import connected
from service.cli.job_id import JobId
from service.cli.screen import Screen


def delete(
    context: typer.Context,
    job_id: JobId,
    yes: bool = typer.Option(False, "--yes", "-y", help="Do not ask."),
    as_json: AsJson = False,
) -> None:
    """Forget a job that has ended, with its checkpoints, measures and logs. This cannot be undone."""
    if not yes:
        typer.confirm(f"Delete {job_id} and all that it made?", abort=True, err=True)
    with connected(context) as client:
        client.delete(job_id)
    if as_json:
        Screen().json({"id": job_id, "deleted": True})
    else:
        Screen().say(f"{job_id} is deleted.")
