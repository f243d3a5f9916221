"""What becomes of a job whose attempt failed: tried again later, tried with half the batch, or failed."""

from datetime import datetime
from typing import Any

import pytest

from service.specs.halving import halved
from service.specs.reasons import RETRYABLE, Reason
from service.store import leases
from service.store.leases import Claim
from service.store.retries import MOST_DOUBLINGS, pause_before
from service.store.session import Database
from service.store.states import State
from tests.service.store.clocks import lever
from tests.service.store.stored import (
    attempts_of,
    cancel,
    events_of,
    expire,
    hold,
    job_of,
    kinds_of,
    rescue,
    take,
    wish,
)


def fail(database: Database, held: Claim, reason: Reason, seconds: float = 30.0) -> State:
    with database.transaction() as session:
        return leases.fail(session, held, reason, "It did not go.", {"file": "a"}, seconds)


def taken(database: Database) -> Claim:
    held = take(database)
    assert held is not None
    return held


def test_what_may_pass_is_tried_again_later_and_so_often(database: Database) -> None:
    let_pass = lever(database)
    held = hold(database, max_retries=2)
    for retry, longest in ((1, 45), (2, 90)):
        assert fail(database, held, Reason.OUT_OF_DISK) is State.QUEUED
        job = job_of(database, held.job_id)
        assert (job.state, job.retries, job.reason, job.lost) == ("queued", retry, None, 0)
        told = events_of(database, held.job_id)[-1]
        assert (told.kind, told.data["retry"], told.data["reason"]) == ("retry_scheduled", retry, "out_of_disk")
        assert longest / 3 <= told.data["wait_seconds"] <= longest
        assert datetime.fromisoformat(told.data["at"]).timestamp() == pytest.approx(job.not_before, abs=1)
        assert take(database) is None, "it waits"
        let_pass(longest)
        held = taken(database)
        assert job_of(database, held.job_id).not_before is None
    assert fail(database, held, Reason.OUT_OF_DISK) is State.FAILED
    job = job_of(database, held.job_id)
    assert (job.state, job.reason, job.details) == ("failed", "out_of_disk", {"file": "a"})
    assert attempts_of(database, held.job_id) == [(1, "failed"), (2, "failed"), (3, "failed")]


@pytest.mark.parametrize("reason", sorted(set(Reason) - RETRYABLE))
def test_what_will_not_pass_is_not_tried_again(database: Database, reason: Reason) -> None:
    held = hold(database)
    assert fail(database, held, reason) is State.FAILED
    assert "retry_scheduled" not in kinds_of(database, held.job_id)


def test_a_job_that_waits_for_its_retry_has_no_bell_rung_until_then(database: Database) -> None:
    let_pass = lever(database)
    held = hold(database)
    fail(database, held, Reason.OUT_OF_DISK)
    with database.transaction() as session:
        assert leases.unheard(session, ["default"], 1) == []
    let_pass(45)
    with database.transaction() as session:
        assert leases.unheard(session, ["default"], 1) == ["default"]


def test_wishes_are_obeyed_instead_of_a_retry(database: Database) -> None:
    for verb, state in (("cancel", State.CANCELLED), ("pause", State.PAUSED)):
        held = hold(database)
        wish(database, verb, held.job_id)
        assert fail(database, held, Reason.OUT_OF_DISK) is state
        job = job_of(database, held.job_id)
        assert (job.state, job.not_before) == (state, None)


def test_a_job_that_waits_for_its_retry_can_be_cancelled_and_paused(database: Database) -> None:
    first, second = hold(database), hold(database)
    for held in (first, second):
        fail(database, held, Reason.OUT_OF_DISK)
    assert cancel(database, first.job_id).state == "cancelled"
    assert wish(database, "pause", second.job_id).not_before is None
    wish(database, "resume", second.job_id)
    assert taken(database).job_id == second.job_id, "whoever resumes it need not wait"


def test_the_first_loss_costs_no_wait_and_the_next_do(database: Database) -> None:
    let_pass = lever(database)
    held = hold(database)
    expire(database, held)
    rescue(database)
    held = taken(database)
    expire(database, held)
    rescue(database)
    assert take(database) is None
    let_pass(45)
    assert taken(database).attempt == 3


def test_waits_double_and_are_drawn_and_end_growing() -> None:
    for earlier in range(10):
        drawn = [pause_before(earlier, 10) for _ in range(200)]
        middle = 10 * 2 ** min(earlier, MOST_DOUBLINGS)
        assert middle / 2 <= min(drawn) < 0.75 * middle
        assert 1.25 * middle < max(drawn) <= 1.5 * middle


# Memory


def training_of(database: Database, job_id: str, step: int = 0) -> tuple[int, int]:
    training = job_of(database, job_id).resolved["steps"][step]["training"]
    return training["per_device_train_batch_size"], training["gradient_accumulation_steps"]


