"""finebits watch JOB"""

import typer

from service.cli.as_json import AsJson
from service.cli.connection import connected
from service.cli.following import follow_to_exit
from service.cli.job_id import JobId
from service.cli.screen import Screen


def watch(context: typer.Context, job_id: JobId, as_json: AsJson = False) -> None:
    """Show a job until it ends; Ctrl-C leaves it running.

    Exits with 0 when it succeeded, 1 when it failed, 5 when it was cancelled; 3 and 4 are the service's.
    """
    with connected(context) as client:
        follow_to_exit(client, job_id, Screen(), as_json)
