from typing import Any

from service.specs.read import read_job
from service.store import checkpoints, events, jobs, leases, metrics, retention
from service.store.leases import Claim
from service.store.scheduling import Placement
from service.store.session import Database
from tests.running import job
from tests.service.api.made import a_metric
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
        work = supervise._work(session, WorkerSettings(), Placement(held, (), 1.0))
    assert work.measurements == {"sft": [{"global_step": 10, "split": "validation", "documents": {"nll": [1.0]}}]}


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
