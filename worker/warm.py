"""Children that start fast: the standard library's fork server, which has loaded torch and company and never touches CUDA.

Importing the stack takes seconds; forking the server that has it takes milliseconds. The server is a process of its own, so the
worker itself stays small and its threads are never forked. Should a library touch CUDA as it is loaded after all, the server's
children could use no GPU: then each child is a new process, which takes its seconds.
"""

import logging
import multiprocessing
import multiprocessing.forkserver
import os
import signal
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, ForkServerProcess, SpawnContext, SpawnProcess
from typing import Any

logger = logging.getLogger(__name__)

_context = multiprocessing.get_context("forkserver")
_starting: ForkServerContext | SpawnContext = _context  # what children are started by

# What the server loads before it forks its first child.
PRELOAD = ["worker.stack"]

# Starting a child also asks after the others, and two readers of one exit code would take it from each other.
_processes = threading.Lock()
_warm_server: int | None = None  # the process id of a server that is known to have loaded

TOUCHED = 3  # the exit code of a process that was forked from a server which has touched CUDA


class NotStarted(Exception):
    """The server was killed in that moment, or the host has no room for another process."""


class Child:
    """A training process and the worker's end of its pipe.

    It is looked after by a handle of its own where the system has such, and not through the server alone: should that be killed,
    its children go on with their jobs, and whoever believed the server that is no more would start a second of the same job.
    """

    def __init__(self, process: ForkServerProcess | SpawnProcess, pipe: Connection):
        self._process = process
        self._handle = _handle(process)
        self.pipe = pipe

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def exit_code(self) -> int | None:
        """None while it runs; −n when signal n ended it; 255 when the server that would know is gone."""
        if not wait([self._end], timeout=0):
            return None  # without the lock, which who starts another child holds for as long as a server loads
        with _processes:
            self._process.join(1)  # the server may need a moment to hear of it
            return self._process.exitcode

    def say(self, word: bytes) -> None:
        """A word to the child; one that is gone hears nothing, and its exit code says so."""
        try:
            self.pipe.send_bytes(word)
        except OSError:
            return

    def kill(self) -> None:
        if self._handle is None:
            with _processes:
                self._process.kill()
            return
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    def wait(self, seconds: float) -> bool:
        """Whether it has ended within that time."""
        wait([self._end], timeout=seconds)
        return self.exit_code() is not None

    def close(self) -> None:
        self.pipe.close()
        if self._handle is not None:
            os.close(self._handle)

    @property
    def _end(self) -> int:
        """A descriptor that becomes readable when the child has ended."""
        return self._process.sentinel if self._handle is None else self._handle


def _handle(process: ForkServerProcess | SpawnProcess) -> int | None:
    """The process itself, which no other can be taken for when its number is given out again. None where there is no such."""
    try:
        return os.pidfd_open(process.pid or 0)
    except (AttributeError, OSError):  # not Linux, or an old one; or it has ended already, which the server then tells
        return None


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
    """Until the server has loaded, another one if it has been killed. A job claimed before that would only use up its lease."""
    global _warm_server, _starting
    multiprocessing.forkserver.ensure_running()
    server = multiprocessing.forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    if server == _warm_server:
        return
    process = _context.Process(target=_look, name="finebits-warm")
    with _processes:
        process.start()
    wait([process.sentinel])
    with _processes:
        process.join()
    _starting = multiprocessing.get_context("spawn") if process.exitcode == TOUCHED else _context
    if _starting is not _context:
        logger.error("a library has touched CUDA as it was loaded: each job starts a process of its own, which takes seconds")
    _warm_server = server


def start(document: dict[str, Any]) -> Child:
    """A child at work on the document, as soon as the server has loaded. Raises NotStarted; then no child works on it."""
    ours, theirs = _starting.Pipe()
    process = _starting.Process(target=_main, args=(document, theirs), name=f"finebits-{document['job_id']}")
    try:
        with _processes:
            process.start()
    except (EOFError, OSError) as error:
        ours.close()  # a child that was made after all ends when it finds its pipe closed
        raise NotStarted(f"The training process could not be started: {error or type(error).__name__}.") from error
    finally:
        theirs.close()
    return Child(process, ours)


def _look() -> None:
    """The server runs this once it can run anything: may what is forked from it use CUDA?"""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    if cuda is not None and cuda._is_in_bad_fork():
        sys.exit(TOUCHED)


def _main(document: dict[str, Any], pipe: Connection) -> None:
    from worker.stack import main

    main(document, pipe)
