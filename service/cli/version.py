"""finebits version"""

from importlib.metadata import version as version_of

from service.cli.as_json import AsJson
from service.cli.screen import Screen


def version(as_json: AsJson = False) -> None:
    """Print the version."""
    number = version_of("finebits")
    if as_json:
        Screen().json({"version": number})
    else:
        Screen().say(f"finebits {number}")
