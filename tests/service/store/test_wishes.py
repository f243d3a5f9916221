"""What clients wish of jobs: pause, resume, retry, change, delete. Cancelling is in test_jobs.py."""

import pytest

from service.specs.changes import JobChanges, read_changes
from service.specs.reasons import Reason
from service.specs.refusals import SpecRefused
from service.store import checkpoints, leases, removals, retention, steps, wishes
from service.store.errors import InUse, LeaseLost, NotFound, StaleVersion, StateConflict
from service.store.leases import Claim, Wish
from service.store.session import Database
from service.store.states import ENDED, State
from service.store.tables import Base, Job
from tests.service.store.clocks import lever
from tests.service.store.stored import (
    attempts_of,
    cancel,
    events_of,
    expire,
    hold,
    job_of,
    kinds_of,
    put,
    renew,
    rescue,
    submit,
    take,
    wish,
)


def give_back(database: Database, held: Claim) -> State:
    with database.transaction() as session:
        return leases.give_back(session, held, "Stopped at a checkpoint.")


def failed(database: Database, held: Claim, reason: Reason = Reason.BAD_ROW) -> None:
    with database.transaction() as session:
        leases.fail(session, held, reason, "Row 3 has no text.", {"row": 3})


def change(database: Database, job_id: str, versions: set[int] | None = None, **changes: object) -> Job:
    with database.transaction() as session:
        return wishes.change(session, "ann", job_id, JobChanges(**changes), versions)


def delete(database: Database, job_id: str, owner: str = "ann") -> None:
    with database.transaction() as session:
        wishes.delete(session, owner, job_id)


# Pause and resume


def test_a_job_that_waits_is_paused_at_once_and_nobody_takes_it(database: Database) -> None:
    job_id = submit(database)
    assert wish(database, "pause", job_id).state == "paused"
    assert take(database) is None
    assert kinds_of(database, job_id) == ["submitted", "paused"]


def test_the_wish_to_pause_comes_back_with_the_heartbeat_and_the_slot_is_free(database: Database) -> None:
    held = hold(database)
    asked = wish(database, "pause", held.job_id)
    assert (asked.state, asked.pause_requested_at is not None) == ("running", True)
    assert renew(database, held) is Wish.PAUSE
    assert give_back(database, held) is State.PAUSED
    job = job_of(database, held.job_id)
    assert (job.state, job.worker, job.lease_until, job.pause_requested_at) == ("paused", None, None, None)
    assert attempts_of(database, held.job_id) == [(1, "released")]
    assert kinds_of(database, held.job_id)[-2:] == ["pause_requested", "paused"]


def test_the_same_wish_twice_is_one_wish(database: Database) -> None:
    held = hold(database)
    first = wish(database, "pause", held.job_id)
    second = wish(database, "pause", held.job_id)
    assert (second.version, second.pause_requested_at) == (first.version, first.pause_requested_at)
    give_back(database, held)
    paused = job_of(database, held.job_id)
    assert wish(database, "pause", held.job_id).version == paused.version
    resumed = wish(database, "resume", held.job_id)
    assert wish(database, "resume", held.job_id).version == resumed.version


def test_a_paused_job_is_queued_again_and_its_bell_may_ring(database: Database) -> None:
    held = hold(database)
    wish(database, "pause", held.job_id)
    give_back(database, held)
    assert wish(database, "resume", held.job_id).state == "queued"
    again = take(database, "worker-2")
    assert again == Claim(held.job_id, 2, "worker-2")
    assert renew(database, again) is None, "the wish to pause is done with"


def test_a_pause_that_is_withdrawn_lets_the_job_go_on(database: Database) -> None:
    held = hold(database)
    wish(database, "pause", held.job_id)
    assert wish(database, "resume", held.job_id).pause_requested_at is None
    assert renew(database, held) is None
    assert give_back(database, held) is State.QUEUED, "a worker that had begun to stop"
    assert "pause_withdrawn" in kinds_of(database, held.job_id)


def test_a_cancel_wins_over_a_pause(database: Database) -> None:
    held = hold(database)
    wish(database, "pause", held.job_id)
    assert cancel(database, held.job_id).pause_requested_at is None
    assert renew(database, held) is Wish.CANCEL
    for verb in ("pause", "resume"):
        with pytest.raises(StateConflict, match="It is being cancelled"):
            wish(database, verb, held.job_id)
    assert give_back(database, held) is State.CANCELLED


