"""A job as it goes on: a bar with its step, loss and speed, and its events above it. Where there is no terminal, lines."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from service import client as finebits
from service.cli.screen import Screen, plain
from service.client import Client, Event, Job, Sighting

EXIT_CODES = {"succeeded": 0, "failed": 1, "cancelled": 2}
LINE_SECONDS = 5  # between lines of progress where there is no bar

Show = Callable[[Job], None]


def follow(sightings: Iterable[Sighting], screen: Screen, on_event: Callable[[Event], None] | None = None) -> Job:
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


def follow_to_exit(client: Client, job_id: str, screen: Screen) -> None:
    """Shows a job to its end, which is the command's exit code. Ctrl-C only ends the looking."""
    try:
        job = follow(client.watch(job_id), screen)
    except KeyboardInterrupt:
        screen.say(f"\nThe job goes on. See it with `finebits watch {job_id}`, end it with `finebits cancel {job_id}`.")
        raise typer.Exit(130) from None
    screen.say(outcome(job), style="green" if job["state"] == "succeeded" else "red")
    raise typer.Exit(EXIT_CODES[job["state"]])


def outcome(job: Job) -> str:
    """How a job ended, and why."""
    why = ": ".join(word for word in (job.get("reason"), job.get("sentence")) if word)
    return f"{job['id']} {job['state']}{f' ({why})' if why else ''}"


@contextmanager
def _display(screen: Screen) -> Iterator[Show]:
    if not screen.is_terminal:
        yield _lines(screen)
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[numbers]}", markup=False))
    with Progress(*columns, console=screen.console, transient=True) as bar:
        task = bar.add_task("", total=None, numbers="")
        yield lambda job: _move(bar, task, job)


def _move(bar: Progress, task: TaskID, job: Job) -> None:
    progress = job.get("progress") or {}
    total = progress.get("max_steps") or None
    bar.update(
        task, description=plain(heading(job)), total=total, completed=progress.get("global_step") or 0, numbers=numbers(progress)
    )


def _lines(screen: Screen) -> Show:
    """Says the progress when it has changed, but not too often."""
    said, at = "", 0.0

    def show(job: Job) -> None:
        nonlocal said, at
        line = f"{heading(job)}: {numbers(job.get('progress') or {})}".rstrip(": ")
        if line not in (said, "running") and time.monotonic() - at >= LINE_SECONDS and job["state"] not in finebits.ENDED:
            screen.say(line)
            said, at = line, time.monotonic()

    return show


def heading(job: Job) -> str:
    """The step and where it stands among the others, or what the job waits for."""
    progress = job.get("progress") or {}
    if job["state"] == "queued":
        return progress.get("held") or "waiting for a worker"
    if job["state"] != "running" or not progress.get("step"):
        return job["state"]
    place = f" {progress['position']}/{progress['steps']}" if progress.get("steps", 1) > 1 else ""
    return f"{progress['step']}{place} {progress.get('phase') or ''}".rstrip()


def numbers(progress: finebits.Progress) -> str:
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
