"""What was found out moments ago: the jobs of a sweep come one after another and ask the same of the same workers and files."""

import time
from collections.abc import Callable, Hashable
from typing import Any


class Lately:
    """Answers that are no older than so many seconds. Two that ask at once may both find it out."""

    def __init__(self, seconds: float = 1.0, most: int = 1000):
        self._seconds = seconds
        self._most = most
        self._found: dict[Hashable, tuple[float, Any]] = {}

    def of(self, what: Hashable, find_out: Callable[[], Any], anew: bool = False) -> Any:
        """What `find_out` answers, or answered lately. What it raises is not kept."""
        known = self._found.get(what)
        if not anew and known is not None and time.monotonic() - known[0] < self._seconds:
            return known[1]
        answer = find_out()
        if len(self._found) >= self._most:
            self._found.clear()
        self._found[what] = (time.monotonic(), answer)
        return answer
