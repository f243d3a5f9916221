"""finebits data: what there is to train on."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.as_json import AsJson
from service.cli.connection import connected
from service.cli.exit_codes import ExitCode
from service.cli.lazy import app_of
from service.cli.screen import Screen
from service.cli.upload import upload

if TYPE_CHECKING:
    from service.client import Dataset, DatasetVersion, Validation

app = app_of("List, upload, look at, validate and delete data sets.")

Name = Annotated[str, typer.Argument(metavar="DATASET", help="A name in dataset_info.json, or of one that was uploaded.")]

app.command()(upload)


@app.command("list")
def list_datasets(context: typer.Context, as_json: AsJson = False) -> None:
    """List the data sets that jobs may name: the operator's, and your own."""
    with connected(context) as client:
        found = client.datasets()
    screen = Screen()
    if as_json:
        screen.json(found)
    elif found:
        screen.table("Data sets", ["data set", "holds", "rows", "version", "files", "trouble"], [_row(one) for one in found])
    else:
        screen.say("There are no data sets. `finebits data upload FILE` sends one.")


@app.command()
def preview(
    context: typer.Context,
    name: Name,
    rows: int = typer.Option(3, min=1, max=100, help="How many, from the first."),
    as_json: AsJson = False,
) -> None:
    """Show the first rows as they are in the file. `finebits inspect` shows what a model is given of them."""
    with connected(context) as client:
        found = client.preview_dataset(name, rows)
    screen = Screen()
    if as_json:
        screen.json(found)
        return
    for row in found["data"]:
        screen.pairs(f"{row['file']}, row {row['row']}", [(key, _shown(value)) for key, value in row["values"].items()])


@app.command()
def validate(
    context: typer.Context,
    name: Name,
    limit: int = typer.Option(100, min=1, max=1000, help="Stop after so many faults."),
    as_json: AsJson = False,
) -> None:
    """Read every row, and say of each fault the file, the row and the column; exits with 1 where there is one."""
    with connected(context) as client:
        found = client.validate(name, limit)
    screen = Screen()
    screen.json(found) if as_json else _tell_faults(screen, found)
    if found["faults"]:
        raise typer.Exit(int(ExitCode.FAILED))


@app.command()
def versions(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """List the versions of one that was uploaded, the newest first."""
    with connected(context) as client:
        found = client.versions(name)
    screen = Screen()
    if as_json:
        screen.json(found)
    else:
        screen.table("Versions", ["version", "rows", "bytes", "created", "file"], [_version(one) for one in found])


@app.command()
def delete(
    context: typer.Context,
    name: str = typer.Argument(metavar="DATASET", help="One that was uploaded, with all its versions; or name@version."),
    yes: bool = typer.Option(False, "--yes", "-y", help="Do not ask."),
    as_json: AsJson = False,
) -> None:
    """Delete one that was uploaded. Refused while a job that has not ended needs it."""
    if not yes:
        typer.confirm(f"Delete {name}?", abort=True, err=True)
    with connected(context) as client:
        client.delete_dataset(name)
    Screen().json({"name": name, "deleted": True}) if as_json else Screen().say(f"{name} is deleted.")


@app.command()
def download(
    context: typer.Context,
    name: str = typer.Argument(metavar="DATASET", help="One that was uploaded, or name@version."),
    to: Path = typer.Option(Path("."), help="A file, or a folder that it is written to."),
    as_json: AsJson = False,
) -> None:
    """Fetch one that was uploaded, as it came."""
    with connected(context) as client:
        path = client.download_dataset(name, to)
    Screen().json({"fetched": [str(path)]}) if as_json else Screen().say(str(path))


def _row(one: "Dataset") -> list[str]:
    rows = "" if one["rows"] is None else str(one["rows"])
    return [one["name"], one["holds"] or "", rows, one["version"] or "", " ".join(one["files"]), one["trouble"] or ""]


def _version(one: "DatasetVersion") -> list[str]:
    rows = "" if one["rows"] is None else str(one["rows"])
    return [one["version"], rows, f"{one['size']:,}", one["created_at"][:19].replace("T", " "), one["file_name"]]


def _tell_faults(screen: Screen, found: "Validation") -> None:
    for fault in found["faults"]:
        places = {"row": fault["row"], "line": fault["line"] if fault["row"] is None else None, "column": fault["column"]}
        place = "".join(f", {name} {value}" for name, value in places.items() if value is not None)
        screen.say(f"{fault['file']}{place}: {fault['detail']}")
    read = f"{found['rows']} rows were read"
    if not found["faults"]:
        screen.say(f"{read}, and nothing is wrong.", style="green")
    else:
        screen.say(f"{read}; {len(found['faults'])} faults{'' if found['is_whole'] else ', and perhaps more'}.", style="red")


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
