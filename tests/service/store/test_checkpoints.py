import pytest
from sqlalchemy import text, update
from sqlalchemy.exc import IntegrityError

from service.store import artifacts, checkpoints, leases, steps
from service.store.errors import LeaseLost, NotFound
from service.store.leases import Claim
from service.store.session import Database
from service.store.tables import Checkpoint
from tests.service.store.stored import everything, expire, hold, rescue, submit, take

FILES = [
    {"name": "adapter_model.safetensors", "size": 5_000_000_000, "sha256": "a" * 64},
    {"name": "trainer_state.json", "size": 12, "sha256": "b" * 64},
]


def saved(database: Database, held: Claim, global_step: int = 10, step: str = "sft", loss: float | None = 1.5) -> None:
    with database.transaction() as session:
        leases.renew(session, held, 60)
        path = f"{held.job_id}/{held.attempt}/{step}/checkpoint-{global_step}"
        checkpoints.record(session, held, step, global_step, path, global_step / 10, loss, FILES)


def of_job(database: Database, job_id: str, step: str | None = None) -> list[tuple[str, int, int]]:
    with database.reading() as session:
        return [(kept.step, kept.global_step, kept.attempt) for kept in checkpoints.of_job(session, job_id, step)]


def names_of(database: Database, job_id: str) -> list[str]:
    with database.reading() as session:
        return [artifact.name for artifact in artifacts.of_job(session, job_id)]


def after_a_lost_lease(database: Database, held: Claim) -> Claim:
    expire(database, held)
    rescue(database)
    again = take(database, "worker-2")
    assert again is not None
    return again


def test_a_checkpoint_is_kept_with_its_files(database: Database) -> None:
    held = hold(database)
    saved(database, held)
    with database.reading() as session:
        (kept,) = checkpoints.of_job(session, held.job_id)
    assert (kept.step, kept.global_step, kept.attempt, kept.epoch, kept.train_loss) == ("sft", 10, 1, 1.0, 1.5)
    assert kept.path == f"{held.job_id}/1/sft/checkpoint-10"
    assert kept.size == 5_000_000_012
    assert kept.manifest == {"files": FILES}


def test_the_files_of_a_checkpoint_are_artifacts_under_its_name(database: Database) -> None:
    held = hold(database)
    saved(database, held)
    assert names_of(database, held.job_id) == [
        "sft/checkpoint-10/adapter_model.safetensors",
        "sft/checkpoint-10/trainer_state.json",
    ]
    with database.reading() as session:
        weights = artifacts.get(session, held.job_id, "sft/checkpoint-10/adapter_model.safetensors")
    assert weights.path == f"{held.job_id}/1/sft/checkpoint-10/adapter_model.safetensors"
    assert (weights.size, weights.sha256, weights.attempt) == (5_000_000_000, "a" * 64, 1)


def test_a_checkpoint_may_have_no_loss_and_no_files(database: Database) -> None:
    held = hold(database)
    with database.transaction() as session:
        checkpoints.record(session, held, "sft", 0, "there", 0.0, None, [])
    with database.reading() as session:
        (kept,) = checkpoints.of_job(session, held.job_id)
    assert (kept.train_loss, kept.size, kept.manifest) == (None, 0, {"files": []})


def test_checkpoints_come_oldest_first_and_by_step(database: Database) -> None:
    held = hold(database)
    for step, global_step in (("sft", 20), ("sft", 100), ("dpo", 5)):
        saved(database, held, global_step, step)
    assert of_job(database, held.job_id) == [("sft", 20, 1), ("sft", 100, 1), ("dpo", 5, 1)]
    assert of_job(database, held.job_id, "dpo") == [("dpo", 5, 1)]
    assert of_job(database, held.job_id, "rm") == []


