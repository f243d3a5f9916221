"""What is put on its way to webhooks, by whom it is tried, and until when."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import select, update

from service.specs.reasons import Reason
from service.specs.webhooks import WebhookChanges, WebhookSpec
from service.store import checkpoints, events, leases, limits, webhook_deliveries, webhooks, wishes
from service.store.clock import now
from service.store.errors import NotFound, WebhookDisabled
from service.store.session import Database
from service.store.states import ENDED, State, sources
from service.store.tables import Job, WebhookDelivery
from service.store.webhook_deliveries import Due, Went
from tests.service.store.stored import hold, submit
from tests.service.store.threads import at_once

KEY = SecretStr("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")

WELL, BAD, GONE = Went(200, "Delivered.", 0.1), Went(503, "Status 503.", 0.1), Went(410, "Status 410.", 0.1)


def listen(database: Database, *names: Any, owner: str = "ann") -> str:
    spec = WebhookSpec(url="https://example.com/hook", **({"events": list(names)} if names else {}))
    with database.transaction() as session:
        return webhooks.create(session, owner, spec, KEY)[0].id


def told(database: Database) -> list[WebhookDelivery]:
    with database.reading() as session:
        return list(session.scalars(select(WebhookDelivery).order_by(WebhookDelivery.created_at, WebhookDelivery.id)))


def take(database: Database, busy: Sequence[str] = ()) -> Due | None:
    with database.transaction() as session:
        return webhook_deliveries.take(session, busy)


def taken(database: Database) -> Due:
    due = take(database)
    assert due is not None
    return due


def write(database: Database, due: Due, went: Went) -> bool:
    with database.transaction() as session:
        return webhook_deliveries.write(session, due, went)


def put_off(database: Database, seconds: float, *columns: Any) -> None:
    """As if so much time had passed."""
    with database.transaction() as session:
        session.execute(update(WebhookDelivery).values({column: column - seconds for column in columns}))


ENDS: dict[str, tuple[State, Callable[[Database], None]]] = {}


def end(state: State) -> Callable[[Callable[[Database], None]], Callable[[Database], None]]:
    def noted(way: Callable[[Database], None]) -> Callable[[Database], None]:
        ENDS[way.__name__] = (state, way)
        return way

    return noted


@end(State.SUCCEEDED)
def finished(database: Database) -> None:
    held = hold(database)
    with database.transaction() as session:
        leases.succeed(session, held)


@end(State.FAILED)
def failed(database: Database) -> None:
    held = hold(database)
    with database.transaction() as session:
        leases.fail(session, held, Reason.BAD_ROW, "Row 7 is bad.")


@end(State.FAILED)
def lost_too_often(database: Database) -> None:
    held = hold(database, max_lost=0)
    with database.transaction() as session:
        session.execute(update(Job).values(lease_until=now() - 1))
        assert [rescued.job_id for rescued in leases.rescue(session)] == [held.job_id]


@end(State.FAILED)
def late(database: Database) -> None:
    submit(database)
    with database.transaction() as session:
        session.execute(update(Job).values(deadline=now() - 1))
        assert len(limits.end_late(session)) == 1


@end(State.CANCELLED)
def cancelled_while_it_waited(database: Database) -> None:
    job_id = submit(database)
    with database.transaction() as session:
        wishes.cancel(session, "ann", job_id)


@end(State.CANCELLED)
def cancelled_while_it_ran(database: Database) -> None:
    held = hold(database)
    with database.transaction() as session:
        wishes.cancel(session, "ann", held.job_id)
        leases.give_back(session, held, "It stops.")


@pytest.mark.parametrize("way", ENDS)
def test_every_end_of_a_job_is_on_its_way_once(database: Database, way: str) -> None:
    webhook = listen(database)
    listen(database, owner="bob")
    state, happen = ENDS[way]
    happen(database)
    [delivery] = told(database)
    assert (delivery.webhook_id, delivery.event) == (webhook, f"fine_tuning.job.{state}")
    with database.reading() as session:
        job = session.scalars(select(Job)).one()
    assert delivery.data == {
        "job": job.id, "name": None, "state": str(state), "reason": job.reason, "sentence": job.sentence
    }  # fmt: skip


def test_the_ways_above_lead_to_every_end_there_is() -> None:
    assert {state for state, _ in ENDS.values()} == ENDED
    assert set(webhooks.OF_STATE) == ENDED
    assert all(sources(state) for state in ENDED)


def test_what_is_rolled_back_is_not_on_its_way(database: Database) -> None:
    listen(database)
    held = hold(database)
    with database.transaction() as session:
        leases.succeed(session, held)
        session.rollback()
    assert told(database) == []


def test_alerts_and_checkpoints_are_told_to_whom_asks_for_them(database: Database) -> None:
    listen(database)
    both = listen(database, "fine_tuning.job.alert", "fine_tuning.job.checkpoint")
    held = hold(database)
    with database.transaction() as session:
        leases.renew(session, held, 60, more=True)
        checkpoints.record(session, held, "sft", 5, "p", 0.5, 1.0, [])
        events.add(session, held.job_id, events.Kind.CHECKPOINT_SAVED, "Saved.", {"step": "sft", "global_step": 5})
        events.add(session, held.job_id, events.Kind.ALERT, "It collapses.", {"alert": "collapse"})
        events.add(session, held.job_id, events.Kind.NOTICE, "Nothing for webhooks.")
    found = {delivery.event: (delivery.webhook_id, delivery.data["details"]) for delivery in told(database)}
    assert len(told(database)) == 2
    assert found == {
        "fine_tuning.job.checkpoint": (both, {"step": "sft", "global_step": 5}),
        "fine_tuning.job.alert": (both, {"alert": "collapse"}),
    }


def test_a_secret_is_kept_encrypted_and_opened_by_its_key_alone(database: Database) -> None:
    with database.transaction() as session:
        webhook, secret = webhooks.create(session, "ann", WebhookSpec(url="https://example.com"), KEY)
        assert secret not in webhook.sealed
        assert webhooks.secrets_of(webhook, KEY, 0.0) == [secret]
        assert webhooks.secrets_of(webhook, SecretStr("A" * 43 + "="), 0.0) is None


def test_after_a_rotation_both_secrets_sign_for_a_day(database: Database) -> None:
    with database.transaction() as session:
        first, old = webhooks.create(session, "ann", WebhookSpec(url="https://example.com"), KEY)
        rotated, new = webhooks.rotate(session, "ann", first.id, KEY)
        until = rotated.before_until
        assert until is not None
        assert webhooks.secrets_of(rotated, KEY, until - 1) == [new, old]
        assert webhooks.secrets_of(rotated, KEY, until + 1) == [new]
        assert until - rotated.created_at == pytest.approx(24 * 3600, abs=60)


def test_a_try_is_one_process_s_while_it_lasts(database: Database) -> None:
    listen(database)
    finished(database)
    found = at_once(*[lambda: take(database)] * 4)
    assert sorted(type(due) for due in found if due is not None) == [Due]


def test_who_is_killed_while_it_tries_loses_nothing_and_whoever_comes_too_late_writes_nothing(database: Database) -> None:
    listen(database)
    finished(database)
    killed = taken(database)
    assert take(database) is None
    put_off(database, webhook_deliveries.TRY_SECONDS + 1, WebhookDelivery.next_at)
    again = taken(database)
    assert (again.id, again.tried) == (killed.id, killed.tried + 1)
    assert not write(database, killed, WELL)
    assert told(database)[0].delivered_at is None
    assert write(database, again, WELL)
    assert told(database)[0].delivered_at is not None
    assert take(database) is None


def test_it_is_tried_for_a_day_less_and_less_often_and_every_try_is_noted(database: Database) -> None:
    listen(database)
    finished(database)
    waits = []
    while (due := take(database)) is not None:
        write(database, due, BAD)
        delivery = told(database)[0]
        if delivery.next_at is None:
            break
        waits.append(delivery.next_at - due.at)
        put_off(database, waits[-1] + 1, WebhookDelivery.next_at, WebhookDelivery.until)
    assert 15 < len(waits) < 35
    assert sum(waits) < 24 * 3600
    assert all(2.5 * 2**n <= wait <= 5.5 * 2**n for n, wait in enumerate(waits[:10]))
    assert 3500 < max(waits) <= 2 * 3600 + 1
    [delivery] = told(database)
    assert (delivery.next_at, delivery.delivered_at) == (None, None)
    assert [one["status"] for one in delivery.tries] == [503] * (len(waits) + 1)


def test_many_receivers_that_came_back_at_once_are_not_asked_at_once() -> None:
    assert len({round(webhook_deliveries.wait_before(4), 3) for _ in range(20)}) > 5


def test_a_receiver_that_asks_for_time_is_given_it() -> None:
    assert webhook_deliveries.wait_before(1, 600.0) == 600.0
    assert webhook_deliveries.wait_before(1, 1e9) == webhook_deliveries.LONGEST_WAIT_SECONDS


def test_410_disables_and_what_waits_is_given_up(database: Database) -> None:
    webhook = listen(database)
    finished(database)
    failed(database)
    write(database, taken(database), GONE)
    assert take(database) is None
    late(database)
    assert len(told(database)) == 2
    with database.transaction() as session:
        assert "410" in (webhooks.get(session, "ann", webhook).disabled_why or "")
        with pytest.raises(WebhookDisabled):
            webhooks.put_test(session, "ann", webhook)
        webhooks.change(session, "ann", webhook, WebhookChanges(enabled=True), KEY)
        webhooks.put_test(session, "ann", webhook)
    assert taken(database).event == "webhook.test"


def test_a_replay_sends_it_again_under_its_id_even_while_it_is_being_tried(database: Database) -> None:
    webhook = listen(database)
    finished(database)
    first = taken(database)
    with database.transaction() as session:
        webhook_deliveries.replay(session, "ann", webhook, first.id)
    assert not write(database, first, WELL)
    again = taken(database)
    assert again.id == first.id
    write(database, again, WELL)
    with database.transaction() as session:
        assert webhook_deliveries.replay(session, "ann", webhook, first.id).delivered_at is None
    assert taken(database).id == first.id


def test_nobody_sees_another_s_webhook_or_what_it_was_told(database: Database) -> None:
    webhook = listen(database)
    finished(database)
    delivery = told(database)[0].id
    with database.transaction() as session:
        for ask in (
            lambda: webhooks.get(session, "bob", webhook),
            lambda: webhooks.change(session, "bob", webhook, WebhookChanges(enabled=False), KEY),
            lambda: webhooks.rotate(session, "bob", webhook, KEY),
            lambda: webhooks.delete(session, "bob", webhook),
            lambda: webhooks.put_test(session, "bob", webhook),
            lambda: webhook_deliveries.listing(session, "bob", webhook, 5),
            lambda: webhook_deliveries.get(session, "bob", webhook, delivery),
            lambda: webhook_deliveries.replay(session, "bob", webhook, delivery),
        ):
            with pytest.raises(NotFound):
                ask()


def test_a_webhook_goes_with_its_log_and_a_message_outlives_its_job(database: Database) -> None:
    webhook = listen(database)
    finished(database)
    with database.transaction() as session:
        wishes.delete(session, "ann", session.scalars(select(Job.id)).one())
    assert len(told(database)) == 1
    with database.transaction() as session:
        webhooks.delete(session, "ann", webhook)
    assert told(database) == []


def test_the_log_is_forgotten_after_a_month_but_never_what_is_on_its_way(database: Database) -> None:
    listen(database)
    finished(database)
    write(database, taken(database), WELL)
    failed(database)
    put_off(database, 31 * 24 * 3600, WebhookDelivery.created_at)
    with database.transaction() as session:
        assert webhook_deliveries.forget(session) == 1
        assert webhook_deliveries.n_waiting(session) == 1
