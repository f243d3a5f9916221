"""finebits backup"""

from pathlib import Path

import typer

from service.backup import BackupError, save
from service.cli.as_json import AsJson
from service.cli.screen import Screen, give_up
from service.cli.serving import read_settings


def backup(folder: Path = typer.Argument(help="A new folder for the copy.", file_okay=False), as_json: AsJson = False) -> None:
    """Copy the database and the artifacts of `finebits up` (FINEBITS_HOME) into a new folder, also while it runs."""
    settings = read_settings()
    try:
        save(settings, folder)
    except BackupError as error:
        give_up(str(error))
    if as_json:
        Screen().json({"folder": str(folder), "artifacts_stay_in": settings.artifacts_url or None})
    elif settings.artifacts_url:
        Screen().say(
            f"The database is in {folder}. The artifacts stay in {settings.artifacts_url}, and no copy was made of them."
        )
    else:
        Screen().say(f"The database and the artifacts are in {folder}.")
