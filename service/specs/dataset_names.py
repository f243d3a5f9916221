"""What an uploaded data set is called: a name, and with "@" a version of it."""

import re

from service.specs.file_names import is_file

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_NAME, _VERSION = re.compile(NAME), re.compile(r"[0-9a-f]{12}")


def is_name(text: str) -> bool:
    """Whether a data set may be called so. What looks like the id of a file is one."""
    return _NAME.fullmatch(text) is not None and not is_file(text)


def parts(text: str) -> tuple[str, str | None] | None:
    """(name, version); the version None where none is named. None where an uploaded data set has no such name."""
    name, at, version = text.partition("@")
    if not is_name(name) or (at and _VERSION.fullmatch(version) is None):
        return None
    return name, version or None
