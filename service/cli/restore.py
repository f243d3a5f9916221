"""finebits restore"""

from pathlib import Path

import typer

from service import backup
from service.cli.as_json import AsJson
from service.cli.screen import Screen, give_up
from service.cli.serving import read_settings


def restore(
    folder: Path = typer.Argument(help="The folder that `finebits backup` made.", file_okay=False), as_json: AsJson = False
) -> None:
    """Put a backup where `finebits up` (FINEBITS_HOME) will look for its database and artifacts."""
    settings = read_settings()
    try:
        backup.restore(settings, folder)
    except backup.BackupError as error:
        give_up(str(error))
    if as_json:
        Screen().json({"home": str(settings.home)})
        return
    Screen().say(f"The database and the artifacts are in {settings.home}; `finebits up --home {settings.home}` serves them.")
