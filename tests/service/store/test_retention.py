"""Which checkpoints and artifacts are kept, and that nothing goes which somebody needs."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

import pytest
from sqlalchemy import false
from sqlalchemy.orm import Session

from service.specs.checkpoint_names import CheckpointName
from service.specs.refusals import SpecRefused
from service.store import artifacts, checkpoints, jobs, leases, made_models, removals, retention, wishes
from service.store.errors import InUse, StateConflict
from service.store.leases import Claim
from service.store.references import is_needed
from service.store.session import Database
from service.store.states import State
from tests.service.store.clocks import lever
from tests.service.store.stored import a_document, a_read_job, break_off, events_of, hold, job_of, put, wish
from tests.service.store.test_metrics import a_measure, measured

FILES = [{"name": "model.safetensors", "size": 10, "sha256": "a" * 64}]


def save(database: Database, held: Claim, *global_steps: int, step: str = "sft") -> None:
    for global_step in global_steps:
        with database.transaction() as session:
            leases.renew(session, held, 60)
            path = f"{held.job_id}/{held.attempt}/{step}/checkpoint-{global_step}"
            checkpoints.record(session, held, step, global_step, path, 1.0, 0.5, FILES)


def thin(database: Database, held: Claim, newest: int | None, best: int | None, step: str = "sft") -> list[int]:
    with database.transaction() as session:
        leases.renew(session, held, 60)
        return retention.thin(session, held, step, newest, best)


def kept(database: Database, job_id: str) -> list[int]:
    with database.reading() as session:
        return [checkpoint.global_step for checkpoint in checkpoints.kept(session, job_id)]


def waiting(database: Database) -> list[str]:
    with database.reading() as session:
        return list(removals.waiting(session))


def expire(database: Database) -> list[str]:
    with database.transaction() as session:
        return retention.expire(session)


def test_the_newest_checkpoints_stay_and_the_others_go(database: Database) -> None:
    held = hold(database)
    save(database, held, 1, 10, 100, 2)
    assert thin(database, held, newest=2, best=None) == [1, 2]
    assert kept(database, held.job_id) == [10, 100]
    assert waiting(database) == [f"{held.job_id}/1/sft/checkpoint-1", f"{held.job_id}/1/sft/checkpoint-2"]
    with database.reading() as session:
        found = checkpoints.of_job(session, held.job_id)
        assert {one.global_step for one in found if one.removed_at is not None} == {1, 2}
        names = [artifact.name for artifact in artifacts.of_job(session, held.job_id)]
    # checkpoint-1 is not the beginning of checkpoint-10 and -100
    assert names == ["sft/checkpoint-10/model.safetensors", "sft/checkpoint-100/model.safetensors"]
    assert events_of(database, held.job_id)[-1].data == {"step": "sft", "global_steps": [1, 2]}
    assert thin(database, held, newest=2, best=None) == []


def test_the_best_checkpoints_stay_beside_the_newest(database: Database) -> None:
    held = hold(database)
    save(database, held, 10, 20, 30, 40, 50)
    for global_step, bits in ((-1, 0.1), (10, 3.0), (20, 1.0), (30, 2.0), (40, 1.0), (50, None)):
        measured(database, held, a_measure(global_step, value=bits))
    assert thin(database, held, newest=None, best=1) == [10, 30, 40]
    assert kept(database, held.job_id) == [20, 50], "the earlier of equals, and the newest, which diverged"


def test_what_is_not_measured_yet_is_not_among_the_best(database: Database) -> None:
    held = hold(database)
    save(database, held, 10, 20, 30)
    measured(database, held, a_measure(10, value=2.0))
    assert thin(database, held, newest=1, best=2) == [20]
    assert kept(database, held.job_id) == [10, 30]


def test_without_the_arguments_everything_stays(database: Database) -> None:
    held = hold(database)
    save(database, held, 10, 20, 30)
    assert thin(database, held, None, None) == []
    assert kept(database, held.job_id) == [10, 20, 30]


def test_each_step_keeps_its_own(database: Database) -> None:
    held = hold(database)
    save(database, held, 10, 20, step="one")
    save(database, held, 5, 15, step="two")
    assert thin(database, held, newest=1, best=None, step="two") == [5]
    with database.reading() as session:
        assert [one.global_step for one in checkpoints.kept(session, held.job_id, "one")] == [10, 20]


def test_a_checkpoint_that_is_saved_anew_is_there_again(database: Database) -> None:
    held = hold(database)
    save(database, held, 10, 20)
    thin(database, held, newest=1, best=None)
    save(database, held, 10)
    assert kept(database, held.job_id) == [20, 10]


def test_files_are_noted_with_the_row_or_not_at_all(database: Database) -> None:
    held = hold(database)
    save(database, held, 10, 20)
    break_off(database, lambda session: retention.thin(session, held, "sft", 1, None))
    assert (kept(database, held.job_id), waiting(database)) == ([10, 20], [])


# The time to live


def ended(database: Database, **resources: object) -> Claim:
    held = hold(database, **resources)
    save(database, held, 10, 20)
    with database.transaction() as session:
        leases.renew(session, held, 60)
        artifacts.record(session, held, "loss.png", f"{held.job_id}/1/loss.png", 3, "b" * 64)
        leases.succeed(session, held)
    return held


def test_what_an_ended_job_made_goes_when_its_time_is_over(database: Database) -> None:
    let_pass = lever(database)
    held, other = ended(database, artifacts_ttl_seconds=100), ended(database)
    let_pass(99)
    assert expire(database) == []
    let_pass(2)
    assert expire(database) == [held.job_id]
    assert (kept(database, held.job_id), kept(database, other.job_id)) == ([], [10, 20])
    made = [f"{held.job_id}/1/loss.png", f"{held.job_id}/1/sft/checkpoint-10", f"{held.job_id}/1/sft/checkpoint-20"]
    assert sorted(waiting(database)) == made
    with database.reading() as session:
        assert list(artifacts.of_job(session, held.job_id)) == []
    assert job_of(database, held.job_id).state == "succeeded"
    assert expire(database) == []


def test_the_operators_time_holds_for_jobs_that_have_none_of_their_own(database: Database) -> None:
    for own, expected in ((None, 500.0), (7.0, 7.0)):
        document = a_document(resources={"artifacts_ttl_seconds": own} if own else {})
        with database.transaction() as session:
            [job] = jobs.create_all(session, [jobs.New("ann", document, a_read_job(**document), artifacts_ttl_seconds=500.0)])
        assert job_of(database, job.id).artifacts_ttl_seconds == expected


def test_a_job_that_is_tried_again_in_time_keeps_what_it_made(database: Database) -> None:
    let_pass = lever(database)
    held = ended(database, artifacts_ttl_seconds=100)
    put(database, held.job_id, State.FAILED)
    with database.transaction() as session:
        wishes.retry(session, "ann", held.job_id)
    let_pass(1000)
    assert expire(database) == []
    assert kept(database, held.job_id) == [10, 20]


def test_what_a_job_that_has_not_ended_refers_to_stays(database: Database) -> None:
    let_pass = lever(database)
    held = ended(database, artifacts_ttl_seconds=100)
    document = a_document(model={"model_name_or_path": f"{held.job_id}/1/sft/checkpoint-20"})
    with database.transaction() as session:
        user = jobs.create(session, "bob", document, a_read_job(**document)).id
    let_pass(101)
    for state in (State.QUEUED, State.RUNNING, State.PAUSED):
        put(database, user, state)
        assert expire(database) == []
    put(database, user, State.CANCELLED)
    assert expire(database) == [held.job_id]


# A job that comes while something is given up


def naming(database: Database, session: Session, checkpoint: str) -> str:
    """A job that begins with that checkpoint, asked for in this transaction."""
    document = a_document(model={"model_name_or_path": checkpoint})
    return jobs.create(session, "ann", document, a_read_job(**document)).id


def beside(database: Database, write: Callable[[Session], object]) -> "Future[object]":
    """In a transaction of its own, begun now; it may have to wait for ours."""

    def commit() -> object:
        with database.transaction() as session:
            return write(session)

    pool = ThreadPoolExecutor(1, "beside")
    begun = pool.submit(commit)
    pool.shutdown(wait=False)
    return begun


GIVING_UP: dict[str, Callable[[Session, str], object]] = {
    "its time is over": lambda session, job_id: retention.expire(session),
    "it is deleted": lambda session, job_id: wishes.delete(session, "ann", job_id),
    "its client gives it up": lambda session, job_id: made_models.give_up(
        session, "ann", job_id, CheckpointName(job_id, "sft", 20)
    ),
}


@pytest.mark.parametrize("how", GIVING_UP)
def test_what_a_job_names_that_is_just_coming_stays(database: Database, how: str) -> None:
    let_pass = lever(database)
    held = ended(database, artifacts_ttl_seconds=100)
    let_pass(101)
    with database.transaction() as session:
        user = naming(database, session, f"{held.job_id}/sft/20")
        giving_up = beside(database, lambda other: GIVING_UP[how](other, held.job_id))
        wait([giving_up], timeout=0.1)
    assert isinstance(giving_up.exception(60), InUse) or giving_up.result() == []
    assert kept(database, held.job_id) == [10, 20]
    assert job_of(database, user).state == "queued"


@pytest.mark.parametrize("how", GIVING_UP)
def test_a_job_that_names_what_is_just_going_is_refused(database: Database, how: str) -> None:
    let_pass = lever(database)
    held = ended(database, artifacts_ttl_seconds=100)
    let_pass(101)
    with database.transaction() as session:
        GIVING_UP[how](session, held.job_id)
        coming = beside(database, lambda other: naming(database, other, f"{held.job_id}/sft/20"))
        wait([coming], timeout=0.1)
    refused = coming.exception(60)
    assert isinstance(refused, SpecRefused)
    assert [refusal.detail for refusal in refused.refusals] == [f"The checkpoint {held.job_id}/sft/20 was given up a moment ago."]


def test_a_worker_that_thins_out_keeps_what_a_job_names_that_is_just_coming(database: Database) -> None:
    held = hold(database)
    save(database, held, 10, 20, 30)
    with database.transaction() as session:
        naming(database, session, f"{held.job_id}/sft/10")
        thinning = beside(database, lambda other: (leases.renew(other, held, 60), retention.thin(other, held, "sft", 1, None))[1])
        wait([thinning], timeout=0.1)
    assert thinning.result(60) == [20]
    assert kept(database, held.job_id) == [10, 30]


def test_who_looked_before_a_job_came_looks_again(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a statement sees is what was there when it began, and the row may come free only after that."""
    let_pass = lever(database)
    held = ended(database, artifacts_ttl_seconds=100)
    with database.transaction() as session:
        naming(database, session, f"{held.job_id}/sft/20")
    let_pass(101)
    seen = iter([false()])
    monkeypatch.setattr(retention, "is_needed", lambda named: next(seen, is_needed(named)))
    assert expire(database) == []
    assert kept(database, held.job_id) == [10, 20]


