"""finebits webhooks, against a service whose answers are written down."""

import json

from tests.service.cli.conftest import Finebits
from tests.service.fake_service import FakeService

WEBHOOK = {
    "id": "webhook-1",
    "url": "https://example.com/hook",
    "events": ["fine_tuning.job.failed"],
    "description": None,
    "enabled": False,
    "disabled_at": "2026-11-27T10:00:00Z",
    "disabled_why": "It answered 410.",
    "created_at": "2026-11-27T09:00:00Z",
    "earlier_secret_until": None,
}


def test_one_is_added_with_the_ends_of_jobs_and_its_secret_is_printed_once(finebits: Finebits, service: FakeService) -> None:
    service.answers("POST", "/webhooks", {**WEBHOOK, "secret": "whsec_x"})
    made = finebits("webhooks", "add", "https://example.com/hook", "--description", "mine")
    assert (made.exit_code, made.output) == (0, "webhook-1 whsec_x\n")
    asked = json.loads(service.asked[0].body)
    ends = [f"fine_tuning.job.{state}" for state in ("succeeded", "failed", "cancelled")]
    assert asked == {"url": "https://example.com/hook", "events": ends, "description": "mine"}


def test_a_list_says_which_is_disabled_and_why(finebits: Finebits, service: FakeService) -> None:
    service.answers("GET", "/webhooks", {"data": [WEBHOOK]})
    assert "disabled: It answered 410." in finebits("webhooks", "list").output
    assert json.loads(finebits("webhooks", "list", "--json").output) == [WEBHOOK]


def test_one_is_tried_out_and_removed(finebits: Finebits, service: FakeService) -> None:
    service.answers("POST", "/webhooks/webhook-1/test", {"id": "msg-7"})
    service.answers("DELETE", "/webhooks/webhook-1", {})
    assert "msg-7 is on its way" in finebits("webhooks", "test", "webhook-1").output
    assert finebits("webhooks", "remove", "webhook-1").exit_code == 0
    assert [(one.method, one.path) for one in service.asked] == [
        ("POST", "/webhooks/webhook-1/test"),
        ("DELETE", "/webhooks/webhook-1"),
    ]


def test_what_is_refused_is_told(finebits: Finebits) -> None:
    refused = finebits("webhooks", "remove", "webhook-none")
    assert refused.exit_code == 3
    assert "There is no /webhooks/webhook-none." in refused.output
