"""finebits submit FILE"""

import json
from pathlib import Path
from typing import Any

import typer

from service.cli.as_json import AsJson
from service.cli.connection import connected
from service.cli.exit_codes import ExitCode
from service.cli.following import queued
from service.cli.plan import show_plan
from service.cli.screen import Screen, give_up


def submit(
    context: typer.Context,
    file: Path = typer.Argument(exists=True, dir_okay=False, help="A job as JSON or YAML, in groups or flat."),
    watch: bool = typer.Option(False, "--watch", "-w", help="Show the job until it ends; its end is the exit code."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Say what would run, and run nothing."),
    changes: list[str] = typer.Option(
        [], "--set", metavar="KEY=VALUE", help="Change an argument, such as training.learning_rate=0.001; may be repeated."
    ),
    as_json: AsJson = False,
) -> None:
    """Submit a job. The file is sent as it is, unless --set changes it."""
    screen = Screen()
    document = changed(read(file), changes) if changes else file
    with connected(context) as client:
        if dry_run:
            plan = client.submit(document, dry_run=True)
            screen.json(plan) if as_json else show_plan(screen, plan)
            return
        queued(client, client.submit(document), screen, watch, as_json)


def read(file: Path) -> Any:
    import yaml  # here, since most jobs are sent as they are

    try:
        text = file.read_text(encoding="utf-8")
        return json.loads(text) if file.suffix.lower() == ".json" else yaml.safe_load(text)
    except (UnicodeDecodeError, json.JSONDecodeError, yaml.YAMLError) as error:
        give_up(f"{file} cannot be read: {error}", ExitCode.USAGE)


def changed(document: Any, changes: list[str]) -> Any:
    """The document with each `group.key=value` put in its place; in lists, the place is a number: steps.0.name=..."""
    for change in changes:
        path, equals, value = change.partition("=")
        if not equals or not path:
            give_up(f"--set {change}: write it as key=value, such as training.learning_rate=0.001", ExitCode.USAGE)
        *parents, last = path.split(".")
        try:
            place = document
            for key in parents:
                place = place[int(key)] if isinstance(place, list) else place.setdefault(key, {})
            place[int(last) if isinstance(place, list) else last] = number_or_text(value)
        except (AttributeError, IndexError, TypeError, ValueError):
            give_up(f"--set {change}: there is no such place in the file", ExitCode.USAGE)
    return document


def number_or_text(value: str) -> Any:
    """As JSON where it is JSON, as text where it is not: 1e-3 is a number, cosine is a text, and so is "1" with its quotes."""
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value
