"""Several things at the same moment."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

Result = TypeVar("Result")


def at_once(*calls: Callable[[], Result], within_seconds: float = 120) -> Sequence[Result | Exception]:
    """What each call gives back or raises, all having been let go together. One that hangs is a failure, not a wait."""
    start = threading.Barrier(len(calls))
    outcomes: dict[int, Result | Exception] = {}

    def run(index: int, call: Callable[[], Result]) -> None:
        start.wait()
        try:
            outcomes[index] = call()
        except Exception as error:
            outcomes[index] = error

    threads = [threading.Thread(target=run, args=pair, daemon=True) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + within_seconds
    for thread in threads:
        thread.join(max(0, deadline - time.monotonic()))
    hanging = [index for index in range(len(calls)) if index not in outcomes]
    assert not hanging, f"Calls {hanging} of {len(calls)} hang."
    return [outcomes[index] for index in range(len(calls))]
