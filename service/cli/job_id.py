"""The JOB that a command is about, and what shells may complete it to."""

from contextlib import suppress
from itertools import islice
from typing import Annotated

import typer

MOST = 50
PATIENCE_SECONDS = 1.0  # whoever presses Tab waits for it


def job_ids(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """The newest jobs, each with its name and state; none where the service does not answer at once."""
    given = context.find_root().params
    with suppress(Exception):  # nothing that goes wrong here may be written into a line that is being typed
        from service.client import Client

        with Client(given["url"], given.get("api_key"), timeout=PATIENCE_SECONDS, longest_wait=0) as client:
            newest = islice(client.jobs(page_size=MOST), MOST)
            return [(job["id"], " ".join(filter(None, (job["state"], job["name"])))) for job in newest]
    return []


JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.", autocompletion=job_ids)]