def test_a_job_is_not_tried_again_on_what_is_kept_no_longer(database: Database) -> None:
    let_pass = lever(database)
    held = ended(database, artifacts_ttl_seconds=100)
    with database.transaction() as session:
        user = naming(database, session, f"{held.job_id}/sft/20")
    put(database, user, State.FAILED)
    with database.transaction() as session:
        wishes.retry(session, "ann", user)
    put(database, user, State.FAILED)
    let_pass(101)
    assert expire(database) == [held.job_id]
    with pytest.raises(StateConflict, match=f"The checkpoint {held.job_id}/sft/20 is kept no longer"):
        wish(database, "retry", user)


def test_a_note_is_kept_until_the_store_is_rid_of_the_files(database: Database) -> None:
    let_pass = lever(database)
    with database.transaction() as session:
        removals.ask(session, ["a", "b"])
        removals.ask(session, ["a"])
    assert waiting(database) == ["b", "a"] or waiting(database) == ["a", "b"]
    with database.transaction() as session:
        removals.done(session, "a", is_copied=True)
        removals.done(session, "b", is_copied=False)
    with database.reading() as session:
        assert (list(removals.waiting(session)), list(removals.recent(session))) == ([], ["a"])
    let_pass(removals.LASTS_SECONDS + 1)
    with database.transaction() as session:
        removals.forget_old(session)
    with database.reading() as session:
        assert list(removals.recent(session)) == []
