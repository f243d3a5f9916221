import json
import time
from collections.abc import Callable

import pytest
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy import func, select, text, update

from service.specs.reasons import Reason
from service.store import events, jobs, leases, line, metrics
from service.store.errors import LeaseLost, NotFound, StateConflict
from service.store.leases import Claim, Rescued, Wish
from service.store.session import Database
from service.store.states import State
from service.store.tables import Job
from tests.service.store.stored import (
    a_document,
    a_read_job,
    attempts_of,
    break_off,
    cancel,
    events_of,
    everything,
    expire,
    hold,
    job_of,
    kinds_of,
    renew,
    rescue,
    submit,
    take,
)
from tests.service.store.threads import at_once

# Created


def test_a_job_is_stored_as_it_came_and_as_it_will_run(database: Database) -> None:
    document = a_document(
        name="Lettres d'été ≤ 3", labels={"team": "α"}, resources={"queue": "a100", "priority": 7, "max_lost": 1}
    )
    read = a_read_job(**document)
    with database.transaction() as session:
        created = jobs.create(session, "ann", document, read)
    job = job_of(database, created.id)
    assert job.document == document
    assert job.resolved == read.resolved.model_dump(mode="json")
    assert jobs.resolved(job) == read.resolved
    assert (job.owner, job.name, job.labels) == ("ann", "Lettres d'été ≤ 3", {"team": "α"})
    assert (job.queue, job.priority, job.max_lost) == ("a100", 7, 1)
    assert (job.state, job.attempt, job.lost, job.worker, job.lease_until) == ("queued", 0, 0, None, None)


def test_a_job_begins_with_an_event_for_its_arrival_and_one_for_each_notice(database: Database) -> None:
    document = a_document(model={"model_name_or_path": "tiny", "use_fast_tokenizer": True})
    read = a_read_job(**document)
    assert read.notices
    with database.transaction() as session:
        job = jobs.create(session, "ann", document, read)
    assert job.notices == [{"pointer": notice.pointer, "detail": notice.detail} for notice in read.notices]
    assert kinds_of(database, job.id) == ["submitted", *["notice"] * len(read.notices)]
    assert job.event_count == 1 + len(read.notices)
    assert events_of(database, job.id)[1].data == {"pointer": read.notices[0].pointer}


def test_a_job_is_given_to_its_owner_alone(database: Database) -> None:
    job_id = submit(database, owner="ann")
    with database.reading() as session:
        assert jobs.get(session, "ann", job_id).id == job_id
        with pytest.raises(NotFound, match=job_id):
            jobs.get(session, "bob", job_id)
        with pytest.raises(NotFound):
            jobs.get(session, "ann", "job-0")
    with pytest.raises(NotFound):
        cancel(database, job_id, owner="bob")


# Claimed


def test_a_claim_starts_an_attempt_under_a_lease(database: Database) -> None:
    job_id = submit(database)
    held = take(database, "worker-1", lease=60)
    assert held == Claim(job_id, 1, "worker-1")
    job = job_of(database, job_id)
    assert (job.state, job.attempt, job.worker) == ("running", 1, "worker-1")
    assert job.lease_until == pytest.approx(now_of(database) + 60, abs=5)
    assert job.started_at is not None
    assert attempts_of(database, job_id) == [(1, None)]
    assert kinds_of(database, job_id) == ["submitted", "started"]


def now_of(database: Database) -> float:
    with database.reading() as session:
        return session.execute(select(jobs.now())).scalar_one()


def test_where_nothing_waits_there_is_nothing_to_claim(database: Database) -> None:
    assert take(database) is None
    hold(database)
    assert take(database) is None


def test_a_worker_claims_from_its_own_queues_alone(database: Database) -> None:
    submit(database, queue="a100")
    h100 = submit(database, queue="h100", priority=-1)
    assert take(database, queues=("cpu",)) is None
    assert take(database, queues=()) is None
    held = take(database, queues=("cpu", "h100"))
    assert held is not None
    assert held.job_id == h100


