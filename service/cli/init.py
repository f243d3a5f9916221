"""finebits init"""

from pathlib import Path

import typer

from service import dotenv
from service.cli.as_json import AsJson
from service.cli.screen import Screen, give_up


def init(
    file: Path = typer.Option(dotenv.FOLDER / ".env", help="The file; .env beside docker-compose.yml.", show_default=False),
    data: Path = typer.Option(dotenv.FOLDER / "finebits-data", help="Where artifacts are kept.", show_default=False),
    models: Path | None = typer.Option(None, help="The models that jobs may name; the examples when not given."),
    datasets: Path | None = typer.Option(None, help="The folder that holds data sets; the examples when not given."),
    force: bool = typer.Option(False, "--force", help="Write another where there is one, which is kept beside it."),
    as_json: AsJson = False,
) -> None:
    """Write .env with fresh secrets, for `docker compose up`."""
    try:
        told = dotenv.write(file, dotenv.folders(data, models, datasets), force)
    except dotenv.DotenvError as error:
        give_up(str(error))
    if as_json:
        Screen().json({"file": str(file), "told": told})
    else:
        Screen().say(told)
