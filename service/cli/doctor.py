"""finebits doctor"""

import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import TYPE_CHECKING

import typer

from service.cli.as_json import AsJson
from service.cli.connection import Connection
from service.cli.exit_codes import ExitCode
from service.cli.screen import STYLES, Screen

if TYPE_CHECKING:
    from service.checkup.finding import Finding

OF_LEVEL = {"fault": ExitCode.FAILED, "warning": ExitCode.WARNED}


def doctor(context: typer.Context, as_json: AsJson = False) -> None:
    """Say what is wrong with this installation, and how to mend it.

    It looks with the settings of this environment, changes nothing, and needs neither torch nor a service that runs. Exits with 1
    where something is broken, with 6 where something should be looked at.
    """
    screen = Screen()
    found: list[Finding] = []
    for finding in checkup(context.obj):
        found.append(finding)
        if not as_json:
            _show(screen, finding)
    levels = {finding.level.value for finding in found}
    if as_json:
        screen.json([vars(finding) for finding in found])
    elif not levels & OF_LEVEL.keys():
        screen.say("Nothing is wrong.", style="green")
    raise typer.Exit(int(next((code for level, code in OF_LEVEL.items() if level in levels), ExitCode.WELL)))


def checkup(connection: Connection) -> "Iterator[Finding]":
    """Every finding, as it is found. A check that breaks is a fault itself."""
    from pydantic import ValidationError

    from service.checkup import gpus, memory, places, running
    from service.checkup.finding import fault, well
    from service.settings import Settings

    number = version("finebits")
    yield well("version", f"Finebits {number}, Python {sys.version.split()[0]}, {sys.prefix}")
    yield from _whatever_breaks("GPUs", gpus.gpus)
    try:
        settings = Settings()
    except ValidationError as error:
        for details in error.errors(include_url=False):
            variable = "FINEBITS_" + ".".join(map(str, details["loc"])).upper() if details["loc"] else "settings"
            yield fault(variable, details["msg"], "Correct it in the environment; docs/reference/settings.md has every setting.")
    else:
        yield from _whatever_breaks("folders", lambda: places.places(settings))
        yield from _whatever_breaks("database", lambda: memory.database(settings))
        yield from _whatever_breaks("broker", lambda: memory.broker(settings))
    yield from _whatever_breaks("service", lambda: running.running(connection.url, connection.api_key, number))


def _whatever_breaks(about: str, check: "Callable[[], Iterator[Finding]]") -> "Iterator[Finding]":
    from service.checkup.finding import fault

    try:
        yield from check()
    except Exception as error:
        said = f"It cannot be looked at: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        yield fault(about, said, "What it says may name the cause; if not, it is a fault of ours.")


def _show(screen: Screen, finding: "Finding") -> None:
    screen.hanging(f"{finding.level.value:8} {finding.about}: {finding.said}", 9, STYLES.get(finding.level.value))
    if finding.mend:
        screen.hanging(f"{'':8} → {finding.mend}", 11)
