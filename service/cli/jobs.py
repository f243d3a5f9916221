"""finebits jobs"""

from itertools import islice

import typer

from service.cli.connection import connected
from service.cli.screen import Screen
from service.client import Job


def jobs(
    context: typer.Context,
    state: str | None = typer.Option(None, help="Only those that are queued, running, succeeded, failed or cancelled."),
    limit: int = typer.Option(20, min=1, help="How many, the newest first."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """List jobs, the newest first."""
    with connected(context) as client:
        found = list(islice(client.jobs(state=state, page_size=min(limit, 100)), limit))
    screen = Screen()
    if as_json:
        screen.json(found)
    elif found:
        screen.table("Jobs", ["job", "name", "state", "created", "why it ended"], [_row(job) for job in found])
    else:
        screen.say("There are no jobs yet." if state is None else f"No job is {state}.")


def _row(job: Job) -> list[str]:
    created = job["created_at"][:19].replace("T", " ")
    return [job["id"], job.get("name") or "", job["state"], created, job.get("sentence") or job.get("reason") or ""]