def test_jobs_are_claimed_by_priority_then_by_the_owners_share_then_by_age(database: Database) -> None:
    anns_old = submit(database, "ann", created_at=1)
    anns_next = submit(database, "ann", created_at=2)
    bobs = submit(database, "bob", created_at=3)
    anns_last = submit(database, "ann", created_at=4)
    urgent = submit(database, "ann", created_at=5, priority=1)
    claimed = [held.job_id for held in iter(lambda: take(database), None)]
    # The urgent job runs first, so ann has one running: bob's, with none, goes before her older ones.
    assert claimed == [urgent, bobs, anns_old, anns_next, anns_last]


def test_only_running_jobs_count_against_an_owners_share(database: Database) -> None:
    done = hold(database, owner="ann")
    with database.transaction() as session:
        leases.succeed(session, done)
    anns = submit(database, "ann", created_at=1)
    submit(database, "bob", created_at=2)
    held = take(database)
    assert held is not None
    assert held.job_id == anns


def test_workers_that_claim_at_once_never_hold_the_same_job(database: Database) -> None:
    submitted = {submit(database, owner=f"owner-{number % 3}", priority=number % 2) for number in range(48)}
    takers = [lambda name=f"worker-{number}": take_all(database, name) for number in range(8)]
    claimed = [held for taken in at_once(*takers) for held in taken]
    assert sorted(held.job_id for held in claimed) == sorted(submitted)
    assert {held.attempt for held in claimed} == {1}
    for held in claimed:
        assert job_of(database, held.job_id).worker == held.worker


def take_all(database: Database, worker: str) -> list[Claim]:
    return list(iter(lambda: take(database, worker), None))


def test_one_job_goes_to_one_of_the_workers_that_want_it(database: Database) -> None:
    for _ in range(5):
        job_id = submit(database)
        taken = at_once(*[lambda: take(database)] * 6)
        assert [held for held in taken if held is not None] == [Claim(job_id, 1, "worker-1")]


# Kept


def test_renewing_prolongs_the_lease_and_notes_progress(database: Database) -> None:
    held = hold(database)
    expire(database, held)
    assert renew(database, held, {"global_step": 3}) is None
    job = job_of(database, held.job_id)
    assert job.progress == {"global_step": 3}
    assert job.lease_until is not None
    assert job.lease_until > now_of(database) + 50
    assert rescue(database) == []


def test_a_heartbeat_without_progress_keeps_what_was_noted(database: Database) -> None:
    held = hold(database)
    renew(database, held, {"global_step": 3})
    renew(database, held)
    assert job_of(database, held.job_id).progress == {"global_step": 3}


# A hold that is lost, and the ways to lose it


def wrong_attempt(database: Database) -> Claim:
    held = hold(database)
    return Claim(held.job_id, held.attempt + 1, held.worker)


def wrong_worker(database: Database) -> Claim:
    held = hold(database)
    return Claim(held.job_id, held.attempt, "worker-2")


def rescued(database: Database) -> Claim:
    held = hold(database)
    expire(database, held)
    rescue(database)
    return held


def taken_over_by_another_worker(database: Database) -> Claim:
    held = rescued(database)
    assert take(database, "worker-2") == Claim(held.job_id, 2, "worker-2")
    return held


def taken_over_by_the_same_worker(database: Database) -> Claim:
    held = rescued(database)
    assert take(database, held.worker) == Claim(held.job_id, 2, held.worker)
    return held


def given_back(database: Database) -> Claim:
    held = hold(database)
    with database.transaction() as session:
        leases.give_back(session, held, "Draining.")
    return held


def succeeded(database: Database) -> Claim:
    held = hold(database)
    with database.transaction() as session:
        leases.succeed(session, held)
    return held


WAYS_TO_LOSE = [
    wrong_attempt,
    wrong_worker,
    rescued,
    taken_over_by_another_worker,
    taken_over_by_the_same_worker,
    given_back,
    succeeded,
]

WRITES: dict[str, Callable[..., object]] = {
    "renew": lambda session, held: leases.renew(session, held, 60, {"global_step": 99}),
    "succeed": leases.succeed,
    "fail": lambda session, held: leases.fail(session, held, Reason.KILLED, "Killed."),
    "lose": lambda session, held: leases.lose(session, held, Reason.KILLED, "Killed."),
    "give back": lambda session, held: leases.give_back(session, held, "Draining."),
}


@pytest.mark.parametrize("lose", WAYS_TO_LOSE, ids=lambda way: way.__name__)
def test_who_does_not_hold_the_job_writes_nothing(database: Database, lose: Callable[[Database], Claim]) -> None:
    held = lose(database)
    before = everything(database)
    for write in WRITES.values():
        with pytest.raises(LeaseLost, match=held.job_id):
            write_beside_a_point(database, held, write)
    assert everything(database) == before


