"""The JOB that a command is about, and what shells may complete it to."""

from contextlib import suppress
from typing import Annotated

import typer

MOST = 50
PATIENCE_SECONDS = 1.0  # whoever presses Tab waits for it


def job_ids(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """The newest jobs, each with its state and name; none where the service does not answer at once."""
    given = context.find_root().params
    with suppress(Exception):  # nothing that goes wrong here may be written into a line that is being typed
        import httpx2  # by itself, since our client asks again

        headers = {"Authorization": f"Bearer {given['api_key']}"} if given.get("api_key") else {}
        url = f"{given['url'].rstrip('/')}/jobs?limit={MOST}"
        newest = httpx2.get(url, headers=headers, timeout=PATIENCE_SECONDS).json()["data"]
        return [(job["id"], " ".join(filter(None, (job["state"], job["name"])))) for job in newest]
    return []


JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.", autocompletion=job_ids)]