def test_a_job_that_was_to_be_paused_when_its_worker_was_lost_is_paused(database: Database) -> None:
    held = hold(database, max_lost=0)
    wish(database, "pause", held.job_id)
    expire(database, held)
    assert [saved.state for saved in rescue(database)] == [State.PAUSED]
    assert (job_of(database, held.job_id).lost, attempts_of(database, held.job_id)) == (1, [(1, "lost")])
    with pytest.raises(LeaseLost):
        renew(database, held)


def test_a_finish_that_comes_before_the_pause_is_heard_wins(database: Database) -> None:
    held = hold(database)
    wish(database, "pause", held.job_id)
    with database.transaction() as session:
        leases.succeed(session, held)
    job = job_of(database, held.job_id)
    assert (job.state, job.pause_requested_at) == ("succeeded", None)


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_a_job_that_has_ended_is_neither_paused_nor_resumed(database: Database, verb: str) -> None:
    job_id = submit(database)
    for state in ENDED:
        put(database, job_id, state)
        with pytest.raises(StateConflict, match=state):
            wish(database, verb, job_id)


@pytest.mark.parametrize("verb", ["pause", "resume", "retry", "cancel"])
def test_nobody_wishes_anything_of_another_owners_job(database: Database, verb: str) -> None:
    job_id = submit(database)
    with pytest.raises(NotFound):
        wish(database, verb, job_id, owner="bob")


# Retry


def test_a_failed_job_is_queued_again_as_if_it_had_never_failed_but_for_what_it_has_done(database: Database) -> None:
    held = hold(database, max_lost=1)
    with database.transaction() as session:
        leases.renew(session, held, 60)
        checkpoints.record(session, held, "one", 10, f"{held.job_id}/1/one/checkpoint-10", 1.0, 0.5, [])
        steps.finish(session, held, 0, "one", f"{held.job_id}/1/one/checkpoint-10", {})
    expire(database, held)
    rescue(database)
    again = take(database)
    assert again is not None
    failed(database, again)
    assert wish(database, "retry", held.job_id).state == "queued"
    job = job_of(database, held.job_id)
    assert (job.reason, job.sentence, job.details, job.finished_at, job.lost, job.retries) == (None, None, None, None, 0, 0)
    with database.reading() as session:
        assert [step.name for step in steps.of_job(session, held.job_id)] == ["one"]
        assert [kept.global_step for kept in checkpoints.kept(session, held.job_id)] == [10]
    third = take(database)
    assert third is not None
    assert third.attempt == 3, "the fence goes on counting"
    assert kinds_of(database, held.job_id)[-2:] == ["retried", "started"]


def test_a_cancelled_job_that_is_tried_again_is_wished_cancelled_no_more(database: Database) -> None:
    held = hold(database)
    cancel(database, held.job_id)
    give_back(database, held)
    wish(database, "retry", held.job_id)
    again = take(database)
    assert again is not None
    assert renew(database, again) is None


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING, State.PAUSED, State.SUCCEEDED])
def test_only_what_failed_or_was_cancelled_is_tried_again(database: Database, state: State) -> None:
    job_id = submit(database)
    put(database, job_id, state)
    with pytest.raises(StateConflict, match=f"The job is {state}; it cannot be retried"):
        wish(database, "retry", job_id)


def test_a_job_whose_deadline_has_passed_is_not_tried_again(database: Database) -> None:
    let_pass = lever(database)
    held = hold(database, deadline="2099-01-01T00:00:00Z")
    failed(database, held)
    let_pass(100 * 366 * 86_400)
    with pytest.raises(StateConflict, match="deadline"):
        wish(database, "retry", held.job_id)


def test_a_step_whose_files_are_gone_is_done_again(database: Database) -> None:
    let_pass = lever(database)
    held = hold(database, artifacts_ttl_seconds=60)
    with database.transaction() as session:
        leases.renew(session, held, 60)
        checkpoints.record(session, held, "one", 10, f"{held.job_id}/1/one/checkpoint-10", 1.0, 0.5, [])
        steps.finish(session, held, 0, "one", f"{held.job_id}/1/one/checkpoint-10", {})
    failed(database, held)
    let_pass(61)
    with database.transaction() as session:
        assert retention.expire(session) == [held.job_id]
    wish(database, "retry", held.job_id)
    with database.reading() as session:
        assert list(steps.of_job(session, held.job_id)) == []


# Change


