import errno
import json
import multiprocessing
import os
import pickle
import resource
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from service.specs.reasons import Reason
from tests.worker.stages.attempts import Host, Pipe, a_job
from worker import child
from worker.failures import JobFailure
from worker.run import Run, Stopped

_fork = multiprocessing.get_context("fork")


@pytest.fixture
def host(tmp_path, make_llama, tokenizer_folder):
    return Host(tmp_path, make_llama, tokenizer_folder)


@pytest.fixture
def run():
    return Run(Pipe(), "/artifacts")


# -- why it ended ------------------------------------------------------------------------------------------------------


def raised(error, cause=None, context=None):
    """The exception as it arrives: with what it was raised from, or while handling."""
    error.__cause__, error.__context__ = cause, context
    return error


NO_SPACE = OSError(errno.ENOSPC, "No space left on device", "/secret/checkpoint-2")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), Reason.OUT_OF_MEMORY),
        (MemoryError(), Reason.OUT_OF_MEMORY),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), Reason.OUT_OF_MEMORY),
        (raised(RuntimeError("in a hook"), cause=torch.OutOfMemoryError("CUDA out of memory.")), Reason.OUT_OF_MEMORY),
        (NO_SPACE, Reason.OUT_OF_DISK),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), Reason.OUT_OF_DISK),
        (raised(RuntimeError("cannot save"), cause=NO_SPACE), Reason.OUT_OF_DISK),
        (raised(RuntimeError("cannot clean up"), context=NO_SPACE), Reason.OUT_OF_DISK),
        (RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"), Reason.OUT_OF_DISK),
        (RuntimeError("[enforce fail] PytorchStreamWriter failed writing file data/0: file write failed"), Reason.OUT_OF_DISK),
        (raised(RuntimeError("in train"), cause=pickle.UnpicklingError("Re-run with weights_only=False.")), Reason.BAD_MODEL),
        (OSError(errno.EACCES, "Permission denied"), Reason.INTERNAL_ERROR),
        (RuntimeError("shapes do not match"), Reason.INTERNAL_ERROR),
        (KeyboardInterrupt(), Reason.INTERNAL_ERROR),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_what_was_raised_has_a_reason(error, reason):
    failure = child.explained(error)
    assert failure.reason == reason
    assert failure.sentence[0].isupper() or reason == Reason.INTERNAL_ERROR
    assert failure.sentence.endswith(".")
    assert "weights_only" not in failure.sentence


def test_a_failure_that_names_its_reason_is_taken_at_its_word():
    failure = JobFailure(Reason.BAD_ROW, "Row 3 is bad.", row=3)
    assert child.explained(failure) is failure
    assert child.explained(raised(RuntimeError("while mapping"), cause=failure)) is failure


def test_an_unknown_fault_is_ours_with_its_type_and_sentence_and_no_traceback():
    failure = child.explained(ZeroDivisionError("division by zero"))
    assert failure.sentence == "ZeroDivisionError: division by zero. The job's log has the details."
    assert len(child.explained(RuntimeError("x" * 10_000)).sentence) < 600


def _in_little_room(write, pipe):
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
    try:
        write()
    except BaseException as error:
        pipe.send(str(child.explained(error).reason))
    os._exit(0)


@pytest.mark.parametrize("library", ["torch", "safetensors", "python"])
def test_a_file_that_does_not_fit_is_out_of_disk_whoever_writes_it(tmp_path, library):
    """A limit on the size of files stands in for a full disk; each library says it in words of its own."""
    tensors, file = {"weight": torch.zeros(100_000)}, tmp_path / "file"
    writers = {
        "torch": lambda: torch.save(tensors, file),
        "safetensors": lambda: save_file(tensors, file),
        "python": lambda: file.write_bytes(b"0" * 100_000),
    }
    ours, theirs = _fork.Pipe()
    process = _fork.Process(target=_in_little_room, args=(writers[library], theirs))
    process.start()
    assert ours.poll(120)
    assert ours.recv() == "out_of_disk"
    process.join(120)


def test_what_a_cpu_cannot_allocate_is_out_of_memory():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**56, dtype=torch.uint8)
    assert child.explained(caught.value).reason == Reason.OUT_OF_MEMORY


