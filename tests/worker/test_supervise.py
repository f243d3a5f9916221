from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from service.specs.read import read_job
from service.store import events, jobs, leases, metrics
from service.store.session import Database
from tests.running import job
from worker import supervise
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
