"""A job as it goes on: a bar with its step, loss, speed and time left, and its events above it.

Where there is no terminal, lines; with --json, an object a line.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from service.cli.exit_codes import OF_STATE, ExitCode
from service.cli.plot import sparkline
from service.cli.screen import Screen, plain

if TYPE_CHECKING:
    from service.client import Client, Event, Job, Progress, Sighting

ENDED = frozenset(OF_STATE)
LINE_SECONDS = 5  # between lines of progress where there is no bar
LOSSES = 400  # of which the small plot is made

Show = Callable[["Job"], None]


def follow(sightings: "Iterable[Sighting]", screen: Screen, on_event: "Callable[[Event], None] | None" = None) -> "Job":
    """Shows a watched job until it has ended; the job as it is then. `on_event` is called after an event is shown."""
    job: Job | None = None
    with _display(screen) as show:
        for sighting in sightings:
            job = sighting.job
            for event in sighting.events:
                screen.say(f"{event['at'][11:19]}  {event['message']}")
                if on_event is not None:
                    on_event(event)
            show(job)
    assert job is not None, "a job that is watched is seen at least once"
    return job


def follow_as_json(sightings: "Iterable[Sighting]", screen: Screen) -> "Job":
    """The same for programs: {"event": ...} and {"progress": ...} as they come, and {"job": ...} at the end."""
    job: Job | None = None
    progress: Any = None
    for sighting in sightings:
        job = sighting.job
        for event in sighting.events:
            screen.json_line({"event": event})
        if job.get("progress") not in (None, progress):
            progress = job["progress"]
            screen.json_line({"progress": progress})
    assert job is not None, "a job that is watched is seen at least once"
    screen.json_line({"job": job})
    return job


def follow_to_exit(client: "Client", job_id: str, screen: Screen, as_json: bool = False) -> None:
    """Shows a job to its end, which is the command's exit code. Ctrl-C only ends the looking."""
    try:
        job = follow_as_json(client.watch(job_id), screen) if as_json else follow(client.watch(job_id), screen)
    except KeyboardInterrupt:
        told = f"\nThe job goes on. To see it again, and to end it:\n  finebits watch {job_id}\n  finebits cancel {job_id}"
        typer.echo(told, err=as_json)
        raise typer.Exit(int(ExitCode.INTERRUPTED)) from None
    if not as_json:
        screen.say(outcome(job), style="green" if job["state"] == "succeeded" else "red")
    raise typer.Exit(int(OF_STATE[job["state"]]))


def queued(client: "Client", job: "Job", screen: Screen, watch: bool, as_json: bool) -> None:
    """Says that a job was submitted; and then, where it is wished, follows it."""
    if as_json and watch:
        screen.json_line({"job": job})
    elif as_json:
        screen.json(job)
    else:
        screen.say(f"{job['id']} is {job['state']}.")
    if watch:
        follow_to_exit(client, job["id"], screen, as_json)


def outcome(job: "Job") -> str:
    """How a job ended, and why."""
    why = ": ".join(word for word in (job.get("reason"), job.get("sentence")) if word)
    return f"{job['id']} {job['state']}{f' ({why})' if why else ''}"


@contextmanager
def _display(screen: Screen) -> Iterator[Show]:
    if not screen.can_move:
        yield _lines(screen)
        return
    from rich.live import Live

    losses: dict[int, float] = {}
    with Live(console=screen.console, transient=True, refresh_per_second=4) as live:

        def show(job: "Job") -> None:
            progress = job.get("progress") or {}
            if progress.get("loss") is not None and len(losses) < LOSSES:
                losses[progress.get("global_step") or 0] = progress["loss"]
            live.update(bar(job, screen.width, list(losses.values())))

        yield show


def bar(job: "Job", width: int, losses: list[float]) -> Any:
    """The step with a bar, then its numbers and the loss until now as a small plot: whatever does not fit beside goes below."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    progress = job.get("progress") or {}
    total, head, words = progress.get("max_steps"), plain(heading(job)), numbers(progress)
    line = Text(head)
    if not total:
        return line
    beside = Table.grid(padding=(0, 1))
    beside.add_row(line, ProgressBar(total=total, completed=progress.get("global_step") or 0, width=min(40, width // 3)))
    room = width - len(words) - 2
    plot = sparkline(losses, min(20, room)) if len(losses) > 1 else ""
    return Group(beside, Text(f"{words}  {plot}".rstrip()))


def _lines(screen: Screen) -> Show:
    """Says the progress when it has changed, but not too often."""
    said, at = "", 0.0

    def show(job: "Job") -> None:
        nonlocal said, at
        line = f"{heading(job)}: {numbers(job.get('progress') or {})}".rstrip(": ")
        if line not in (said, "running") and time.monotonic() - at >= LINE_SECONDS and job["state"] not in ENDED:
            screen.say(line)
            said, at = line, time.monotonic()

    return show


def heading(job: "Job") -> str:
    """The step and where it stands among the others, or what the job waits for."""
    progress = job.get("progress") or {}
    if job["state"] == "queued":
        return progress.get("held") or "waiting for a worker"
    if job["state"] != "running" or not progress.get("step"):
        return job["state"]
    place = f" {progress['position']}/{progress['steps']}" if progress.get("steps", 1) > 1 else ""
    return f"{progress['step']}{place} {progress.get('phase') or ''}".rstrip()


def numbers(progress: "Progress") -> str:
    """ "40/400  loss 3.214  12,300 tokens/s  0:35 left", as far as it is known."""
    words = []
    if progress.get("max_steps"):
        words.append(f"{progress.get('global_step') or 0}/{progress['max_steps']}")
    if progress.get("loss") is not None:
        words.append(f"loss {progress['loss']:.3f}")
    if progress.get("tokens_per_second") is not None:
        words.append(f"{progress['tokens_per_second']:,.0f} tokens/s")
    if progress.get("eta_seconds") is not None:
        words.append(f"{clock(progress['eta_seconds'])} left")
    return "  ".join(words)


def clock(seconds: float) -> str:
    """65 -> 1:05; 3600 -> 1:00:00"""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