def write_beside_a_point(database: Database, held: Claim, write: Callable[..., object]) -> None:
    with database.transaction() as session:
        metrics.record_points(session, held, "sft", 99, {"loss": 0.5})
        events.add(session, held.job_id, "measured", "A zombie was here.")
        write(session, held)


def test_what_a_holder_writes_beside_its_heartbeat_stands(database: Database) -> None:
    held = hold(database)
    with database.transaction() as session:
        metrics.record_points(session, held, "sft", 1, {"loss": 0.5})
        leases.renew(session, held, 60)
        metrics.record_points(session, held, "sft", 2, {"loss": 0.25})
    with database.reading() as session:
        assert metrics.series(session, held.job_id, "sft", "loss") == ([1, 2], [0.5, 0.25])


def test_a_fresh_attempt_holds_the_job_and_its_zombie_can_do_nothing(database: Database) -> None:
    zombie = taken_over_by_another_worker(database)
    fresh = Claim(zombie.job_id, 2, "worker-2")
    with pytest.raises(LeaseLost):
        renew(database, zombie, {"global_step": 1})
    assert renew(database, fresh, {"global_step": 2}) is None
    with database.transaction() as session:
        leases.succeed(session, fresh)
    assert job_of(database, fresh.job_id).progress == {"global_step": 2}
    assert attempts_of(database, fresh.job_id) == [(1, "lost"), (2, "succeeded")]


def test_a_heartbeat_that_races_a_rescue_has_one_winner(database: Database) -> None:
    for _ in range(8):
        held = hold(database)
        expire(database, held)
        saved, beat = at_once(lambda: rescue(database), lambda held=held: renew(database, held))
        if isinstance(beat, LeaseLost):
            assert saved == [Rescued(held.job_id, "default", State.QUEUED)]
            assert take(database) is not None
        else:
            assert (saved, beat) == ([], None)
        assert job_of(database, held.job_id).state == "running"


# Ended


def test_a_job_that_succeeds_lets_go_of_its_worker(database: Database) -> None:
    held = succeeded(database)
    job = job_of(database, held.job_id)
    assert (job.state, job.worker, job.lease_until, job.reason) == ("succeeded", None, None, None)
    assert job.finished_at is not None
    assert attempts_of(database, held.job_id) == [(1, "succeeded")]
    assert kinds_of(database, held.job_id) == ["submitted", "started", "succeeded"]


def test_a_job_that_fails_says_why_and_where(database: Database) -> None:
    held = hold(database)
    with database.transaction() as session:
        leases.fail(session, held, Reason.BAD_ROW, "Row 3 has no text.", {"file": "a.jsonl", "row": 3})
    job = job_of(database, held.job_id)
    assert (job.state, job.reason, job.sentence) == ("failed", "bad_row", "Row 3 has no text.")
    assert job.details == {"file": "a.jsonl", "row": 3}
    ended = events_of(database, held.job_id)[-1]
    assert (ended.kind, ended.attempt, ended.message) == ("failed", 1, "Row 3 has no text.")
    assert ended.data == {"reason": "bad_row", "file": "a.jsonl", "row": 3}


def test_enumerated_values_are_stored_as_the_plain_words(database: Database) -> None:
    held = hold(database)
    with database.transaction() as session:
        leases.fail(session, held, Reason.OUT_OF_MEMORY, "The device's memory was not enough.")
    with database.reading() as session:
        of_job = session.execute(text("SELECT state, reason FROM jobs")).one()
        of_attempt = session.execute(text("SELECT outcome, reason FROM attempts")).one()
        of_event = session.execute(text("SELECT kind, CAST(data AS TEXT) FROM events WHERE number = 3")).one()
    assert tuple(of_job) == tuple(of_attempt) == ("failed", "out_of_memory")
    kind, data = of_event
    assert (kind, json.loads(data)) == ("failed", {"reason": "out_of_memory"})
    job = job_of(database, held.job_id)
    assert (type(job.state), type(job.reason)) == (str, str)


