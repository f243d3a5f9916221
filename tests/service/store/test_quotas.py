"""Quotas: what waits is refused when it comes, what would run waits, and GPU hours are held before they are used."""

import threading
from datetime import UTC, datetime

import pytest
from sqlalchemy import select, update

from service.specs.quota import UNLIMITED, Quota
from service.store import gpu_use, jobs, leases, place, quotas, scheduling, wishes
from service.store.clock import now
from service.store.errors import QuotaReached
from service.store.session import Database
from service.store.tables import GpuUse, Job
from tests.service.store import staffed, stored
from tests.service.store.staffed import enter, want


def allow(database, owner="ann", **quota):
    with database.transaction() as session:
        quotas.set_to(session, owner, Quota(**quota))


def ask(database, owner="ann", default=UNLIMITED):
    with database.transaction() as session:
        quotas.refuse_too_many(session, [(owner, default)])


def the_next(database, me, default=UNLIMITED):
    with database.reading() as session:
        return scheduling.best(session, me, (), default)


def finish(database, placed):
    with database.transaction() as session:
        leases.succeed(session, placed.held)


def usage(database, owner="ann"):
    with database.reading() as session:
        return quotas.usage(session, owner)


def set_times(database, job_id, **times):
    """Seconds ago."""
    with database.transaction() as session:
        values = {name: now() - seconds for name, seconds in times.items()}
        session.execute(update(GpuUse).where(GpuUse.job_id == job_id).values(**values))


def test_what_waits_counts_with_what_is_paused_and_nothing_else(database):
    allow(database, queued=2)
    stored.hold(database)
    first = stored.submit(database)
    ask(database)
    with database.transaction() as session:
        wishes.pause(session, "ann", first)
    stored.submit(database)
    with pytest.raises(QuotaReached, match="ann may have 2 jobs waiting, and has 2") as refused:
        ask(database)
    assert refused.value.retry_seconds > 0
    ask(database, "bob")
    stored.cancel(database, first)
    ask(database)


def test_a_quota_counts_all_that_come_together(database):
    allow(database, queued=2)
    new = jobs.New("ann", stored.a_document(), stored.a_read_job())
    with pytest.raises(QuotaReached), database.transaction() as session:
        jobs.create_all(session, [new, new, new])
    assert usage(database).queued == 0
    with database.transaction() as session:
        jobs.create_all(session, [new, new])


