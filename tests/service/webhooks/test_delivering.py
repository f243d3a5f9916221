"""The whole way, from a job's end in the database to a receiver on loopback."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import openai
import pytest
from pydantic import SecretStr
from sqlalchemy import update

from service.specs.webhooks import WebhookSpec
from service.store import leases, webhook_deliveries, webhooks
from service.store.clock import now
from service.store.session import Database
from service.store.tables import WebhookDelivery
from service.store.webhook_deliveries import Went
from service.webhooks.addresses import networks_of
from service.webhooks.delivering import Deliverer
from service.webhooks.sending import Sender
from tests.databases import migrated
from tests.service.store.stored import hold
from tests.service.webhooks.receiver import WELL, Message, Receiver, receiving

KEY = SecretStr("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Database]:
    opened = migrated(tmp_path / "finebits.db")
    yield opened
    opened.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as opened:
        yield opened


@contextmanager
def delivering(database: Database, *answer_seconds: float) -> Iterator[Deliverer]:
    """An answer is waited for so long; of several times each is for one message, and the last for all that follow."""
    patience = list(answer_seconds) or [120.0]

    def post(url: str, headers: dict[str, str], body: bytes) -> Went:
        seconds = patience.pop(0) if len(patience) > 1 else patience[0]
        return Sender(networks_of("127.0.0.0/8"), seconds).post(url, headers, body)

    deliverer = Deliverer(database, KEY, post, look_seconds=0.02)
    deliverer.start()
    yield deliverer
    deliverer.close(60)


def listen(database: Database, receiver: Receiver) -> tuple[str, str]:
    with database.transaction() as session:
        webhook, secret = webhooks.create(session, "ann", WebhookSpec(url=receiver.url), KEY)
        return webhook.id, secret


def end_a_job(database: Database) -> str:
    held = hold(database)
    with database.transaction() as session:
        leases.succeed(session, held)
    return held.job_id


def log_of(database: Database, webhook: str) -> list[tuple[bool, list[int | None]]]:
    """Of each message, the oldest first: whether it has come, and how each try was answered."""
    with database.reading() as session:
        found, _ = webhook_deliveries.listing(session, "ann", webhook, 100)
        return [(one.delivered_at is not None, [a_try["status"] for a_try in one.tries]) for one in reversed(found)]


def wait_until(database: Database, webhook: str, expected: list[tuple[bool, list[int | None]]]) -> None:
    ends_at = monotonic() + 120
    while log_of(database, webhook) != expected:
        assert monotonic() < ends_at, log_of(database, webhook)
        sleep(0.02)


def hurry(database: Database) -> None:
    """What waits to be tried again is tried now."""
    with database.transaction() as session:
        session.execute(update(WebhookDelivery).where(WebhookDelivery.next_at.is_not(None)).values(next_at=now()))


def test_a_receiver_that_fails_hangs_redirects_and_comes_back_is_told_in_the_end(store: Database, receiver: Receiver) -> None:
    with receiving() as inside:
        receiver.answers = [(500, {}), None, (302, {"Location": inside.url}), WELL]
        webhook, secret = listen(store, receiver)
        job_id = end_a_job(store)
        with delivering(store, 120.0, 2.0, 120.0):
            for n in range(1, 4):
                wait_until(store, webhook, [(False, [500, None, 302][:n])])
                hurry(store)
            wait_until(store, webhook, [(True, [500, None, 302, 200])])
        assert inside.came == []
    client = openai.OpenAI(api_key="none", webhook_secret=secret)
    events = [client.webhooks.unwrap(message.body, message.headers) for message in receiver.came]
    assert [event.type for event in events] == ["fine_tuning.job.succeeded"] * 4
    assert len({event.id for event in events} | {message.id for message in receiver.came}) == 1
    assert events[0].data.id == f"ft{job_id}"  # type: ignore[union-attr]


def test_one_who_hangs_keeps_nobody_else(store: Database, receiver: Receiver) -> None:
    with receiving() as hanging:
        hanging.answers = [None]
        listen(store, hanging)
        webhook, _ = listen(store, receiver)
        for _ in range(12):
            end_a_job(store)
        with delivering(store):
            receiver.wait_for(12)
            wait_until(store, webhook, [(True, [200])] * 12)
            assert len(hanging.came) == 1  # one thing at a time
            hanging.closing.set()


def test_two_processes_deliver_each_message_once(store: Database, receiver: Receiver) -> None:
    webhook, _ = listen(store, receiver)
    for _ in range(15):
        end_a_job(store)
    with delivering(store), delivering(store):
        wait_until(store, webhook, [(True, [200])] * 15)
    assert len({message.id for message in receiver.came}) == len(receiver.came) == 15


def test_one_who_answers_410_is_left_alone(store: Database, receiver: Receiver) -> None:
    receiver.answers = [(410, {})]
    webhook, _ = listen(store, receiver)
    end_a_job(store)
    end_a_job(store)
    with delivering(store):
        wait_until(store, webhook, [(False, [410]), (False, [])])
    with store.reading() as session:
        assert webhooks.get(session, "ann", webhook).disabled_at is not None


def test_a_message_that_came_while_the_process_died_comes_again_with_its_id(store: Database, receiver: Receiver) -> None:
    """At least once: what cannot be known to have come is sent again, and its id says that it is the same."""
    webhook, _ = listen(store, receiver)

    def die(message: Message) -> tuple[int, dict[str, str]]:
        store.transaction = broken  # type: ignore[method-assign]  # nothing of this process is written any more
        return 200, {}

    whole, receiver.answers = store.transaction, [die, WELL]

    def broken() -> None:
        raise RuntimeError("killed")

    end_a_job(store)
    with delivering(store):
        receiver.wait_for(1)
    store.transaction = whole  # type: ignore[method-assign]
    hurry(store)
    with delivering(store):
        wait_until(store, webhook, [(True, [200])])
    assert [message.id for message in receiver.came] == [receiver.came[0].id] * 2


def test_with_another_key_nothing_is_sent_and_the_log_says_why(store: Database, receiver: Receiver) -> None:
    webhook, _ = listen(store, receiver)
    end_a_job(store)
    deliverer = Deliverer(store, SecretStr("A" * 43 + "="), Sender(networks_of("127.0.0.0/8")).post, look_seconds=0.02)
    deliverer.start()
    wait_until(store, webhook, [(False, [None])])
    deliverer.close()
    with store.reading() as session:
        [delivery], _ = webhook_deliveries.listing(session, "ann", webhook, 1)
    assert "FINEBITS_SECRET_KEY" in delivery.tries[0]["detail"]
    assert receiver.came == []