def test_a_job_that_is_given_back_waits_again_at_no_cost(database: Database) -> None:
    held = hold(database)
    with database.transaction() as session:
        assert leases.give_back(session, held, "The worker drains.") is State.QUEUED
    job = job_of(database, held.job_id)
    assert (job.state, job.worker, job.lease_until, job.lost, job.bell_rung_at) == ("queued", None, None, 0, None)
    assert attempts_of(database, held.job_id) == [(1, "released")]
    assert take(database, "worker-2") == Claim(held.job_id, 2, "worker-2")


def test_the_first_start_is_remembered_through_later_attempts(database: Database) -> None:
    held = hold(database)
    first = job_of(database, held.job_id).started_at
    with database.transaction() as session:
        leases.give_back(session, held, "The worker drains.")
    take(database)
    assert job_of(database, held.job_id).started_at == first


# Cancelled


def test_a_job_that_waits_is_cancelled_at_once(database: Database) -> None:
    job_id = submit(database)
    cancelled = cancel(database, job_id)
    assert (cancelled.state, cancelled.reason) == ("cancelled", None)
    assert cancelled.finished_at is not None
    assert kinds_of(database, job_id) == ["submitted", "cancelled"]
    assert take(database) is None


def test_the_wish_to_cancel_comes_back_with_the_heartbeat(database: Database) -> None:
    held = hold(database)
    assert renew(database, held) is None
    wished = cancel(database, held.job_id)
    assert wished.state == "running"
    assert wished.cancel_requested_at is not None
    assert renew(database, held) is Wish.CANCEL
    with database.transaction() as session:
        assert leases.give_back(session, held, "Stopped at step 3.") is State.CANCELLED
    assert job_of(database, held.job_id).state == "cancelled"
    assert attempts_of(database, held.job_id) == [(1, "cancelled")]
    assert kinds_of(database, held.job_id) == ["submitted", "started", "cancel_requested", "cancelled"]


def test_a_wish_that_comes_twice_is_one_wish(database: Database) -> None:
    held = hold(database)
    first = cancel(database, held.job_id)
    again = cancel(database, held.job_id)
    assert again.cancel_requested_at == first.cancel_requested_at
    assert again.version == first.version
    assert kinds_of(database, held.job_id).count("cancel_requested") == 1


def test_a_cancelled_job_may_be_cancelled_again(database: Database) -> None:
    job_id = submit(database)
    first = cancel(database, job_id)
    again = cancel(database, job_id)
    assert (again.state, again.version, again.finished_at) == ("cancelled", first.version, first.finished_at)


def test_a_job_that_ended_otherwise_cannot_be_cancelled(database: Database) -> None:
    held = succeeded(database)
    with pytest.raises(StateConflict, match=r"The job is succeeded; it cannot be cancelled\.") as refused:
        cancel(database, held.job_id)
    assert refused.value.state == "succeeded"


def test_a_finish_that_comes_before_the_wish_is_heard_wins(database: Database) -> None:
    held = hold(database)
    cancel(database, held.job_id)
    with database.transaction() as session:
        leases.succeed(session, held)
    assert job_of(database, held.job_id).state == "succeeded"


def test_a_cancel_that_races_a_claim_is_either_done_or_heard(database: Database) -> None:
    for _ in range(8):
        job_id = submit(database)
        cancelled, held = at_once(lambda job_id=job_id: cancel(database, job_id), lambda: take(database))
        assert isinstance(cancelled, Job)
        if cancelled.state == "cancelled":
            assert held is None
        else:
            assert isinstance(held, Claim)
            assert renew(database, held) is Wish.CANCEL


def test_a_cancel_that_races_a_finish_is_refused_or_comes_too_late(database: Database) -> None:
    def finish(held: Claim) -> None:
        with database.transaction() as session:
            leases.succeed(session, held)

    for _ in range(8):
        held = hold(database)
        wished, finished = at_once(lambda held=held: cancel(database, held.job_id), lambda held=held: finish(held))
        assert finished is None
        assert isinstance(wished, StateConflict) or wished.state == "running"
        assert job_of(database, held.job_id).state == "succeeded"


# Rescued


def test_a_lease_that_has_not_run_out_is_left_alone(database: Database) -> None:
    held = hold(database)
    assert rescue(database) == []
    assert job_of(database, held.job_id).state == "running"


