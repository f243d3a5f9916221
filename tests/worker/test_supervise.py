import multiprocessing
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from service.specs.read import read_job
from service.store import events, jobs, leases, metrics
from service.store.session import Database
from tests.running import job
from worker import supervise, warm
from worker.disk import Disk
from worker.settings import WorkerSettings


def test_an_attempt_is_handed_what_was_measured_of_checkpoints_and_not_the_base(database: Database) -> None:
    """The base's number in the store, −1, is no update: taken for one it would be a checkpoint among the others."""
    document = job()
    with database.transaction() as session:
        jobs.create(session, "local", document, read_job(document))
        held = leases.claim(session, ["default"], "worker-1", 60)
        assert held is not None
        for global_step in (metrics.BASE, 10):
            metrics.record_measurement(session, held, "sft", global_step, "validation", {"nll": [1.0]})
        work = supervise._work(session, held, WorkerSettings(), None)
    assert work.measurements == {"sft": [{"global_step": 10, "split": "validation", "documents": {"nll": [1.0]}}]}


class Silent:
    """A child that only listens."""

    def say(self, word: bytes) -> None:
        pass


def of_a_new_job(database: Database) -> supervise._Attempt:
    document = job()
    with database.transaction() as session:
        jobs.create(session, "local", document, read_job(document))
        held = leases.claim(session, ["default"], "worker-1", 60)
    assert held is not None
    return supervise._Attempt(held, Silent(), 1e9)  # type: ignore[arg-type]


def notice(text: str) -> dict[str, object]:
    return {"message": "event", "kind": "notice", "text": text, "data": {}}


@pytest.mark.parametrize("is_committed", [True, False])
def test_a_commit_whose_answer_is_lost_is_not_written_again_and_one_that_failed_is(
    database: Database, monkeypatch: pytest.MonkeyPatch, is_committed: bool
) -> None:
    attempt, settings = of_a_new_job(database), WorkerSettings(flush_seconds=1e-9)
    transaction = database.transaction

    @contextmanager
    def broken() -> Iterator[Session]:
        with transaction() as session:
            yield session
            if not is_committed:
                raise OperationalError("COMMIT", None, Exception("the connection broke before the commit"))
        raise OperationalError("COMMIT", None, Exception("the connection broke before the answer"))

    for said in ("one", "two"):  # broken twice: what comes meanwhile waits behind what may be written
        attempt.unwritten.append(notice(said))
        monkeypatch.setattr(database, "transaction", broken)
        with pytest.raises(OperationalError):
            supervise._renew_when_due(database, settings, attempt)
    monkeypatch.undo()
    attempt.unwritten.append(notice("three"))
    supervise._renew_when_due(database, settings, attempt)
    attempt.unwritten.append(notice("four"))
    supervise._renew_when_due(database, settings, attempt)
    with database.reading() as session:
        told = [event.message for event in events.after(session, attempt.held.job_id, 0, 100) if event.kind == "notice"]
    assert told == ["one", "two", "three", "four"]


def test_a_child_that_could_not_be_started_is_no_lease_to_wait_for(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = job()
    with database.transaction() as session:
        job_id = jobs.create(session, "local", document, read_job(document)).id

    def start(document: dict[str, object]) -> None:
        raise warm.NotStarted("The training process could not be started: EOFError.")

    monkeypatch.setattr(warm, "start", start)
    settings = WorkerSettings(home=tmp_path, artifacts_root=tmp_path, min_free_bytes=0)
    assert supervise.run_next(database, settings, Disk(tmp_path, 0), None, threading.Event())
    with database.reading() as session:
        found = jobs.get(session, "local", job_id)
    assert (found.state, found.attempt, found.lost) == ("queued", 1, 1)


def test_a_fork_server_that_dies_while_it_starts_a_child_leaves_no_pipe_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that was made after all finds the worker's end closed, and ends."""
    ends = multiprocessing.Pipe()

    def start(process: object) -> None:
        raise EOFError("unexpected EOF")

    monkeypatch.setattr(warm._context, "Pipe", lambda: ends, raising=False)
    monkeypatch.setattr(warm._context.Process, "start", start)
    with pytest.raises(warm.NotStarted, match="unexpected EOF"):
        warm.start({"job_id": "job-1"})
    assert [end.closed for end in ends] == [True, True]
