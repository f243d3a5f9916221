"""A wish that is heard in the midst of a library's work, which knows of no wishes: loading, merging, rounding, hashing."""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from worker.run import Run, Stopped

_SIGNAL = signal.SIGUSR1
_LOOK_SECONDS = 0.2  # between looks for a wish
_AGAIN_SECONDS = 2.0  # where a library has swallowed it


class _Interrupted(BaseException):
    """No Exception: what catches all of those would take it for a fault of a file."""


@contextmanager
def interruptible(run: Run) -> Iterator[None]:
    """Inside, a wish raises Stopped wherever the main thread is, within a second where that is not one long operation of torch's.

    For work that leaves nothing behind which cannot be thrown away. Nothing may be told inside: half a message would be in the
    pipe. Elsewhere than in a process's main thread a wish is heard before and after alone.
    """
    run.check()
    if threading.current_thread() is threading.main_thread():
        with _interrupted_by(run):
            yield
    else:
        yield
    run.check()


@contextmanager
def _interrupted_by(run: Run) -> Iterator[None]:
    over, lost = threading.Event(), threading.Event()

    def hear(*_: Any) -> None:
        if not over.is_set():
            raise _Interrupted

    def unraisable(what: Any) -> None:
        """Of what is raised in a finalizer or in a callback of the garbage collector, Python tells this hook alone."""
        if isinstance(what.exc_value, _Interrupted):
            lost.set()
        else:
            tell(what)

    tell, sys.unraisablehook = sys.unraisablehook, unraisable
    before = signal.signal(_SIGNAL, hear)
    watcher = threading.Thread(target=_watch, args=(run, over, lost, threading.get_ident()), daemon=True, name="wishes")
    watcher.start()
    try:
        try:
            yield
        finally:
            over.set()
    except _Interrupted:
        over.set()
        raise Stopped(run.wish) from None
    finally:
        watcher.join()  # before the handler goes: the signal's own action is to end the process
        signal.signal(_SIGNAL, before)
        sys.unraisablehook = tell


def _watch(run: Run, over: threading.Event, lost: threading.Event, main: int) -> None:
    while not over.wait(_LOOK_SECONDS):
        if run.wish is not None:
            lost.clear()
            signal.pthread_kill(main, _SIGNAL)
            again = time.monotonic() + _AGAIN_SECONDS
            while time.monotonic() < again and not (over.wait(_LOOK_SECONDS) or lost.is_set()):
                pass