# -- what it hears -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "wish"),
    [
        (["stop"], "stop"),
        (["cancel"], "cancel"),
        (["stop", "cancel"], "cancel"),
        (["cancel", "stop"], "cancel"),
        (["stop", "stop"], "stop"),
    ],
)
def test_cancel_wins_over_stop(run, words, wish):
    for word in words:
        child._wish(run, word)
    assert run.wish == wish


def _listen_and_wait(pipe, theirs, lease_seconds):
    theirs.close()
    run = Run(Pipe(), "/artifacts")
    threading.Thread(target=child._listen, args=(pipe, run, lease_seconds, Path("/nowhere/log.txt")), daemon=True).start()
    deadline = time.monotonic() + 120
    while run.wish is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os._exit({"stop": 10, "cancel": 11, None: 12}[run.wish])


@pytest.fixture
def listening():
    """A process that listens, and ends with 10 or 11 when it hears stop or cancel."""
    started = []

    def start(lease_seconds):
        ours, theirs = _fork.Pipe()
        process = _fork.Process(target=_listen_and_wait, args=(theirs, ours, lease_seconds))
        process.start()
        theirs.close()
        started.append(process)
        return process, ours

    yield start
    for process in started:
        process.kill()
        process.join()


@pytest.mark.parametrize(("word", "code"), [(b"stop", 10), (b"cancel", 11)])
def test_a_wish_is_heard_through_the_pipe(listening, word, code):
    process, pipe = listening(600)
    pipe.send_bytes(b"ok")
    pipe.send_bytes(word)
    process.join(120)
    assert process.exitcode == code


def test_it_ends_when_its_supervisor_is_gone(listening):
    process, pipe = listening(600)
    pipe.close()
    process.join(120)
    assert process.exitcode == child.ORPHANED


def test_it_ends_when_nothing_is_heard(listening):
    process, _ = listening(0.3)
    process.join(120)
    assert process.exitcode == child.ORPHANED


class Words:
    """A pipe in which each word comes at its time, by a clock that goes on only while one listens."""

    def __init__(self, *times):
        self.now = 0.0
        self._times = list(times)

    def poll(self, seconds):
        until = min([*self._times[:1], self.now + seconds])
        self.now = max(self.now, until)
        return self._times[:1] == [self.now]

    def recv_bytes(self):
        self._times.pop(0)
        return b"ok"


def test_it_lives_on_the_word_of_its_supervisor_and_ends_a_lease_after_the_last(run, monkeypatch):
    words, clocks = Words(6.0, 15.0, 24.0, 33.0), set()

    def tell(clock):
        clocks.add(clock)
        return words.now

    def leave(code):
        raise SystemExit(code)

    monkeypatch.setattr(child, "time", SimpleNamespace(CLOCK_BOOTTIME=7, CLOCK_MONOTONIC=1, clock_gettime=tell))
    monkeypatch.setattr(child, "os", SimpleNamespace(_exit=leave))
    with pytest.raises(SystemExit) as ended:
        child._listen(words, run, 10.0, None)
    assert ended.value.code == child.ORPHANED
    assert 33 + 10 < words.now <= 33 + 10 + 1, "and not when a lease had passed since it began"
    assert clocks == {7}, "the clock that counts on while the host sleeps"


# -- the whole process -------------------------------------------------------------------------------------------------


def _attempt_of(host, job):
    """Runs `main` in a process of its own and answers its messages, its log and its exit code."""
    document = host.work(job).to_document()
    ours, theirs = _fork.Pipe()
    process = _fork.Process(target=child.main, args=(document, theirs))
    process.start()
    theirs.close()
    return process, ours


def _said(process, pipe):
    messages = []
    try:
        while pipe.poll(120):
            messages.append(json.loads(pipe.recv_bytes()))
    except EOFError:
        pass
    process.join(120)
    return messages