def test_two_that_come_at_once_do_not_pass_a_quota_together(database):
    allow(database, queued=5)
    new = jobs.New("ann", stored.a_document(), stored.a_read_job())
    start, refused = threading.Barrier(8), []

    def submit():
        own = Database(database.url)
        start.wait()
        try:
            with own.transaction() as session:
                jobs.create_all(session, [new])
        except QuotaReached as error:
            refused.append(error)
        finally:
            own.close()

    threads = [threading.Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (usage(database).queued, len(refused)) == (5, 3)


def test_the_settings_count_where_nothing_else_is_set(database):
    default = Quota(queued=0, running=1)
    with pytest.raises(QuotaReached):
        ask(database, default=default)
    allow(database, queued=1)
    ask(database, default=default)
    with database.reading() as session:
        assert quotas.of_owner(session, "ann", default) == Quota(queued=1, running=1)


def test_an_owner_s_jobs_wait_where_as_many_run_as_may_and_others_go_on(database):
    allow(database, running=1)
    me = enter(database, cpus=3)
    first, second, bobs = want(database), want(database), want(database, owner="bob")
    placed = staffed.place_all(database, me)
    assert [one.held.job_id for one in placed] == [first, bobs]
    with database.reading() as session:
        found = place.of_job(session, second)
        assert found == place.Place(None, None, "Held: ann may have 1 jobs running, and has 1.")
    finish(database, placed[0])
    assert the_next(database, me) == second


def test_a_claim_looks_again_whether_the_owner_may(database):
    allow(database, running=1)
    one, two = enter(database), enter(database, "two")
    first, second = want(database), want(database)
    with database.transaction() as session:
        assert scheduling.claim(session, one, 60, first)
    with database.transaction() as session:
        assert scheduling.claim(session, two, 60, second) is None


def test_who_is_held_by_a_quota_is_told_once(database):
    allow(database, running=0)
    enter(database)
    job_id = want(database)
    for _ in range(2):
        with database.transaction() as session:
            scheduling.tell_why_held(session, ("default",))
    assert stored.kinds_of(database, job_id).count("held") == 1
    assert stored.job_of(database, job_id).progress == {"held": "Held: ann may have 0 jobs running, and has 0."}


def test_no_worker_is_kept_for_a_job_that_its_owner_may_not_begin(database):
    other = enter(database, "other", gpus=1)
    want(database, gpus=1)
    assert staffed.place(database, other)
    me = enter(database, gpus=2)
    want(database, gpus=1, owner="bob")
    assert staffed.place(database, me)
    want(database, gpus=2)
    allow(database, running=1)
    assert staffed.reserve(database) is None
    allow(database, running=2)
    assert staffed.reserve(database) is not None


def test_a_running_job_holds_the_hours_that_it_may_use_and_settles_what_it_used(database):
    me = enter(database, gpus=2)
    job_id = want(database, gpus=2, max_seconds=1800.0)
    placed = staffed.place(database, me)
    assert usage(database).gpu_hours_held == pytest.approx(1.0, abs=0.01)
    set_times(database, job_id, began_at=900)
    found = usage(database)
    assert (found.gpu_hours, found.gpu_hours_held) == pytest.approx((0.5, 1.0), abs=0.01)
    finish(database, placed)
    found = usage(database)
    assert (found.gpu_hours, found.gpu_hours_held) == pytest.approx((0.5, 0.0), abs=0.01)


def test_a_part_of_a_gpu_is_a_part_of_an_hour_and_a_cpu_is_none(database):
    me = enter(database, gpus=1, sharing=True)
    job_id = want(database, gpus=1, permille=250)
    placed = staffed.place(database, me)
    set_times(database, job_id, began_at=3600, held_until=0)
    finish(database, placed)
    assert usage(database).gpu_hours == pytest.approx(0.25, abs=0.01)
    want(database, gpus=0)
    assert staffed.place(database, me)
    assert usage(database).gpu_hours == pytest.approx(0.25, abs=0.01)


def test_a_job_begins_where_its_hours_are_left_and_waits_where_they_are_not(database):
    allow(database, gpu_hours=1.5)
    me = enter(database, gpus=2)
    first, second = want(database, gpus=1), want(database, gpus=1)
    placed = staffed.place_all(database, me)
    assert [one.held.job_id for one in placed] == [first]
    with database.reading() as session:
        why = place.of_job(session, second).why_unknown
    assert why == "Held: ann may use 1.5 GPU hours in a month; 1.00 are used or held, and this job may take 1.00."
    finish(database, placed[0])
    assert the_next(database, me) == second


def test_hours_that_are_used_up_refuse_until_the_next_month(database):
    allow(database, gpu_hours=1)
    me = enter(database, gpus=1)
    job_id = want(database, gpus=1)
    placed = staffed.place(database, me)
    ask(database)
    finish(database, placed)
    set_times(database, job_id, began_at=3700, ended_at=0)
    at = datetime.now(UTC)
    if at.day == 1 and at.hour < 2:
        pytest.skip("an hour ago was another month")
    with pytest.raises(QuotaReached, match=r"ann may use 1 GPU hours in a month, and has used 1\.03") as refused:
        ask(database)
    assert 0 < refused.value.retry_seconds <= 31 * 86_400
    last_month = (at.day + 1) * 86_400
    set_times(database, job_id, began_at=last_month + 3600, ended_at=last_month)
    ask(database)


@pytest.mark.parametrize(
    ("at", "first", "following"),
    [("2026-11-27T10:00", "2026-11-01", "2026-12-01"), ("2026-12-31T23:59", "2026-12-01", "2027-01-01")],
)
def test_a_month_is_the_calendar_s(at, first, following):
    def seconds(text):
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()

    assert gpu_use.month_of(seconds(at)) == (seconds(first), seconds(following))


def test_use_outlives_its_job(database):
    me = enter(database, gpus=1)
    job_id = want(database, gpus=1)
    placed = staffed.place(database, me)
    set_times(database, job_id, began_at=60, held_until=0)
    finish(database, placed)
    with database.transaction() as session:
        wishes.delete(session, "ann", job_id)
    with database.reading() as session:
        assert session.scalar(select(Job.id)) is None
    assert usage(database).gpu_hours == pytest.approx(1 / 60, abs=0.001)
