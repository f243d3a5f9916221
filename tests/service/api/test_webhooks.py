from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from pydantic import SecretStr, ValidationError

from service.app import create_app
from service.settings import Settings
from service.store.session import Database
from tests.databases import migrated
from tests.service import shelves
from tests.service.api import made
from tests.service.api.door import Bell, Door
from tests.service.webhooks.receiver import Receiver, receiving

KEY = SecretStr("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")


@dataclass
class House:
    """The service with its thread that delivers, and a receiver that its operator allows."""

    door: Door
    database: Database
    receiver: Receiver

    def listen(self, **more: Any) -> Any:
        answer = self.door.post("/webhooks", json={"url": self.receiver.url, **more})
        assert answer.status_code == 201, answer.text
        return answer.json()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    roots = shelves.stocked(tmp_path)
    settings = Settings(
        home=tmp_path,
        models_root=roots.models,
        datasets_root=roots.datasets,
        artifacts_root=tmp_path / "artifacts",
        secret_key=KEY,
        webhook_networks="127.0.0.0/8",
    )
    database = migrated(tmp_path / "plain.db")
    with receiving() as receiver, Door(create_app(settings, database, Bell())) as door:
        yield House(door, database, receiver)
    database.close()


def test_a_job_that_ends_is_told_to_a_webhook_that_openai_s_client_reads(house: House) -> None:
    webhook = house.listen()
    job_id = house.door.submit()
    house.door.post(f"/jobs/{job_id}/cancel")
    [message] = house.receiver.wait_for(1)
    client = openai.OpenAI(api_key="none", webhook_secret=webhook["secret"])
    event = client.webhooks.unwrap(message.body, message.headers)
    assert isinstance(event, openai.types.webhooks.FineTuningJobCancelledWebhookEvent)
    assert event.data.id == f"ft{job_id}"
    assert message.document["data"]["job"] == job_id


def test_the_secret_is_shown_once(house: House) -> None:
    webhook = house.listen(description="for the chat")
    assert webhook["secret"].startswith("whsec_")
    shown = [house.door.get("/webhooks").json()["data"][0], house.door.get(f"/webhooks/{webhook['id']}").json()]
    assert shown == [{name: value for name, value in webhook.items() if name != "secret"}] * 2


def test_it_is_tried_out_and_the_log_says_how_it_went(house: House) -> None:
    webhook = house.listen()
    house.receiver.answers = [(500, {}), (200, {})]
    made_one = house.door.post(f"/webhooks/{webhook['id']}/test")
    assert (made_one.status_code, made_one.json()["status"]) == (202, "pending")
    house.receiver.wait_for(1)
    path = f"/webhooks/{webhook['id']}/deliveries"
    replayed = house.door.post(f"{path}/{made_one.json()['id']}/replay")
    assert replayed.status_code == 202
    house.receiver.wait_for(2)
    assert [message.document["type"] for message in house.receiver.came] == ["webhook.test"] * 2
    assert {message.id for message in house.receiver.came} == {made_one.json()["id"]}
    [delivery] = house.door.get(path).json()["data"]
    assert delivery["id"] == house.door.get(f"{path}/{delivery['id']}").json()["id"]


def test_the_log_is_read_in_pages(house: House) -> None:
    webhook = house.listen()
    path = f"/webhooks/{webhook['id']}/deliveries"
    ids = [house.door.post(f"/webhooks/{webhook['id']}/test").json()["id"] for _ in range(3)]
    first = house.door.get(path, params={"limit": 2}).json()
    second = house.door.get(path, params={"limit": 2, "after": first["next_after"]}).json()
    assert [one["id"] for page in (first, second) for one in page["data"]] == ids[::-1]
    assert (first["has_more"], second["has_more"], second["next_after"]) == (True, False, None)
    refused = house.door.get(path, params={"after": "evt-none"})
    assert refused.json()["errors"][0]["pointer"] == "/query/after"


