import functools
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from service.specs.read import read_job
from service.store import checkpoints, counters, events, jobs, leases, metrics, retention, turns
from service.store.leases import Claim
from service.store.scheduling import Placement
from service.store.session import Database
from service.store.tables import Job
from tests.running import job
from tests.service.api.made import a_metric
from tests.service.store.staffed import enter
from tests.service.store.stored import submit
from tests.service.store.test_turns import until_somebody_waits
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
        work = supervise._work(session, WorkerSettings(), Placement(held, (), 1.0))
    assert work.measurements == {"sft": [{"global_step": 10, "split": "validation", "documents": {"nll": [1.0]}}]}


def test_an_attempt_at_an_evaluation_is_handed_the_answers_of_the_base_too(database: Database) -> None:
    document = {"do": "evaluate", "model": {"model_name_or_path": "tiny"}, "evaluation": {"task": "quiz"}}
    with database.transaction() as session:
        jobs.create(session, "local", document, read_job(document))
        held = leases.claim(session, ["default"], "worker-1", 60)
        assert held is not None
        for global_step in (metrics.BASE, 1):
            metrics.record_measurement(session, held, "evaluate", global_step, "test:sums", {"rows": [1]})
        work = supervise._work(session, WorkerSettings(), Placement(held, (), 1.0))
    kept = {"split": "test:sums", "documents": {"rows": [1]}}
    assert work.measurements == {"evaluate": [{"global_step": number, **kept} for number in (None, 1)]}


def claimed(database: Database, **groups: Any) -> Claim:
    document = job(**groups)
    with database.transaction() as session:
        jobs.create(session, "local", document, read_job(document))
        held = leases.claim(session, ["default"], "worker-1", 60)
    assert held is not None
    return held


def said(database: Database, held: Claim, *messages: dict[str, Any]) -> leases.Wish | None:
    """What the supervisor makes of what the child said."""
    with database.reading() as session:
        resolved = jobs.resolved(jobs.get(session, "local", held.job_id))
    attempt = supervise._Attempt(held, None, 0.0, supervise._kept(resolved), list(messages))  # type: ignore[arg-type]
    with database.transaction() as session:
        return supervise._renew_and_write(session, WorkerSettings(), attempt)


def saved(held: Claim, global_step: int) -> dict[str, Any]:
    path = f"{held.job_id}/{held.attempt}/sft/checkpoint-{global_step}"
    told = {"message": "checkpoint", "step": "sft", "global_step": global_step, "path": path}
    return told | {"epoch": 1.0, "train_loss": 0.5, "files": []}


def measured(global_step: int, bits: float) -> dict[str, Any]:
    row = a_metric(global_step, "cross_entropy", bits)
    told = {
        "message": "measurement",
        "step": "sft",
        "global_step": global_step,
        "split": "validation",
        "alerts": [],
        "guards": [],
    }
    return told | {"documents": {}, "metrics": [row]}


def kept(database: Database, held: Claim) -> list[int]:
    with database.reading() as session:
        return [checkpoint.global_step for checkpoint in checkpoints.kept(session, held.job_id)]


def test_checkpoints_beyond_those_that_are_kept_go_as_others_come(database: Database) -> None:
    held = claimed(database, training={"save_total_limit": 2, "keep_best": 1})
    for global_step, bits in ((10, 1.0), (20, 3.0), (30, 2.0), (40, 2.5)):
        said(database, held, saved(held, global_step))
        said(database, held, measured(global_step, bits))
    assert kept(database, held) == [10, 30, 40]
    all_stay = claimed(database)
    said(database, all_stay, *(saved(all_stay, global_step) for global_step in (10, 20, 30)))
    assert kept(database, all_stay) == [10, 20, 30]


def test_an_attempt_goes_on_from_no_checkpoint_that_was_given_up(database: Database) -> None:
    held = claimed(database)
    said(database, held, saved(held, 10), saved(held, 20))
    with database.transaction() as session:
        retention.thin(session, held, "sft", 1, None)
        work = supervise._work(session, WorkerSettings(), Placement(held, (), 1.0))
    assert [one["global_step"] for one in work.checkpoints["sft"]] == [20]
    assert work.removed == [f"{held.job_id}/1/sft/checkpoint-10"]


class Silent:
    """A child that only listens."""

    def say(self, word: bytes) -> None:
        pass


def notice(text: str) -> dict[str, object]:
    return {"message": "event", "kind": "notice", "text": text, "data": {}}


@pytest.mark.parametrize("is_committed", [True, False])
def test_a_commit_whose_answer_is_lost_is_not_written_again_and_one_that_failed_is(
    database: Database, monkeypatch: pytest.MonkeyPatch, is_committed: bool
) -> None:
    attempt = supervise._Attempt(claimed(database), Silent(), 1e9)  # type: ignore[arg-type]
    settings = WorkerSettings(flush_seconds=1e-9)
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


class Gone:
    """A child that has ended, and left what it said last in the pipe."""

    def __init__(self, *messages: dict[str, Any]):
        self.pipe, theirs = multiprocessing.Pipe()
        for message in messages:
            theirs.send_bytes(orjson.dumps(message))
        theirs.close()

    def exit_code(self) -> int:
        return 0

    def wait(self, seconds: float) -> bool:
        return True

    say = Silent.say


