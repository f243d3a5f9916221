"""finebits jobs"""

from itertools import islice
from typing import TYPE_CHECKING

import typer

from service.cli.as_json import AsJson
from service.cli.connection import connected
from service.cli.following import ENDED, heading, numbers
from service.cli.screen import Screen

if TYPE_CHECKING:
    from service.client import Job


def jobs(
    context: typer.Context,
    state: str | None = typer.Option(None, help="Only those that are queued, running, paused, succeeded, failed or cancelled."),
    label: list[str] = typer.Option([], help="Only those with key=value; may be given again."),
    limit: int = typer.Option(20, min=1, help="How many, the newest first."),
    as_json: AsJson = False,
) -> None:
    """List jobs, the newest first."""
    labels = {key: value for key, _, value in (one.partition("=") for one in label)}
    with connected(context) as client:
        found = list(islice(client.jobs(state=state, labels=labels, page_size=min(limit, 100)), limit))
    screen = Screen()
    if as_json:
        screen.json(found)
    elif found:
        screen.table("Jobs", ["job", "name", "state", "created", "how it goes"], [_row(job) for job in found])
    else:
        screen.say("There are no jobs yet." if state is None and not label else f"No job is {state or ' '.join(label)}.")


def _row(job: "Job") -> list[str]:
    created = job["created_at"][:19].replace("T", " ")
    return [job["id"], job.get("name") or "", job["state"], created, how_it_goes(job)]


def how_it_goes(job: "Job") -> str:
    """Why it ended; or where it stands."""
    if job["state"] in ENDED:
        return job.get("sentence") or job.get("reason") or ""
    if not job.get("progress"):
        return ""
    words = heading(job)
    return f"{'' if words == job['state'] else words}  {numbers(job['progress'] or {})}".strip()
