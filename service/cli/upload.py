"""finebits upload FILE"""

import json
from pathlib import Path

import typer

from service.cli.as_json import AsJson
from service.cli.connection import connected
from service.cli.exit_codes import ExitCode
from service.cli.screen import Screen, give_up


def upload(
    context: typer.Context,
    file: Path = typer.Argument(exists=True, dir_okay=False, help="Rows as .jsonl, .json, .csv, .parquet, .arrow or .txt."),
    name: str | None = typer.Option(None, help="What jobs call it; the file's name without its ending, when not given."),
    entry: str = typer.Option("{}", help="How its rows read, as JSON, as in dataset_info.json; else the first row tells."),
    as_json: AsJson = False,
) -> None:
    """Send a data set, or a new version of one; a connection that breaks is gone on with."""
    try:
        given = json.loads(entry)
    except json.JSONDecodeError as error:
        give_up(f"--entry is not JSON: {error}", ExitCode.USAGE)
    screen = Screen()
    with connected(context) as client:
        version = client.upload(name or file.stem, file, given)
    if as_json:
        screen.json(version)
    else:
        rows = "" if version["rows"] is None else f", {version['rows']} rows"
        screen.say(f"{version['name']}@{version['version']} is here ({version['size']} bytes{rows}).")