@pytest.mark.parametrize("n_unheard", [0, 1, 5])
def test_what_a_child_said_before_it_ended_is_heard_however_late(
    database: Database, monkeypatch: pytest.MonkeyPatch, n_unheard: int
) -> None:
    """A worker that a busy host stops for a moment has not listened in time."""
    last = {"message": "outcome", "outcome": "succeeded"}
    child = Gone(*(notice(str(number)) for number in range(n_unheard)), last)
    attempt = supervise._Attempt(claimed(database), child, 1e9)  # type: ignore[arg-type]
    monkeypatch.setattr(supervise, "_listen", lambda attempt, seconds: None)  # not in time, that is
    supervise._keep(database, WorkerSettings(), attempt, lambda: False)
    with database.reading() as session:
        found = jobs.get(session, "local", attempt.held.job_id)
        told = [event.message for event in events.after(session, found.id, 0, 100) if event.kind == "notice"]
    assert (found.state, found.lost) == ("succeeded", 0)
    assert told == [str(number) for number in range(n_unheard)]


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
    assert supervise.run_next(database, settings, Disk(tmp_path, 0), enter(database), lambda: False)
    with database.reading() as session:
        found = jobs.get(session, "local", job_id)
    assert (found.state, found.attempt, found.lost) == ("queued", 1, 1)


def test_a_write_that_the_fence_refuses_is_counted(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = job()
    with database.transaction() as session:
        jobs.create(session, "local", document, read_job(document))

    def start(document: dict[str, object]) -> None:
        with database.transaction() as session:  # the worker was suspended here, and another has the job by now
            session.execute(update(Job).values(attempt=Job.attempt + 1))
        raise warm.NotStarted("The training process could not be started: EOFError.")

    monkeypatch.setattr(warm, "start", start)
    settings = WorkerSettings(home=tmp_path, artifacts_root=tmp_path, min_free_bytes=0)
    assert supervise.run_next(database, settings, Disk(tmp_path, 0), enter(database), lambda: False)
    with database.reading() as session:
        assert counters.totals(session)["writes_fenced"] == {("", ""): 1}
        assert session.scalar(select(Job.state)) == "running"


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


def test_a_guard_that_pauses_is_told_and_heard_with_the_next_heartbeat(database: Database) -> None:
    held = claimed(database)
    guard = {"text": "Guard 'numeric' at checkpoint 10: the job pauses.", "data": {"when": "numeric", "then": "pause"}}
    said(database, held, saved(held, 10), {**measured(10, 2.0), "guards": [guard]})
    assert said(database, held) is leases.Wish.PAUSE
    with database.transaction() as session:
        told = [event.message for event in events.after(session, held.job_id, 0, 100) if event.kind == "guarded"]
        assert told == [guard["text"]]
        assert leases.give_back(session, held, "It stops.") == "paused"


def test_a_guard_that_stops_a_step_does_not_pause_the_job(database: Database) -> None:
    held = claimed(database)
    guard = {"text": "Guard.", "data": {"when": "numeric", "then": "stop"}}
    said(database, held, saved(held, 10), {**measured(10, 2.0), "guards": [guard]})
    assert said(database, held) is None


@pytest.mark.parametrize(
    ("devices", "device", "ranks", "stand_ins"),
    [
        ((), None, 1, False),
        (("GPU-a",), "GPU-a", 1, False),
        (("GPU-a", "GPU-b"), "GPU-a,GPU-b", 2, False),
        (("cpu:0",), None, 1, True),
        (("cpu:0", "cpu:1"), None, 2, True),
    ],
)
def test_an_attempt_has_a_rank_for_each_gpu_that_was_taken_for_it(
    database: Database, devices: tuple[str, ...], device: str | None, ranks: int, stand_ins: bool
) -> None:
    """CUDA is shown no processor that stands for one."""
    held = claimed(database)
    with database.transaction() as session:
        work = supervise._work(session, WorkerSettings(), Placement(held, devices, 1.0))
    assert (work.device, work.ranks, work.stand_ins) == (device, ranks, stand_ins)


def test_a_lost_rank_is_a_lost_attempt_which_waits_and_is_tried_again(database: Database) -> None:
    held = claimed(database)
    attempt = supervise._Attempt(held, Silent(), 1e9)  # type: ignore[arg-type]
    attempt.outcome = {"message": "outcome", "outcome": "lost", "sentence": "Rank 1 of 2 was ended by SIGKILL."}
    supervise._write_end(database, WorkerSettings(), attempt, 0)
    with database.reading() as session:
        job = jobs.get(session, "local", held.job_id)
        told = [event.message for event in events.after(session, held.job_id, 0, 100)]
    assert (job.state, job.lost) == ("queued", 1)
    assert told[-1].startswith("Rank 1 of 2 was ended by SIGKILL.")


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_worker_looks_for_a_job_in_its_turn(database: Database, tmp_path: Path) -> None:
    settings, me = WorkerSettings(home=tmp_path), enter(database)
    settings.artifacts_root.mkdir(parents=True)
    claim = functools.partial(supervise._claim, database, settings, Disk(settings.artifacts_root, 0), me)
    with ThreadPoolExecutor() as pool:
        with turns.turn(database, settings.queue_names):
            claimed = pool.submit(claim)
            until_somebody_waits(database)
            job_id = submit(database)
        found = claimed.result(30)
    assert found is not None  # it looked when its turn had come, and not before
    assert found[0].job_id == job_id
