"""An attempt of several ranks, by the child's own function in a process of its own: on processors, or on the GPUs named."""

import json
import multiprocessing
import time

import psutil

from tests.worker.stages.attempts import Attempt
from worker import child

LONGEST_SECONDS = 240


class Ranked:
    """One that runs. `messages` grow as they are heard.

    On processors it is forked, and finds this process as a test has changed it; a process that has touched CUDA cannot be.
    """

    def __init__(self, host, document, n_ranks=2, earlier=(), gpus=None):
        work = host.work(document, earlier)
        self._log = work.folder / "log.txt"
        given = work.to_document() | {"ranks": n_ranks, "stand_ins": gpus is None, "device": gpus}
        context = multiprocessing.get_context("fork" if gpus is None else "spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=child.main, args=(given, theirs))
        self.process.start()
        theirs.close()
        self.messages = []

    @property
    def ranks(self):
        """In their order."""
        return sorted(psutil.Process(self.process.pid).children(), key=lambda process: process.pid)

    def hear(self, until=lambda message: False):
        """Up to a message of which something holds, or to the end; with `outcome` and `log` in the failure when it hangs."""
        deadline = time.monotonic() + LONGEST_SECONDS
        try:
            while self.pipe.poll(max(0.0, deadline - time.monotonic())):
                self.messages.append(json.loads(self.pipe.recv_bytes()))
                if until(self.messages[-1]):
                    return self
        except EOFError:
            self.process.join(60)
            return self
        self.process.kill()
        raise AssertionError(f"not in {LONGEST_SECONDS} s: {self.messages[-3:]}\n{self.log}")

    @property
    def outcome(self):
        return self.messages[-1]

    @property
    def attempt(self):
        return Attempt(self.messages)

    @property
    def log(self):
        return self._log.read_text()

    def ended_well(self):
        self.hear()
        assert self.outcome == {"message": "outcome", "outcome": "succeeded"}, f"{self.outcome}\n{self.log}"
        return self.attempt


def at_checkpoint(update):
    return lambda message: message["message"] == "checkpoint" and message["global_step"] == update
