"""The training process: a child of the worker, which may be killed, run out of memory or crash without taking the worker along.

It is forked from a warm server that has torch loaded and has never touched CUDA. It hears its supervisor through a pipe ("ok"
after each good heartbeat, and wishes), and ends itself when the pipe closes or no "ok" has come for a lease: then another
worker may have the job.
"""

import errno
import os
import signal
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from service.specs.reasons import Reason
from service.storage.opening import open_storage
from service.tracing import tracing
from worker import checkpoints, log
from worker.deliveries import Deliveries
from worker.failures import JobFailure
from worker.pipeline import run as run_pipeline
from worker.run import Run, Stopped
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


def main(document: dict[str, Any], pipe: Connection) -> None:
    """Runs one attempt, says how it ended, and exits."""
    work = Work(**document)
    os.setsid()  # a Ctrl-C at the terminal is the worker's to handle, not ours
    log_file = work.folder / "log.txt"
    log.speak_into(log_file)
    run = Run(pipe, Path(work.artifacts_root))
    run.deliveries, run.grace_seconds = _deliveries(work, run), work.grace_seconds
    signal.signal(signal.SIGTERM, lambda *_: _wish(run, "stop"))
    threading.Thread(target=_listen, args=(pipe, run, work.lease_seconds, log_file), daemon=True).start()
    _choose_device(work)
    run.traces = tracing("finebits-training", work.traces_url)
    _attempt(work, run)
    run.traces.close()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(DONE)  # no atexit of inherited libraries; everything of ours is written


def _deliveries(work: Work, run: Run) -> Deliveries | None:
    if not work.artifacts_url:
        return None
    root = Path(work.artifacts_root)
    storage = open_storage(root, work.artifacts_url, work.s3_endpoint)
    known = [checkpoint["path"] for saved in work.checkpoints.values() for checkpoint in saved]
    return Deliveries(storage, root, [*known, *work.removed], work.store_patience_seconds, lambda: run.wish is not None)


def _attempt(work: Work, run: Run) -> None:
    try:
        with run.traces.span("training", work.trace, job=work.job_id, attempt=work.attempt) as span:
            if span.trace is not None:
                os.environ["TRACEPARENT"] = span.trace  # for whatever else traces here
            run_pipeline(work, run)
    except Stopped:
        run.stopped()
    except BaseException as error:
        traceback.print_exc()
        failure = explained(error)
        if failure.reason in (Reason.OUT_OF_DISK, Reason.DIVERGED):
            checkpoints.discard_torn(work.folder)
        run.failed(failure.reason, failure.sentence, failure.where)
    else:
        run.succeeded()


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


def _listen(pipe: Connection, run: Run, lease_seconds: float, log_file: Path) -> None:
    """Hears the supervisor, and keeps the log short. CLOCK_BOOTTIME counts on while the host sleeps, as the lease does."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    heard = time.clock_gettime(clock)
    while True:
        try:
            if pipe.poll(min(1.0, lease_seconds / 4)):
                word = pipe.recv_bytes()
                heard = time.clock_gettime(clock)
                if word in (b"cancel", b"stop"):
                    _wish(run, word.decode())
        except (EOFError, OSError):
            os._exit(ORPHANED)
        log.trim(log_file)
        if time.clock_gettime(clock) - heard > lease_seconds:
            os._exit(ORPHANED)


def _wish(run: Run, wish: str) -> None:
    run.wish = "cancel" if wish == "cancel" or run.wish == "cancel" else "stop"


def _choose_device(work: Work) -> None:
    """CUDA reads this when it is first used, which is after here and nowhere before."""
    os.environ["CUDA_VISIBLE_DEVICES"] = work.device if work.device is not None else ""
    torch.set_num_threads(work.threads)
    if work.device is not None and work.gpu_memory_fraction < 1:
        for index in range(torch.cuda.device_count()):  # more than its part is out of memory, not somebody else's
            torch.cuda.set_per_process_memory_fraction(work.gpu_memory_fraction, index)
