"""What may have been meant by a name that there is not."""

from collections.abc import Iterable
from difflib import get_close_matches


def no_such(kind: str, name: str, known: Iterable[str]) -> str:
    """A sentence with the nearest names that there are, or with all of them where none is near."""
    names = list(known)
    near = get_close_matches(name, names, n=3)
    offered = f"the nearest are {', '.join(near)}" if len(near) > 1 else f"the nearest is {near[0]}" if near else ""
    return f"There is no {kind} {name!r}; {offered or 'there are ' + ', '.join(names)}."
