"""One thing that was looked at in an installation, how it is, and what mends it."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """From good to bad."""

    WELL = "well"
    NOTE = "note"  # nothing to mend, and worth knowing
    WARNING = "warning"  # it works, and something will not
    FAULT = "fault"  # it does not work


@dataclass(frozen=True)
class Finding:
    """`mend` is what to do, where there is something."""

    about: str
    level: Level
    said: str
    mend: str = ""


def well(about: str, said: str) -> Finding:
    return Finding(about, Level.WELL, said)


def note(about: str, said: str, mend: str = "") -> Finding:
    return Finding(about, Level.NOTE, said, mend)


def warning(about: str, said: str, mend: str) -> Finding:
    return Finding(about, Level.WARNING, said, mend)


def fault(about: str, said: str, mend: str) -> Finding:
    return Finding(about, Level.FAULT, said, mend)
