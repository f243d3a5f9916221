"""The training process: a child of the worker, which may be killed, run out of memory or crash without taking the worker along.

It is forked from a warm server that has torch loaded and has never touched CUDA. It hears its supervisor through a pipe ("ok"
after each good heartbeat, and wishes), and ends itself when the pipe closes or no "ok" has come for a lease: then another
worker may have the job.

With several GPUs it trains nothing itself: it launches a rank for each, and speaks for them (worker/launching.py).
"""

import errno
import math
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import orjson
import torch

from service.specs.reasons import Reason
from service.storage.opening import open_storage
from service.tracing import tracing
from worker import checkpoints, launching, log, ranks
from worker.deliveries import Deliveries
from worker.failures import JobFailure
from worker.launching import Ranks
from worker.pipeline import run as run_pipeline
from worker.run import Run, Stopped, Wish
from worker.work import Work

# Exit codes that the supervisor can tell from a crash; the outcome itself comes up the pipe.
DONE, ORPHANED = 0, 70

# What libraries say in exceptions without an errno: torch's allocator on a CPU; safetensors, and torch.save's stream.
NO_MEMORY = ("can't allocate memory", "Cannot allocate memory")
NO_SPACE = (
    "No space left",
    "Disk quota exceeded",
    "File too large",
    "iostream error",
    "PytorchStreamWriter failed writing file",
)


class Wishing(Protocol):
    """Whoever is to be told of a wish."""

    wish: Wish | None


def main(document: dict[str, Any], pipe: Connection) -> None:
    """Runs one attempt, says how it ended, and exits."""
    work = Work(**document)
    os.setsid()  # a Ctrl-C at the terminal is the worker's to handle, not ours
    log_file = work.folder / "log.txt"
    log.speak_into(log_file, work.secrets)
    if work.ranks > 1:
        _launch(work, pipe, log_file)
    else:
        run = _run(work, pipe)
        _hear(pipe, run, work.lease_seconds, log_file)
        _choose_device(work)
        _attempt(work, run)
        run.traces.close()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(DONE)  # no atexit of inherited libraries; everything of ours is written


def _launch(work: Work, pipe: Connection, log_file: Path) -> None:
    """Has a rank for each GPU do the work, and says how it ended for all."""
    them = Ranks(work.ranks, pipe)
    _hear(pipe, them, work.lease_seconds, log_file)
    _show_devices(work)
    outcome = launching.launch(them, work.job_id, partial(_work_as, work))
    pipe.send_bytes(orjson.dumps(outcome))


def _work_as(work: Work, rank: int, pipe: Connection, meeting: Path) -> bool:
    """One rank's part of the attempt. Whether the agent is to let the others go on."""
    torch.set_num_threads(work.threads)
    if rank > 0:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 — until the process ends; the first prints for all
    run = _run(work, pipe) if rank == 0 else Run(Mute(pipe), Path(work.artifacts_root))
    run.secrets = work.secrets
    if rank == 0:
        threading.Thread(target=_listen, args=(pipe, run, math.inf, None), daemon=True).start()
    if work.device is not None:
        torch.cuda.set_device(rank)
        _keep_to_part(work, [rank])
    ranks.join("gloo" if work.device is None else "cuda:nccl,cpu:gloo", meeting, rank, work.ranks)
    done = _attempt(work, run)
    run.traces.close()
    sys.stdout.flush()
    sys.stderr.flush()
    return done or (rank > 0 and run.wish is not None)


class Mute:
    """The pipe of a rank that is not the first: only how it ended is heard."""

    def __init__(self, pipe: Connection):
        self._pipe = pipe

    def send_bytes(self, buf: bytes) -> None:
        if buf.startswith(launching.OUTCOME):
            self._pipe.send_bytes(buf)


def _run(work: Work, pipe: Connection) -> Run:
    run = Run(pipe, Path(work.artifacts_root))
    run.secrets = work.secrets
    run.deliveries, run.grace_seconds = _deliveries(work, run), work.grace_seconds
    run.traces = tracing("finebits-training", work.traces_url)
    return run


def _hear(pipe: Connection, wishing: Wishing, lease_seconds: float, log_file: Path) -> None:
    signal.signal(signal.SIGTERM, lambda *_: _wish(wishing, "stop"))
    threading.Thread(target=_listen, args=(pipe, wishing, lease_seconds, log_file), daemon=True).start()