def test_priority_name_and_labels_change_in_the_job_and_its_event(database: Database) -> None:
    job_id = submit(database, labels={"team": "a", "old": "x"})
    job = change(database, job_id, priority=5, name="again", labels={"new": "y", "old": None})
    assert (job.priority, job.name, job.labels) == (5, "again", {"team": "a", "new": "y"})
    assert job.resolved["resources"]["priority"] == 5
    assert events_of(database, job_id)[-1].data == {"priority": 5, "name": "again", "labels": {"team": "a", "new": "y"}}
    assert change(database, job_id, name=None).name is None


def test_another_priority_changes_who_goes_first(database: Database) -> None:
    submit(database)
    later = submit(database)
    change(database, later, priority=1)
    held = take(database)
    assert held is not None
    assert held.job_id == later


def test_a_change_that_changes_nothing_is_no_other_version(database: Database) -> None:
    job_id = submit(database, labels={"team": "a"})
    before = job_of(database, job_id).version
    assert change(database, job_id, priority=0, labels={"team": "a", "gone": None}).version == before


def test_a_change_is_refused_when_the_job_has_changed_since(database: Database) -> None:
    job_id = submit(database)
    seen = job_of(database, job_id).version
    assert change(database, job_id, {seen - 1, seen}, priority=1).priority == 1
    with pytest.raises(StaleVersion) as refused:
        change(database, job_id, {seen}, priority=2)
    assert refused.value.version == job_of(database, job_id).version
    assert job_of(database, job_id).priority == 1


def test_a_job_that_has_ended_takes_labels_and_no_priority(database: Database) -> None:
    job_id = submit(database)
    cancel(database, job_id)
    assert change(database, job_id, labels={"kept": "yes"}, priority=0).labels == {"kept": "yes"}
    with pytest.raises(StateConflict, match="cancelled"):
        change(database, job_id, priority=1)


def test_a_job_has_no_more_labels_than_it_may_be_submitted_with(database: Database) -> None:
    job_id = submit(database, labels={f"l{index}": "x" for index in range(32)})
    with pytest.raises(SpecRefused, match="at most 32 labels"):
        change(database, job_id, labels={"one": "more"})
    assert len(change(database, job_id, labels={"one": "more", "l0": None}).labels) == 32


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ({}, ""),
        ([], ""),
        ({"priority": None}, ""),
        ({"labels": None}, ""),
        ({"priority": 101}, "/priority"),
        ({"priority": "5"}, "/priority"),
        ({"state": "paused"}, "/state"),
        ({"labels": {"a b": "x"}}, "/labels/a b"),
        ({"labels": {"a": 3}}, "/labels/a"),
        ({"name": ""}, "/name"),
    ],
)
def test_a_change_that_cannot_be_is_refused_with_its_place(document: object, pointer: str) -> None:
    with pytest.raises(SpecRefused) as refused:
        read_changes(document)
    assert [refusal.pointer for refusal in refused.value.refusals] == [pointer]


# Delete


def test_a_deleted_job_leaves_no_row_and_its_files_are_to_go(database: Database) -> None:
    held = hold(database)
    with database.transaction() as session:
        leases.renew(session, held, 60)
        checkpoints.record(session, held, "sft", 10, f"{held.job_id}/1/sft/checkpoint-10", 1.0, 0.5, [])
        leases.succeed(session, held)
    delete(database, held.job_id)
    with database.reading() as session:
        left = {table.name for table in Base.metadata.sorted_tables if session.execute(table.select()).first() is not None}
        assert left == {"counts", "removals"}
        assert removals.waiting(session) == [held.job_id]
    with pytest.raises(NotFound):
        delete(database, held.job_id)
    with pytest.raises(LeaseLost):
        renew(database, held)


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING, State.PAUSED])
def test_a_job_that_has_not_ended_is_not_deleted(database: Database, state: State) -> None:
    job_id = submit(database)
    put(database, job_id, state)
    with pytest.raises(StateConflict, match=f"{state}.*Cancel it first"):
        delete(database, job_id)


def test_what_a_job_that_has_not_ended_refers_to_is_not_deleted(database: Database) -> None:
    job_id = submit(database)
    cancel(database, job_id)
    user = submit_on(database, f"{job_id}/1/sft/checkpoint-10")
    for state in (State.QUEUED, State.RUNNING, State.PAUSED):
        put(database, user, state)
        with pytest.raises(InUse) as refused:
            delete(database, job_id)
        assert refused.value.jobs == [user]
    put(database, user, State.SUCCEEDED)
    delete(database, job_id)


def submit_on(database: Database, model: str) -> str:
    from service.store import jobs
    from tests.service.store.stored import a_document, a_read_job

    document = a_document(model={"model_name_or_path": model})
    with database.transaction() as session:
        return jobs.create(session, "bob", document, a_read_job(**document)).id
