"""Children that start fast: the standard library's fork server, which has loaded torch and company and never touches CUDA.

Importing the stack takes seconds; forking the server that has it takes milliseconds. The server is a process of its own, so the
worker itself stays small and its threads are never forked.
"""

import multiprocessing
import multiprocessing.forkserver
import os
import threading
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from typing import Any

_context = multiprocessing.get_context("forkserver")

# What the server loads before it forks its first child.
PRELOAD = ["worker.child"]

# Starting a child also asks after the others, and two readers of one exit code would take it from each other.
_processes = threading.Lock()
_is_warm = threading.Event()


class Child:
    """A training process and the worker's end of its pipe."""

    def __init__(self, process: ForkServerProcess, pipe: Connection):
        self._process = process
        self.pipe = pipe

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def exit_code(self) -> int | None:
        """None while it runs; −n when signal n ended it."""
        with _processes:
            return self._process.exitcode

    def say(self, word: bytes) -> None:
        """A word to the child; one that is gone hears nothing, and its exit code says so."""
        try:
            self.pipe.send_bytes(word)
        except OSError:
            return

    def kill(self) -> None:
        with _processes:
            self._process.kill()

    def wait(self, seconds: float) -> bool:
        """Whether it has ended within that time."""
        wait([self._process.sentinel], timeout=seconds)
        return self.exit_code() is not None

    def close(self) -> None:
        self.pipe.close()


def warm_up() -> None:
    """Starts the server, which then loads the stack while the worker goes on."""
    # without these the libraries' import may ask CUDA for its devices, and a process that did cannot fork users of it
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # bars are for a screen; in a job's log each is a line of thousands of characters
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    _context.set_forkserver_preload(PRELOAD)
    multiprocessing.forkserver.ensure_running()


def wait_until_warm() -> None:
    """Until the server has loaded. A job that is claimed before that would only use up its lease."""
    if _is_warm.is_set():
        return
    process = _context.Process(target=_nothing, name="finebits-warm")
    with _processes:
        process.start()
    wait([process.sentinel])
    with _processes:
        process.join()
    _is_warm.set()


def start(document: dict[str, Any]) -> Child:
    """A child at work on the document, as soon as the server has loaded."""
    ours, theirs = _context.Pipe()
    process = _context.Process(target=_main, args=(document, theirs), name=f"finebits-{document['job_id']}")
    with _processes:
        process.start()
    theirs.close()
    return Child(process, ours)


def _nothing() -> None:
    """The server runs this once it can run anything."""


def _main(document: dict[str, Any], pipe: Connection) -> None:
    from worker.child import main

    main(document, pipe)
