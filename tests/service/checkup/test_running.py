from collections.abc import Iterator
from typing import Any

import pytest

from service.checkup.finding import Finding, Level
from service.checkup.running import running
from tests.service.cli.world import a_worker
from tests.service.fake_service import Answer, FakeService, fake_service, problem

VERSION = "0.1.0"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FakeService, str]]:
    """One that is ready, with a worker, and is waited for."""
    monkeypatch.setattr("service.checkup.running.PATIENCE_SECONDS", 60.0)
    with fake_service() as (service, url):
        service.answers("GET", "/readyz", {"status": "ok", "checks": {"database": True, "broker": True}})
        service.answers("GET", "/openapi.json", {"info": {"version": VERSION}})
        service.answers("GET", "/workers", {"data": [a_worker("job-1")]})
        yield service, url


def levels(url: str) -> list[tuple[str, str]]:
    return [(finding.about, finding.level.value) for finding in found(url)]


def found(url: str) -> list[Finding]:
    return list(running(url, None, VERSION))


def test_a_service_that_is_ready_is_well_with_its_workers(fake: tuple[FakeService, str]) -> None:
    assert levels(fake[1]) == [("service", "well"), ("workers", "well")]


def test_what_a_service_that_is_not_ready_lacks_is_said_with_what_mends_it(fake: tuple[FakeService, str]) -> None:
    service, url = fake
    service.answers("GET", "/readyz", problem(503, title="Not ready", checks={"database": True, "migrations": False}))
    first = found(url)[0]
    assert (first.level, first.said) == (Level.FAULT, f"{url} answers, and is not ready: migrations.")
    assert "finebits migrate" in first.mend


def test_nothing_there_is_a_warning_and_something_else_there_a_fault(fake: tuple[FakeService, str]) -> None:
    assert [(one.level, one.about) for one in found("http://127.0.0.1:9")] == [(Level.WARNING, "service")]
    service, url = fake
    service.answers("GET", "/readyz", Answer(200, b"<html>", "text/html"))
    assert [(one.level, one.said) for one in found(url)] == [(Level.FAULT, f"What answers at {url} is not Finebits.")]


def test_a_key_that_is_needed_is_said(fake: tuple[FakeService, str]) -> None:
    service, url = fake
    service.answers("GET", "/workers", problem(401, title="Unauthorized", detail="A key is needed."))
    assert [(one.about, one.said) for one in found(url)][1:] == [("key", "A key is needed.")]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"status": "stopped"}, ("workers", "warning")),
        ({"software": "0.0.9"}, ("versions", "warning")),
        ({"spec_versions": [0]}, ("versions", "fault")),
        ({"draining": True}, ("workers", "note")),
    ],
)
def test_a_worker_that_will_not_do_is_said(fake: tuple[FakeService, str], change: dict[str, Any], said: tuple[str, str]) -> None:
    service, url = fake
    service.answers("GET", "/workers", {"data": [a_worker("job-1") | change]})
    assert levels(url)[1:] == [said]


def test_a_slot_in_trouble_and_another_version_of_the_service_are_said(fake: tuple[FakeService, str]) -> None:
    service, url = fake
    worker = a_worker("job-1")
    worker["slots"][1]["trouble"] = "It fell off the bus."
    service.answers("GET", "/workers", {"data": [worker]})
    service.answers("GET", "/openapi.json", {"info": {"version": "9.9"}})
    said = [one.said for one in found(url)]
    assert "The service is Finebits 9.9, and this is 0.1.0." in said
    assert "Slot 1 of host-a: It fell off the bus.." in said or "Slot 1 of host-a: It fell off the bus." in said
