"""finebits patch JOB"""

from typing import Any

import typer

from service.cli.as_json import AsJson
from service.cli.connection import connected
from service.cli.job_id import JobId
from service.cli.screen import Screen, give_up


def patch(
    context: typer.Context,
    job_id: JobId,
    priority: int | None = typer.Option(None, min=-100, max=100, help="Higher goes first."),
    name: str | None = typer.Option(None, help="Another name."),
    label: list[str] = typer.Option([], help="key=value to set, key= to take away; may be given again."),
    as_json: AsJson = False,
) -> None:
    """Change a job's priority, name or labels."""
    changes: dict[str, Any] = {}
    if priority is not None:
        changes["priority"] = priority
    if name is not None:
        changes["name"] = name
    if label:
        changes["labels"] = dict(map(_label, label))
    if not changes:
        give_up("Give --priority, --name or --label.", 2)
    with connected(context) as client:
        job = client.change(job_id, changes)
    if as_json:
        Screen().json(job)
        return
    labels = " ".join(f"{key}={value}" for key, value in job["labels"].items())
    told = [f"priority {job['priority']}", *([f"name {job['name']}"] if job["name"] else []), *([labels] if labels else [])]
    Screen().say(f"{job_id}: {', '.join(told)}")


def _label(text: str) -> tuple[str, str | None]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        give_up(f"{text!r} is not key=value.", 2)
    return key, value or None