def test_a_job_whose_worker_is_lost_waits_for_another(database: Database) -> None:
    held = hold(database, queue="default")
    expire(database, held)
    assert rescue(database) == [Rescued(held.job_id, "default", State.QUEUED)]
    job = job_of(database, held.job_id)
    assert (job.state, job.lost, job.worker, job.lease_until, job.bell_rung_at) == ("queued", 1, None, None, None)
    assert attempts_of(database, held.job_id) == [(1, "lost")]
    assert kinds_of(database, held.job_id)[-1] == "lease_lost"
    assert rescue(database) == []


def test_a_job_that_loses_its_worker_too_often_fails(database: Database) -> None:
    held = hold(database, max_lost=1)
    expire(database, held)
    rescue(database)
    again = take(database)
    assert again is not None
    expire(database, again)
    assert rescue(database) == [Rescued(held.job_id, "default", State.FAILED)]
    job = job_of(database, held.job_id)
    assert (job.state, job.reason, job.lost) == ("failed", "worker_lost", 2)
    assert job.sentence == "worker-1 was not heard of within its lease. That happened 2 times; max_lost allows 1."
    assert attempts_of(database, held.job_id) == [(1, "lost"), (2, "failed")]


def test_a_lost_job_whose_client_wished_it_cancelled_is_cancelled(database: Database) -> None:
    held = hold(database)
    cancel(database, held.job_id)
    expire(database, held)
    assert rescue(database) == [Rescued(held.job_id, "default", State.CANCELLED)]
    job = job_of(database, held.job_id)
    assert (job.state, job.lost, job.reason) == ("cancelled", 1, None)


def test_processes_that_rescue_at_once_rescue_each_job_once(database: Database) -> None:
    for number in range(9):
        submit(database, owner=f"owner-{number}")
    lost = [held for held in iter(lambda: take(database), None)]
    for held in lost:
        expire(database, held)
    found = [saved for several in at_once(*[lambda: rescue(database)] * 6) for saved in several]
    assert sorted(saved.job_id for saved in found) == sorted(held.job_id for held in lost)
    for held in lost:
        assert job_of(database, held.job_id).lost == 1
        assert kinds_of(database, held.job_id).count("lease_lost") == 1


def test_a_rescue_takes_no_more_than_its_limit(database: Database) -> None:
    for _ in range(3):
        submit(database)
    for held in iter(lambda: take(database), None):
        expire(database, held)
    with database.transaction() as session:
        assert len(leases.rescue(session, limit=2)) == 2
    assert len(rescue(database)) == 1


# Broken off


def lose(database: Database, held: Claim, reason: Reason = Reason.KILLED) -> State:
    with database.transaction() as session:
        return leases.lose(session, held, reason, "The training process was killed.")


def test_a_job_whose_attempt_breaks_off_is_tried_again(database: Database) -> None:
    held = hold(database)
    assert lose(database, held) is State.QUEUED
    job = job_of(database, held.job_id)
    assert (job.state, job.lost, job.reason, job.worker, job.bell_rung_at) == ("queued", 1, None, None, None)
    assert attempts_of(database, held.job_id) == [(1, "lost")]
    assert events_of(database, held.job_id)[-1].message.startswith("The training process was killed.")
    assert take(database, "worker-2") == Claim(held.job_id, 2, "worker-2")


def test_a_job_whose_attempts_break_off_too_often_fails_with_the_last_reason(database: Database) -> None:
    held = hold(database, max_lost=0)
    assert lose(database, held, Reason.OUT_OF_MEMORY) is State.FAILED
    job = job_of(database, held.job_id)
    assert (job.state, job.reason, job.lost) == ("failed", "out_of_memory", 1)
    assert job.sentence == "The training process was killed. That happened 1 times; max_lost allows 0."


def test_a_job_that_breaks_off_when_it_was_to_be_cancelled_is_cancelled(database: Database) -> None:
    held = hold(database)
    cancel(database, held.job_id)
    assert lose(database, held) is State.CANCELLED
    assert job_of(database, held.job_id).reason is None


# Rung


def unheard(database: Database, queues: tuple[str, ...] = ("default", "a100"), older_than: float = 60) -> list[str]:
    with database.transaction() as session:
        return leases.unheard(session, queues, older_than)


def test_a_bell_is_not_rung_again_within_its_period(database: Database) -> None:
    submit(database)
    assert unheard(database) == []


