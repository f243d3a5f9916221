"""finebits show JOB"""

from typing import TYPE_CHECKING, Any

import typer

from service.cli.as_json import AsJson
from service.cli.connection import connected
from service.cli.following import heading, numbers
from service.cli.job_id import JobId
from service.cli.measured import HEADLINES, cell
from service.cli.plot import sparkline
from service.cli.screen import Screen

if TYPE_CHECKING:
    from service.client import Client, Job, Measured

POINTS = 400  # of a series, for a plot of a line


def show(
    context: typer.Context,
    job_id: JobId,
    spec: bool = typer.Option(False, "--spec", help="Only the document as it came."),
    resolved: bool = typer.Option(False, "--resolved", help="Only the job as it runs: every argument of every step."),
    as_json: AsJson = False,
) -> None:
    """Show a job: where it stands, its steps, its loss, and what was measured last."""
    screen = Screen()
    with connected(context) as client:
        job = client.job(job_id)
        if spec or resolved:
            _print_document(screen, job["spec"] if spec else job["resolved"], as_json)
        elif as_json:
            screen.json(job)
        else:
            _print(screen, job, _losses(client, job), client.metrics(job_id))


def _print_document(screen: Screen, document: Any, as_json: bool) -> None:
    if as_json:
        screen.json(document)
        return
    import yaml  # here, since little needs it

    screen.say(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=screen.width).rstrip())


def _print(screen: Screen, job: "Job", losses: dict[str, list[float]], measured: "list[Measured]") -> None:
    screen.pairs(job["id"], _about(job))
    screen.table("Steps", ["step", "does", "done", "makes"], [_step(step) for step in job["steps"]])
    for step, values in losses.items():
        width = max(min(screen.width - len(step) - 30, 60), 10)
        screen.say(f"{step}  loss {values[0]:.4g} {sparkline(values, width)} {values[-1]:.4g}")
    last = _last_of_steps(measured)
    if last:
        names = [name for name in HEADLINES if any(name in row["measures"] for row in last)]
        rows = [
            [f"{row['step']} {row['checkpoint']}, {row['split']}", *(cell(row["measures"].get(name)) for name in names)]
            for row in last
        ]
        screen.numbers("Measured last, ± standard error", ["checkpoint", *names], rows)
    for row in last:
        for alert in row.get("alerts", []):
            screen.say(f"alert at {row['step']} {row['checkpoint']}: {alert['alert']}. {alert['suggests'] or ''}", style="red")


def _about(job: "Job") -> list[tuple[str, str]]:
    labels = " ".join(f"{key}={value}" for key, value in job.get("labels", {}).items())
    place = "" if job.get("position") is None else f"{job['position']}, begins {_time(job.get('estimated_start')) or 'some day'}"
    progress = job.get("progress") or {}
    now = f"{heading(job)}  {numbers(progress)}".strip() if job["state"] in ("queued", "running") else ""
    wishes = {"be cancelled": job.get("cancel_requested"), "be paused": job.get("pause_requested")}
    lost = f", of which {job['lost']} lost their worker" if job.get("lost") else ""
    return [
        ("name", job.get("name") or ""),
        ("state", job["state"]),
        ("why", ": ".join(filter(None, (job.get("reason"), job.get("sentence"))))),
        ("where", ", ".join(f"{key} {value}" for key, value in (job.get("details") or {}).items())),
        ("now", now),
        ("in the line", place),
        ("will", " and ".join(wish for wish, is_wished in wishes.items() if is_wished)),
        ("labels", labels),
        ("owner", job.get("owner") or ""),
        ("queue", f"{job.get('queue')}, priority {job.get('priority')}"),
        ("attempts", f"{job.get('attempt') or ''}{lost}"),
        ("created", _time(job["created_at"])),
        ("started", _time(job.get("started_at"))),
        ("ended", _time(job.get("finished_at"))),
        ("notices", "\n".join(f"{notice['pointer']}: {notice['detail']}" for notice in job.get("notices", []))),
    ]


def _time(moment: str | None) -> str:
    return "" if moment is None else moment[:19].replace("T", " ")


def _step(step: Any) -> list[str]:
    does = step["do"] if step["do"] != "train" else f"{step['stage']} {step['finetuning_type']}"
    return [step["name"], does, _time(step["finished_at"]), step["output"] or ""]


def _losses(client: "Client", job: "Job") -> dict[str, list[float]]:
    """The training loss of each step that has one."""
    with_loss = [one["pipeline_step"] for one in client.series_names(job["id"]) if "loss" in one["names"]]
    found = {step: client.series(job["id"], "loss", step=step, points=POINTS)["value"] for step in with_loss}
    return {step: values for step, values in found.items() if values}


def _last_of_steps(measured: "list[Measured]") -> "list[Measured]":
    return list({(row["step"], row["split"]): row for row in measured}.values())
