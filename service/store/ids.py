"""Ids that nobody can guess: a kind, and 96 random bits.

The system is asked for many at once: each question lets go of the interpreter's lock, and in a thread that writes for many
requests at a time, getting it back takes longer than all else that an id needs.
"""

import os
import threading

N_BYTES = 12
AT_ONCE = 256


class _Random:
    """The system's random bytes, none of them given out twice."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left = b""

    def take(self) -> bytes:
        with self._lock:
            if not self._left:
                self._left = os.urandom(N_BYTES * AT_ONCE)
            taken, self._left = self._left[:N_BYTES], self._left[N_BYTES:]
            return taken

    def forget(self) -> None:
        """In a child that was forked: it would give out the same as its parent."""
        self._lock = threading.Lock()
        self._left = b""


_random = _Random()
os.register_at_fork(after_in_child=_random.forget)


def new_id(kind: str) -> str:
    return f"{kind}-{_random.take().hex()}"
