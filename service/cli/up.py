"""finebits up"""

import time
from pathlib import Path

import typer

from service.cli.screen import Screen
from service.cli.serving import read_settings, serving
from service.embedded import Embedded


def up(
    home: Path | None = typer.Option(None, help="The folder of all data; ./finebits-data when not given.", file_okay=False),
    port: int | None = typer.Option(None, min=0, max=65535, help="The port; 8765 when not given, 0 for a free one."),
    models: Path | None = typer.Option(None, help="The folder of models that jobs may name.", exists=True, file_okay=False),
    datasets: Path | None = typer.Option(None, help="The folder that holds data sets.", exists=True, file_okay=False),
    as_json: bool = typer.Option(False, "--json", help="Print where everything is as JSON, a line each time it changes."),
) -> None:
    """Run the whole service here: API, worker and broker, until Ctrl-C.

    Options win over FINEBITS_HOME, FINEBITS_PORT, FINEBITS_MODELS_ROOT and FINEBITS_DATASETS_ROOT.
    """
    settings = read_settings(
        home=home,
        port=port,
        models_root=models and models.absolute(),
        datasets_root=datasets and datasets.absolute(),
    )
    screen = Screen()
    try:
        with serving(settings) as service:
            _stay(service, screen, as_json)
    except KeyboardInterrupt:  # while it started, or a second time while it stopped
        pass
    _tell(screen, as_json, {"state": "stopped"}, "Finebits has stopped.")


def _stay(service: Embedded, screen: Screen, as_json: bool) -> None:
    try:
        screen.json_line(_places(service)) if as_json else _announce(service, screen)
        while True:
            service.check()
            time.sleep(0.5)
    except KeyboardInterrupt:
        sentence = "A job that runs writes a checkpoint first and goes on at the next start; Ctrl-C again cuts it short."
        _tell(screen, as_json, {"state": "stopping"}, f"\nStopping. {sentence}")


def _tell(screen: Screen, as_json: bool, document: dict[str, str], sentence: str) -> None:
    screen.json_line(document) if as_json else screen.say(sentence)


def _places(service: Embedded) -> dict[str, str]:
    settings = service.settings
    roots = {name: str(getattr(settings, name)) for name in ("home", "models_root", "datasets_root")}
    return {"state": "running", "url": service.url, "logs": str(service.logs), **roots}


def _announce(service: Embedded, screen: Screen) -> None:
    settings = service.settings
    screen.say(f"Finebits is at {service.url}")
    screen.say(f"  data      {settings.home}")
    screen.say(f"  models    {settings.models_root}")
    screen.say(f"  data sets {settings.datasets_root}")
    screen.say(f"  logs      {service.logs}")
    if settings.api_key is None:
        screen.say("It listens on this machine only and is open to all who can reach it here, since FINEBITS_API_KEY is not set.")
    screen.say("Ctrl-C stops it.")