def test_checkpoints_of_the_same_moment_come_in_the_order_of_their_updates(database: Database) -> None:
    held = hold(database)
    for global_step in (100, 20, 3):
        saved(database, held, global_step)
    with database.transaction() as session:
        session.execute(update(Checkpoint).values(created_at=1))
    assert [global_step for _, global_step, _ in of_job(database, held.job_id)] == [3, 20, 100]


def test_a_later_attempt_that_comes_to_the_same_update_replaces_the_checkpoint(database: Database) -> None:
    held = hold(database)
    saved(database, held)
    again = after_a_lost_lease(database, held)
    saved(database, again, loss=None)
    with database.reading() as session:
        (kept,) = checkpoints.of_job(session, held.job_id)
        files = artifacts.of_job(session, held.job_id)
    assert (kept.attempt, kept.train_loss, kept.path) == (2, None, f"{held.job_id}/2/sft/checkpoint-10")
    assert {(file.attempt, file.path.split("/")[1]) for file in files} == {(2, "2")}


def test_a_zombies_checkpoint_is_refused_with_its_files(database: Database) -> None:
    zombie = hold(database)
    after_a_lost_lease(database, zombie)
    before = everything(database)
    with pytest.raises(LeaseLost):
        saved(database, zombie)
    assert everything(database) == before


def test_an_artifact_is_kept_by_name_and_replaced_by_name(database: Database) -> None:
    held = hold(database)
    for size in (1, 2):
        with database.transaction() as session:
            artifacts.record(session, held, "export/config.json", f"path-{size}", size, "c" * 64)
    assert names_of(database, held.job_id) == ["export/config.json"]
    with database.reading() as session:
        kept = artifacts.get(session, held.job_id, "export/config.json")
    assert (kept.path, kept.size) == ("path-2", 2)


def test_an_artifact_that_is_not_there_is_not_found(database: Database) -> None:
    held = hold(database)
    with database.reading() as session, pytest.raises(NotFound, match=r"There is no artifact 'export/config.json'\."):
        artifacts.get(session, held.job_id, "export/config.json")


def test_a_step_that_is_done_is_kept_with_what_it_made(database: Database) -> None:
    held = hold(database)
    with database.transaction() as session:
        steps.finish(session, held, 1, "dpo", "there/dpo", {"global_step": 5})
        steps.finish(session, held, 0, "sft", "there/sft", {"global_step": 10})
    with database.reading() as session:
        done = steps.of_job(session, held.job_id)
    assert [(step.position, step.name, step.output, step.summary, step.attempt) for step in done] == [
        (0, "sft", "there/sft", {"global_step": 10}, 1),
        (1, "dpo", "there/dpo", {"global_step": 5}, 1),
    ]


def test_a_step_is_done_once(database: Database) -> None:
    held = hold(database)
    with database.transaction() as session:
        steps.finish(session, held, 0, "sft", "there", {})
    with pytest.raises(IntegrityError), database.transaction() as session:
        steps.finish(session, held, 0, "sft", "elsewhere", {})


def test_the_steps_of_several_jobs_are_read_together(database: Database) -> None:
    held, other, idle = hold(database), hold(database, "worker-2"), submit(database)
    with database.transaction() as session:
        steps.finish(session, held, 1, "dpo", "there/dpo", {})
        steps.finish(session, held, 0, "sft", "there/sft", {})
        steps.finish(session, other, 0, "sft", "there/sft", {})
    with database.reading() as session:
        done = steps.of_jobs(session, [held.job_id, idle])
        assert steps.of_jobs(session, []) == {}
    assert {job_id: [step.name for step in found] for job_id, found in done.items()} == {held.job_id: ["sft", "dpo"], idle: []}


def test_deleting_a_job_takes_what_it_made_along(database: Database) -> None:
    held = hold(database)
    saved(database, held)
    with database.transaction() as session:
        steps.finish(session, held, 0, "sft", "there", {})
        session.flush()
        session.execute(text("DELETE FROM jobs"))
    left = everything(database)
    assert {table for table, rows in left.items() if rows} == {"counts"}, "what was counted is never taken back"
