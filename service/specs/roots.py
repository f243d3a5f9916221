"""Names inside the operator's folders. A spec names models and data sets; nothing it says leaves these roots."""

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

# A repository's name on a hub: name, or owner/name.
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)


class OutsideRoot(ValueError):
    """A path that would leave its root."""


def inside(root: Path, name: str) -> Path:
    """The path of `name` under `root`, links followed. Raises OutsideRoot, also for a name that no file can have."""
    if "\0" in name:
        raise OutsideRoot("A path may not hold a null byte.")
    resolved_root = root.resolve()
    try:
        path = (resolved_root / name).resolve()
        if Path(name).is_absolute() or not path.is_relative_to(resolved_root):
            raise OutsideRoot(f"{name!r} leaves its folder; give a name inside it.")
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            path.stat()  # names that are too long and links in a circle are found out by asking
    except (OSError, RuntimeError, UnicodeEncodeError):
        raise OutsideRoot("No file can have this name; give a name inside the folder.") from None
    return path


def meets(folder: Path, others: Iterable[Path]) -> bool:
    """Whether the folder lies in one of the others, or one of them in it, links followed."""
    own = folder.resolve()
    return any(own.is_relative_to(other) or other.is_relative_to(own) for other in (path.resolve() for path in others))


def is_repository(name: str) -> bool:
    """Whether a hub could have something of that name."""
    return bool(_REPOSITORY.fullmatch(name)) and ".." not in name and "--" not in name


def is_own_repository(name: str) -> bool:
    """Whether a hub would make a repository of that name under an owner's."""
    return is_repository(name) and name.count("/") == 1 and not name.endswith((".git", ".", "-"))