def test_half_the_batch_is_tried_once_with_the_global_batch_kept(database: Database) -> None:
    held = hold(database, on_out_of_memory="halve_batch")
    assert fail(database, held, Reason.OUT_OF_MEMORY) is State.QUEUED
    assert training_of(database, held.job_id) == (4, 2)
    told = events_of(database, held.job_id)[-1]
    assert told.kind == "batch_halved"
    assert told.data == {"step": "sft", "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    (notice,) = job_of(database, held.job_id).notices
    assert "4 instead of 8" in notice["detail"]
    held = taken(database)
    assert fail(database, held, Reason.OUT_OF_MEMORY) is State.FAILED
    job = job_of(database, held.job_id)
    assert (job.reason, training_of(database, held.job_id)) == ("out_of_memory", (4, 2))
    assert job.sentence == "It did not go. Its batch was halved once already."


def test_without_the_argument_nothing_is_halved(database: Database) -> None:
    held = hold(database)
    assert fail(database, held, Reason.OUT_OF_MEMORY) is State.FAILED
    assert training_of(database, held.job_id) == (8, 1)


def test_a_batch_of_one_fails_with_a_sentence(database: Database) -> None:
    from service.store import jobs
    from tests.service.store.stored import a_document, a_read_job

    document = a_document(training={"per_device_train_batch_size": 1}, resources={"on_out_of_memory": "halve_batch"})
    with database.transaction() as session:
        jobs.create(session, "ann", document, a_read_job(**document))
    held = taken(database)
    assert fail(database, held, Reason.OUT_OF_MEMORY) is State.FAILED
    assert "Its batch cannot be made smaller." in (job_of(database, held.job_id).sentence or "")


def test_a_job_that_ran_out_of_memory_and_was_to_be_paused_goes_on_smaller_when_it_is_resumed(database: Database) -> None:
    held = hold(database, on_out_of_memory="halve_batch")
    wish(database, "pause", held.job_id)
    assert fail(database, held, Reason.OUT_OF_MEMORY) is State.PAUSED
    assert training_of(database, held.job_id) == (4, 2)


@pytest.mark.parametrize(
    ("batch", "accumulation", "smaller"), [(8, 3, (4, 6)), (2, 1, (1, 2)), (15, 2, (5, 6)), (7, 1, (1, 7)), (9, 1, (3, 3))]
)
def test_as_many_examples_make_an_update_as_before(batch: int, accumulation: int, smaller: tuple[int, int]) -> None:
    def step(name: str) -> dict[str, Any]:
        training = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation, "seed": 1}
        return {"name": name, "training": training}

    resolved = {"steps": [step("one"), step("two")]}
    made = halved(resolved, "two")
    assert made is not None
    first, second = made.resolved["steps"]
    assert first == resolved["steps"][0]
    found = second["training"]
    assert (found["per_device_train_batch_size"], found["gradient_accumulation_steps"], found["seed"]) == (*smaller, 1)
    assert smaller[0] * smaller[1] == batch * accumulation
    assert made.pointer == "/resolved/steps/1/training/per_device_train_batch_size"


@pytest.mark.parametrize(
    ("deed", "argument", "pointer"),
    [
        ("predict", "per_device_eval_batch_size", "/resolved/steps/0/training/per_device_eval_batch_size"),
        ("measure", "per_device_eval_batch_size", "/resolved/steps/0/training/per_device_eval_batch_size"),
        ("evaluate", "batch_size", "/resolved/steps/0/evaluation/batch_size"),
    ],
)
def test_a_step_that_trains_nothing_reads_half_as_many_texts_at_a_time(deed: str, argument: str, pointer: str) -> None:
    training = {"per_device_train_batch_size": 8, "per_device_eval_batch_size": 5, "gradient_accumulation_steps": 1}
    step = {"name": "one", "do": deed, "training": training, "evaluation": {"batch_size": 5}}
    made = halved({"steps": [step]}, "one")
    assert made is not None
    assert (made.pointer, made.numbers) == (pointer, {"step": "one", argument: 2})
    assert made.sentence == f"It goes on with {argument} 2 instead of 5."
    assert made.resolved["steps"][0]["training"]["per_device_train_batch_size"] == 8


def test_what_a_batch_must_have_or_has_alone_is_not_halved() -> None:
    training = {"per_device_train_batch_size": 2, "per_device_eval_batch_size": 8, "gradient_accumulation_steps": 1}
    for finetuning, smaller in (({"stage": "dpo", "dpo_loss": "kto"}, None), ({"stage": "dpo", "dpo_loss": "sigmoid"}, 1)):
        made = halved({"steps": [{"name": "one", "do": "train", "training": training, "finetuning": finetuning}]}, "one")
        assert (made and made.smaller) == smaller, "judged answers are held against others of their batch"
    assert halved({"steps": [{"name": "one", "do": "generate", "training": training}]}, "one") is None