def test_queues_whose_bell_may_be_lost_are_rung_once_a_period(database: Database) -> None:
    for queue in ("default", "a100", "a100", "h100"):
        submit(database, queue=queue)
    with database.transaction() as session:
        session.execute(update(Job).values(bell_rung_at=Job.bell_rung_at - 61))
    assert unheard(database) == ["a100", "default"]
    assert unheard(database) == []
    assert unheard(database, queues=("h100",)) == ["h100"]


def test_one_job_s_bell_is_enough_for_all_that_wait(database: Database) -> None:
    job_ids = [submit(database) for _ in range(3)]
    with database.transaction() as session:
        session.execute(update(Job).values(bell_rung_at=1.0))
    assert unheard(database) == ["default"]
    assert [job_of(database, job_id).bell_rung_at == 1.0 for job_id in job_ids].count(True) == 2
    submit(database)
    assert unheard(database) == []


def test_a_job_that_comes_back_is_rung_for_at_once(database: Database) -> None:
    given_back(database)
    assert unheard(database) == ["default"]


def test_only_jobs_that_wait_are_rung_for(database: Database) -> None:
    rescued(database)
    take(database)
    assert unheard(database, older_than=-60) == []


def test_sweeps_at_once_ring_once(database: Database) -> None:
    for _ in range(6):
        given_back(database)
        assert sorted(at_once(*[lambda: unheard(database)] * 4)) == [[], [], [], ["default"]]
        take(database)


# Told