def _deliveries(work: Work, run: Run) -> Deliveries | None:
    if not work.artifacts_url:
        return None
    root = Path(work.artifacts_root)
    storage = open_storage(root, work.artifacts_url, work.s3_endpoint)
    known = [checkpoint["path"] for saved in work.checkpoints.values() for checkpoint in saved]
    return Deliveries(storage, root, [*known, *work.removed], work.store_patience_seconds, lambda: run.wish is not None)


def _attempt(work: Work, run: Run) -> bool:
    """Whether it did all its work. How it ended is said."""
    try:
        with run.traces.span("training", work.trace, job=work.job_id, attempt=work.attempt) as span:
            if span.trace is not None:
                os.environ["TRACEPARENT"] = span.trace  # for whatever else traces here
            run_pipeline(work, run)
            ranks.part()
    except Stopped:
        run.stopped()
    except BaseException as error:
        traceback.print_exc()
        if ranks.is_about_a_peer(error):
            ranks.await_verdict()
        failure = explained(error)
        if failure.reason in (Reason.OUT_OF_DISK, Reason.DIVERGED):
            checkpoints.discard_torn(work.folder)
        run.failed(failure.reason, failure.sentence, failure.where)
    else:
        run.succeeded()
        return True
    return False


def explained(error: BaseException) -> JobFailure:
    """The reason and the sentence for what was raised; internal_error when it is none that we know."""
    for cause in _causes(error):
        if isinstance(cause, JobFailure):
            return cause
        if isinstance(cause, torch.OutOfMemoryError | MemoryError) or _says(cause, NO_MEMORY):
            return JobFailure(
                Reason.OUT_OF_MEMORY,
                "The memory was not enough. A smaller per_device_train_batch_size with more gradient_accumulation_steps, "
                "or a smaller cutoff_len, needs less; resources.on_out_of_memory halve_batch makes the first change by itself.",
            )
        if getattr(cause, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or _says(cause, NO_SPACE):
            return JobFailure(Reason.OUT_OF_DISK, "The disk is full, or a limit on it is reached: nothing more could be written.")
        if isinstance(cause, pickle.UnpicklingError):  # its advice is to read the file in a way that runs it
            sentence = "A file that the job goes on from is damaged, or holds more than tensors: nothing of it was taken."
            return JobFailure(Reason.BAD_MODEL, sentence)
        if ranks.is_about_a_peer(cause):
            return JobFailure(Reason.KILLED, f"another rank has gone, or hangs: {str(cause)[:200]}.")
    return JobFailure(Reason.INTERNAL_ERROR, f"{type(error).__name__}: {str(error)[:500]}. The job's log has the details.")


def _says(error: BaseException, texts: tuple[str, ...]) -> bool:
    return any(text in str(error) for text in texts)


def _causes(error: BaseException | None) -> list[BaseException]:
    """The exception and what it came from, the newest first."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def _listen(pipe: Connection, wishing: Wishing, lease_seconds: float, log_file: Path | None) -> None:
    """Hears the supervisor, and keeps the log short. CLOCK_BOOTTIME counts on while the host sleeps, as the lease does."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    heard = time.clock_gettime(clock)
    while True:
        try:
            if pipe.poll(min(1.0, lease_seconds / 4)):
                word = pipe.recv_bytes()
                heard = time.clock_gettime(clock)
                if word in (b"cancel", b"stop"):
                    _wish(wishing, word.decode())
        except (EOFError, OSError):
            os._exit(ORPHANED)
        if log_file is not None:
            log.trim(log_file)
        if time.clock_gettime(clock) - heard > lease_seconds:
            os._exit(ORPHANED)


def _wish(wishing: Wishing, wish: str) -> None:
    wishing.wish = "cancel" if wish == "cancel" or wishing.wish == "cancel" else "stop"


def _choose_device(work: Work) -> None:
    _show_devices(work)
    torch.set_num_threads(work.threads)
    if work.device is not None:
        _keep_to_part(work, range(torch.cuda.device_count()))


def _show_devices(work: Work) -> None:
    """CUDA reads this when it is first used, which is after here and nowhere before."""
    os.environ["CUDA_VISIBLE_DEVICES"] = work.device if work.device is not None else ""


def _keep_to_part(work: Work, indices: Iterable[int]) -> None:
    for index in indices:  # more than its part is out of memory, not somebody else's
        if work.gpu_memory_fraction < 1:
            torch.cuda.set_per_process_memory_fraction(work.gpu_memory_fraction, index)
