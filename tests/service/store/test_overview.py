from sqlalchemy import update

from service.specs.reasons import Reason
from service.specs.webhooks import WebhookSpec
from service.store import leases, webhooks, wishes, workers
from service.store.clock import now
from service.store.overview import Overview, overview
from service.store.session import Database
from service.store.tables import Job, WebhookDelivery
from tests.service.store.crowds import crowd, disperse, effort
from tests.service.store.staffed import enter
from tests.service.store.stored import hold, renew, submit
from tests.service.store.test_webhooks import KEY


def seen(database: Database) -> Overview:
    with database.reading() as session:
        return overview(session)


def test_nothing_is_seen_where_nothing_is(database: Database) -> None:
    empty = seen(database)
    assert (empty.live, empty.running, empty.workers) == ([], [], {})
    assert not any(empty.counts.values())
    assert (empty.webhooks_waiting, empty.webhooks_oldest_seconds) == (0, 0.0)


def test_jobs_that_have_not_ended_are_counted_by_state_and_queue_with_the_oldest(database: Database) -> None:
    held = hold(database)
    renew(database, held, {"tokens_per_second": 1234})
    for _ in range(3):
        submit(database)
    submit(database, queue="big")
    waiting = submit(database)
    with database.transaction() as session:
        wishes.pause(session, "ann", waiting)
        session.execute(update(Job).where(Job.queue == "big").values(created_at=now() - 500))
    found = seen(database)
    assert {(live.state, live.queue): live.n for live in found.live} == {
        ("running", "default"): 1,
        ("queued", "default"): 3,
        ("queued", "big"): 1,
        ("paused", "default"): 1,
    }
    [oldest] = [live.oldest_seconds for live in found.live if live.queue == "big"]
    assert 499 < oldest < 560
    assert [(running.worker, running.tokens_per_second) for running in found.running] == [("worker-1", 1234.0)]


def test_what_ended_is_counted(database: Database) -> None:
    for _ in range(2):
        held = hold(database)
        with database.transaction() as session:
            leases.fail(session, held, Reason.BAD_ROW, "Bad.")
    counts = seen(database).counts
    assert counts["jobs_begun"] == {("default", ""): 2}
    assert (counts["jobs_ended"], counts["attempts_ended"]) == ({("failed", "bad_row"): 2}, {("failed", ""): 2})
    assert (counts["leases_lost"], counts["writes_fenced"]) == ({}, {})


def test_workers_and_slots_are_seen_as_they_last_reported(database: Database) -> None:
    me = enter(database, "one", gpus=1)
    with database.transaction() as session:
        workers.heartbeat(session, me, {0: workers.Reading({"utilization_percent": 80}, trouble="too hot")})
    found = seen(database)
    assert found.workers == {"one": "up"}
    assert 0 <= found.unheard_seconds["one"] < 60
    gpu = found.slots[0]
    assert (gpu.worker, gpu.readings, gpu.trouble) == ("one", {"utilization_percent": 80}, "too hot")


def test_messages_that_wait_for_a_receiver_are_counted_with_the_oldest(database: Database) -> None:
    with database.transaction() as session:
        webhook, _ = webhooks.create(session, "ann", WebhookSpec(url="https://example.com"), KEY)
        webhooks.put_test(session, "ann", webhook.id)
        webhooks.put_test(session, "ann", webhook.id)
        session.execute(update(WebhookDelivery).values(created_at=now() - 100))
    found = seen(database)
    assert found.webhooks_waiting == 2
    assert 99 < found.webhooks_oldest_seconds < 160


def test_jobs_that_ended_long_ago_cost_nothing(database: Database) -> None:
    few, many = (_cost(database, n_ended) for n_ended in (50, 3000))
    assert many <= 1.5 * few + 8


def _cost(database: Database, n_ended: int) -> float:
    disperse(database)
    crowd(database, 50, n_ended)
    return effort(database, lambda: seen(database))
