"""finebits download JOB NAME..."""

from pathlib import Path

import typer

from service.cli.connection import connected
from service.cli.job_id import JobId
from service.cli.screen import Screen


def download(
    context: typer.Context,
    job_id: JobId,
    names: list[str] = typer.Argument(
        None, metavar="NAME...", help="Files, or folders of them; without one, lists what there is."
    ),
    to: Path = typer.Option(Path("."), help="The folder that they are written to."),
    as_json: bool = typer.Option(False, "--json", help="Print the list, or where the files are now, as JSON."),
) -> None:
    """Fetch what a job made, each file held against its SHA-256; an earlier try is gone on with."""
    screen = Screen()
    with connected(context) as client:
        made = client.artifacts(job_id)
        if not names:
            rows = [[one["name"], f"{one['size']:,}", one["sha256"][:12]] for one in made]
            screen.json(made) if as_json else screen.table("Files", ["name", "bytes", "sha256"], rows)
            return
        fetched = []
        for name in names:
            for file, folder in _places(name, [one["name"] for one in made], to):
                folder.mkdir(parents=True, exist_ok=True)
                fetched.append(str(client.download(job_id, file, folder)))
                if not as_json:
                    screen.say(fetched[-1])
        if as_json:
            screen.json({"fetched": fetched})


def _places(name: str, made: list[str], to: Path) -> list[tuple[str, Path]]:
    """Each file that the name stands for, with the folder it goes to: those of a folder lie as they do there."""
    above = name.rstrip("/") + "/"
    inside = [file for file in made if file.startswith(above)]
    return [(file, to / Path(name).name / Path(file.removeprefix(above)).parent) for file in inside] or [(name, to)]