def test_a_rotated_secret_and_the_one_before_both_sign(house: House) -> None:
    webhook = house.listen()
    rotated = house.door.post(f"/webhooks/{webhook['id']}/rotate").json()
    assert rotated["secret"] != webhook["secret"]
    assert rotated["earlier_secret_until"]
    house.door.post(f"/webhooks/{webhook['id']}/test")
    [message] = house.receiver.wait_for(1)
    assert len(message.headers["webhook-signature"].split()) == 2
    for secret in (webhook["secret"], rotated["secret"]):
        openai.OpenAI(api_key="none", webhook_secret=secret).webhooks.unwrap(message.body, message.headers)


def test_it_is_changed_disabled_and_deleted(house: House) -> None:
    webhook = house.listen()
    path = f"/webhooks/{webhook['id']}"
    changed = house.door.patch(path, json={"events": ["fine_tuning.job.alert"], "description": None}).json()
    assert (changed["events"], changed["url"]) == (["fine_tuning.job.alert"], webhook["url"])
    assert house.door.patch(path, json={"enabled": False}).json()["enabled"] is False
    refused = house.door.post(f"{path}/test")
    assert (refused.status_code, refused.json()["code"]) == (409, "state_conflict")
    assert house.door.patch(path, json={"enabled": True}).json()["disabled_why"] is None
    assert house.door.delete(path).status_code == 204
    assert house.door.get(path).status_code == 404


REFUSED = {
    "no url": ({}, "/url"),
    "no scheme": ({"url": "example.com/hook"}, "/url"),
    "a file": ({"url": "file:///etc/passwd"}, "/url"),
    "a user": ({"url": "https://ann:secret@example.com"}, "/url"),
    "a bad port": ({"url": "https://example.com:99999"}, "/url"),
    "a line break": ({"url": "https://example.com/\r\nhost: other"}, "/url"),
    "a private address": ({"url": "http://192.168.0.1/hook"}, "/url"),
    "a link-local one": ({"url": "http://169.254.169.254/latest/meta-data"}, "/url"),
    "loopback in IPv6": ({"url": "http://[::1]/"}, "/url"),
    "an unknown event": ({"url": "https://example.com", "events": ["job.done"]}, "/events/0"),
    "no event": ({"url": "https://example.com", "events": []}, "/events"),
    "an unknown key": ({"url": "https://example.com", "secret": "mine"}, "/secret"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_a_webhook_is_refused_with_its_place(house: House, case: str) -> None:
    document, pointer = REFUSED[case]
    assert [at for at, _ in house.door.refusals(document, "/webhooks")] == [pointer]


def test_changes_are_held_to_the_same(house: House) -> None:
    path = f"/webhooks/{house.listen()['id']}"
    for document, pointer in (({"url": "http://10.0.0.1"}, "/url"), ({"enabled": None}, ""), ({}, "")):
        answer = house.door.patch(path, json=document)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


def test_there_are_at_most_twenty(house: House) -> None:
    for _ in range(20):
        house.listen()
    [(_, detail)] = house.door.refusals({"url": house.receiver.url}, "/webhooks")
    assert "20 at the most" in detail


def test_without_a_key_for_secrets_no_webhook_is_taken(plain_door: Door) -> None:
    [(_, detail)] = plain_door.refusals({"url": "https://example.com"}, "/webhooks")
    assert "FINEBITS_SECRET_KEY" in detail


def test_an_end_that_a_worker_writes_is_told_too(house: House) -> None:
    house.listen()
    house.door.submit()
    made.succeed(house.database, made.claim(house.database))
    [message] = house.receiver.wait_for(1)
    assert message.document["type"] == "fine_tuning.job.succeeded"


def test_networks_that_are_none_are_said_at_the_start() -> None:
    with pytest.raises(ValidationError, match="webhook_networks"):
        Settings(webhook_networks="10.0.0.0/99")