def test_a_failure_is_said_with_its_reason_and_its_traceback_is_in_the_log_only(host):
    process, pipe = _attempt_of(host, a_job(model={"model_name_or_path": "nowhere"}))
    messages = _said(process, pipe)
    assert (messages[-1]["outcome"], messages[-1]["reason"]) == ("failed", "missing_model")
    assert process.exitcode == child.DONE
    assert "Traceback" not in json.dumps(messages)
    assert "Traceback" in (host.artifacts / "job-1" / "1" / "log.txt").read_text()


def test_what_goes_wrong_in_a_library_is_an_internal_error(host, monkeypatch):
    def fail(work, run):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(child, "run_pipeline", fail)
    process, pipe = _attempt_of(host, a_job())
    (outcome,) = _said(process, pipe)
    assert (outcome["reason"], outcome["sentence"].split(":")[0]) == ("internal_error", "ZeroDivisionError")


def test_an_end_without_a_fault_is_success(host, monkeypatch):
    monkeypatch.setattr(child, "run_pipeline", lambda work, run: print("all is well"))
    process, pipe = _attempt_of(host, a_job())
    assert _said(process, pipe) == [{"message": "outcome", "outcome": "succeeded"}]
    assert (host.artifacts / "job-1" / "1" / "log.txt").read_text() == "all is well\n"


def test_sigterm_means_stop(host, monkeypatch):
    def wait_for_a_wish(work, run):
        run.event("notice", "ready")
        while run.wish is None:
            time.sleep(0.01)
        run.event("notice", run.wish)
        raise Stopped(run.wish)

    monkeypatch.setattr(child, "run_pipeline", wait_for_a_wish)
    process, pipe = _attempt_of(host, a_job())
    assert json.loads(pipe.recv_bytes())["text"] == "ready"
    os.kill(process.pid, signal.SIGTERM)
    assert [message.get("text", message.get("outcome")) for message in _said(process, pipe)] == ["stop", "stopped"]


@pytest.mark.parametrize(("device", "visible"), [("1", "1"), ("GPU-5f2", "GPU-5f2"), (None, "")])
def test_only_the_device_that_it_was_given_can_be_seen(host, monkeypatch, device, visible):
    def tell(work, run):
        run.event("notice", os.environ["CUDA_VISIBLE_DEVICES"], threads=torch.get_num_threads())

    monkeypatch.setattr(child, "run_pipeline", tell)
    document = host.work(a_job()).to_document() | {"device": device, "threads": 2}
    ours, theirs = _fork.Pipe()
    process = _fork.Process(target=child.main, args=(document, theirs))
    process.start()
    theirs.close()
    (told, _) = _said(process, ours)
    assert (told["text"], told["data"]) == (visible, {"threads": 2})


# -- its device --------------------------------------------------------------------------------------------------------


def device_of(monkeypatch, **given):
    """(CUDA_VISIBLE_DEVICES, the fraction that each GPU is kept to) once the child has chosen."""
    kept = {}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "another's")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(os.environ["CUDA_VISIBLE_DEVICES"].split(",")))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda part, index: kept.__setitem__(index, part))
    child._choose_device(SimpleNamespace(threads=1, **{"device": None, "gpu_memory_fraction": 1.0} | given))
    return os.environ["CUDA_VISIBLE_DEVICES"], kept


def test_the_child_sees_the_gpus_that_it_was_given_and_no_other(monkeypatch):
    assert device_of(monkeypatch) == ("", {})
    assert device_of(monkeypatch, device="GPU-a,GPU-b") == ("GPU-a,GPU-b", {})


def test_a_job_that_shares_its_gpus_keeps_to_its_part_of_their_memory(monkeypatch):
    assert device_of(monkeypatch, device="GPU-a,GPU-b", gpu_memory_fraction=0.4) == ("GPU-a,GPU-b", {0: 0.4, 1: 0.4})
