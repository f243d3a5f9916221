"""finebits version"""

from importlib.metadata import version as version_of

from service.cli.screen import Screen


def version() -> None:
    """Print the version."""
    Screen().say(f"finebits {version_of('finebits')}")