def test_times_are_the_databases_not_the_hosts(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    true = time.time()
    monkeypatch.setattr(time, "time", lambda: true + 1e6)
    monkeypatch.setattr(time, "time_ns", lambda: int((true + 1e6) * 1e9))
    held = hold(database)
    assert rescue(database) == []
    assert unheard(database) == []
    with database.transaction() as session:
        leases.succeed(session, held)
    job = job_of(database, held.job_id)
    for moment in (job.created_at, job.started_at, job.changed_at, job.finished_at, events_of(database, held.job_id)[0].at):
        assert moment == pytest.approx(true, abs=60)


def test_the_databases_clock_moves_within_a_transaction(database: Database) -> None:
    with database.transaction() as session:
        first = session.scalar(select(jobs.now()))
        time.sleep(0.02)
        second = session.scalar(select(jobs.now()))
    assert first is not None
    assert second is not None
    assert 0.01 < second - first < 600, "seconds"


def test_events_are_numbered_without_gaps_whoever_writes_them(database: Database) -> None:
    job_id = submit(database)

    def tell(writer: int) -> None:
        for count in range(10):
            with database.transaction() as session:
                events.add(session, job_id, "measured", f"{writer}.{count}")
            if count % 3 == 0:
                break_off(database, lambda session: events.add(session, job_id, "measured", f"{writer} never said this"))

    def follow() -> list[int]:
        """What a client sees that asks again and again for what is behind its last."""
        seen: list[int] = []
        deadline = time.monotonic() + 100
        while len(seen) < 61 and time.monotonic() < deadline:
            with database.reading() as session:
                seen += [told.number for told in events.after(session, job_id, seen[-1] if seen else 0, 7)]
            time.sleep(0.001)  # without it the writers wait for the interpreter more than for each other
        return seen

    outcomes = at_once(follow, *[lambda writer=writer: tell(writer) for writer in range(6)])
    assert outcomes == [list(range(1, 62)), *[None] * 6]
    assert job_of(database, job_id).event_count == 61
    assert "never" not in "".join(told.message for told in events_of(database, job_id))


def test_events_are_read_behind_a_number_and_up_to_a_limit(database: Database) -> None:
    held = hold(database)
    cancel(database, held.job_id)
    with database.reading() as session:
        assert [event.number for event in events.after(session, held.job_id, 1, 1)] == [2]
        assert [event.number for event in events.after(session, held.job_id, 1, 9)] == [2, 3]
        assert list(events.after(session, held.job_id, 3, 9)) == []


def test_every_change_of_a_job_raises_its_version(database: Database) -> None:
    job_id = submit(database)
    versions = [job_of(database, job_id).version]

    def noted(do: Callable[[], object]) -> None:
        before = job_of(database, job_id)
        do()
        after = job_of(database, job_id)
        assert after.version > before.version
        assert after.changed_at >= before.changed_at
        versions.append(after.version)

    def write(verb: Callable[..., object], *values: object) -> None:
        with database.transaction() as session:
            verb(session, *values)

    worker = "worker-1"
    noted(lambda: take(database, worker))
    noted(lambda: renew(database, Claim(job_id, 1, worker), {"global_step": 1}))
    noted(lambda: write(events.add, job_id, "measured", "Measured."))
    noted(lambda: write(leases.give_back, Claim(job_id, 1, worker), "Draining."))
    noted(lambda: take(database, worker))
    expire(database, Claim(job_id, 2, worker))
    noted(lambda: rescue(database))
    noted(lambda: take(database, worker))
    noted(lambda: cancel(database, job_id))
    noted(lambda: write(leases.give_back, Claim(job_id, 3, worker), "Stopped."))
    assert len(versions) == 10


def test_a_mere_heartbeat_is_no_change(database: Database) -> None:
    held = hold(database)
    before = job_of(database, held.job_id).version
    renew(database, held)
    assert job_of(database, held.job_id).version == before


def test_a_claim_asks_the_database_few_questions(database: Database) -> None:
    for _ in range(5):
        submit(database)
    asked: list[str] = []
    sqlalchemy_event.listen(database.engine, "before_cursor_execute", lambda *call: asked.append(call[2]))
    take(database)
    assert len([statement for statement in asked if not statement.startswith("BEGIN")]) == 8


def test_deleting_a_job_takes_its_events_and_attempts_along(database: Database) -> None:
    held = hold(database)
    with database.transaction() as session:
        session.execute(text("DELETE FROM jobs"))
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 0
    assert events_of(database, held.job_id) == []
    assert attempts_of(database, held.job_id) == []


# Held


def held_back(database: Database, job_id: str, why: str = "Held: no room.", worker: str = "worker-1") -> None:
    with database.transaction() as session:
        leases.hold(session, job_id, worker, why)


def test_what_is_ready_is_told_in_the_order_in_which_it_would_be_claimed(database: Database) -> None:
    old, new, first = submit(database, created_at=1), submit(database, created_at=2), submit(database, priority=5)
    submit(database, queue="other")
    with database.reading() as session:
        assert [waiting.id for waiting in line.in_order(session, ["default"])] == [first, old, new]


def test_a_named_job_is_claimed_though_another_is_better(database: Database) -> None:
    submit(database, priority=5)
    job_id = submit(database)
    with database.transaction() as session:
        held = leases.claim(session, ["default"], "worker-1", 60, only=job_id)
    assert held is not None
    assert held.job_id == job_id
    with database.transaction() as session:
        assert leases.claim(session, ["default"], "worker-2", 60, only=job_id) is None


def test_why_a_job_is_held_is_told_once_and_kept_up_to_date(database: Database) -> None:
    job_id = submit(database)
    for why in ("Held: 1 GB is free.", "Held: 1 GB is free.", "Held: 2 GB are free."):
        held_back(database, job_id, why)
    job = job_of(database, job_id)
    assert (job.state, job.progress) == (State.QUEUED, {"held": "Held: 2 GB are free."})
    assert kinds_of(database, job_id) == ["submitted", "held"]
    version = job.version
    held_back(database, job_id, "Held: 2 GB are free.")
    assert job_of(database, job_id).version == version


def test_a_job_that_begins_or_is_cancelled_is_held_no_more(database: Database) -> None:
    begun = submit(database)
    held_back(database, begun)
    assert take(database) is not None
    assert job_of(database, begun).progress is None
    cancelled = submit(database)
    held_back(database, cancelled)
    cancel(database, cancelled)
    assert job_of(database, cancelled).progress is None
    held_back(database, begun)
    held_back(database, cancelled)
    assert "held" not in kinds_of(database, begun)[2:] + kinds_of(database, cancelled)[2:]


def test_a_hold_leaves_the_progress_of_earlier_attempts(database: Database) -> None:
    held = hold(database)
    renew(database, held, {"global_step": 7})
    with database.transaction() as session:
        leases.give_back(session, held, "The worker stops.")
    held_back(database, held.job_id)
    assert job_of(database, held.job_id).progress == {"global_step": 7, "held": "Held: no room."}
    take(database)
    assert job_of(database, held.job_id).progress == {"global_step": 7}
