import asyncio
import json
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from service.client import Problem, Unreachable
from service.clients import pace
from service.clients.requests import Lines, Told
from tests.service.clients.forms import FORMS, opened
from tests.service.fake_service import DROPPED, Answer, Asked, FakeService, an_event, fake_service, problem

STREAM = "/jobs/job-1/events/stream"


@pytest.fixture(params=FORMS)
def fake(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FakeService, Any]]:
    monkeypatch.setattr(pace, "DELAYS", (0.001, 0.001, 0.001))
    with fake_service() as (service, url), opened(request.param, url) as client:
        yield service, client


def told(*numbers: int, ends: bool = False) -> bytes:
    events = [f"id: {number}\ndata: {json.dumps(an_event(number))}\n\n" for number in numbers]
    end = 'event: end\ndata: {"state":"succeeded"}\n\n' if ends else ""
    return "".join(["retry: 1000\n\n", ": alive\n\n", *events, end]).encode()


def stream(body: bytes, breaks_after: int | None = None) -> Answer:
    return Answer(200, body, "text/event-stream", breaks_after=breaks_after)


def test_a_stream_that_is_cut_off_goes_on_behind_the_last_event(fake: tuple[FakeService, Any]) -> None:
    service, client = fake
    within_the_second = stream(told(3, 4, 5), breaks_after=len(told(3)) + 20)
    closed = stream(told(4))
    service.answers("GET", STREAM, within_the_second, DROPPED, problem(503), closed, stream(told(5, ends=True)))
    assert [event["number"] for event in client.follow_events("job-1", after=2)] == [3, 4, 5]
    assert [asked.headers.get("last-event-id") for asked in service.asked] == [None, "3", "3", "3", "4"]
    assert {asked.query for asked in service.asked} == {"after=2"}


def test_a_stream_of_which_all_is_told_is_empty(fake: tuple[FakeService, Any]) -> None:
    service, client = fake
    service.answers("GET", STREAM, Answer(204, b""))
    assert list(client.follow_events("job-1", after=9)) == []


def test_a_stream_of_a_job_that_is_not_there_is_a_problem(fake: tuple[FakeService, Any]) -> None:
    with pytest.raises(Problem, match="There is no"):
        next(fake[1].follow_events("job-9"))


def test_a_stream_that_never_tells_anything_is_given_up(fake: tuple[FakeService, Any]) -> None:
    service, client = fake
    service.answers("GET", STREAM, stream(b""))
    with pytest.raises(Unreachable, match="cut off"):
        next(client.follow_events("job-1"))
    assert len(service.asked) == 4


def test_logs_come_line_by_line(fake: tuple[FakeService, Any]) -> None:
    service, client = fake
    lines = {"attempt": 1, "text": "one\ntwo\n"}
    body = f"id: 1:8\ndata: {json.dumps(lines)}\n\nevent: end\ndata: {{}}\n\n".encode()
    service.answers("GET", "/jobs/job-1/logs/stream", stream(body))
    assert list(client.follow_logs("job-1", attempt=1)) == [lines]


def test_series_are_gone_on_with_behind_the_last_point_of_each(fake: tuple[FakeService, Any]) -> None:
    service, client = fake
    first, second = ({"pipeline_step": "sft", "series": {"loss": {"step": [at], "value": [1.5]}}} for at in (1, 2))
    path = "/jobs/job-1/metrics/series/stream"
    body = b"id: loss=%d\ndata: %b\n\n"
    service.answers(
        "GET",
        path,
        stream(body % (1, json.dumps(first).encode())),
        stream(body % (2, json.dumps(second).encode()) + b"event: end\ndata: {}\n\n"),
    )
    assert list(client.follow_series("job-1")) == [first, second]
    assert service.asked[-1].headers["last-event-id"] == "loss=1"


def test_what_is_written_is_told_and_asked_for_once(fake: tuple[FakeService, Any]) -> None:
    service, client = fake
    body = (
        b'event: started\ndata: {"job_id":"j"}\n\nevent: piece\nid: 0\ndata: {"text":"a"}\n\nevent: done\ndata: {"tokens":1}\n\n'
    )
    path = "/jobs/job-1/checkpoints/4/generate"
    service.answers("POST", path, stream(body), problem(503, code="no_worker_free", detail="No worker is free."), DROPPED)
    told = list(client.generate("job-1", 4, prompt="x"))
    assert told == [("started", {"job_id": "j"}), ("piece", {"text": "a"}), ("done", {"tokens": 1})]
    with pytest.raises(Problem, match=r"No worker is free\."):
        list(client.generate("job-1", 4, prompt="x"))
    with pytest.raises(Unreachable):
        list(client.generate("job-1", 4, prompt="x"))
    assert len(service.asked) == 3


def test_lines_become_events() -> None:
    lines = Lines()
    assert [lines.add(line) for line in ("retry: 1000", "", ": alive", "", "event: piece", "id:7")] == [None] * 6
    assert lines.add('data: {"text": "a: b"}') is None
    assert lines.add("") == Told("piece", {"text": "a: b"}, "7")
    assert lines.add("") is None


# -- asking again --------------------------------------------------------------------------------------------------------


def busy(seconds: str, status: int = 429) -> Answer:
    answer = problem(status, code="quota_reached", detail="Your quota is used up.")
    answer.headers["retry-after"] = seconds
    return answer


def test_a_service_that_says_when_is_asked_then(fake: tuple[FakeService, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    service, client = fake
    slept: list[float] = []
    monkeypatch.setattr(pace, "time", SimpleNamespace(sleep=slept.append, monotonic=time.monotonic))

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    service.answers("POST", "/jobs/job-1/retry", busy("7"), {"id": "job-1"})
    assert client.retry("job-1") == {"id": "job-1"}
    assert slept == [7]


def test_a_service_that_says_much_later_is_not_waited_for(fake: tuple[FakeService, Any]) -> None:
    service, client = fake
    service.answers("GET", "/jobs/job-1", busy("3600", 503))
    with pytest.raises(Problem) as caught:
        client.job("job-1")
    assert (caught.value.retry_after, len(service.asked)) == (3600, 1)


def test_what_may_not_arrive_twice_is_not_asked_again_when_it_may_have(fake: tuple[FakeService, Any]) -> None:
    service, client = fake
    service.answers("PATCH", "/owners/me", problem(503, detail="The service is stopping."), {"owner": "me"})
    with pytest.raises(Problem, match="stopping"):
        client.change_owner("me", {"queued": 1})
    assert len(service.asked) == 1


def test_what_creates_is_asked_again_with_the_same_key(fake: tuple[FakeService, Any]) -> None:
    service, client = fake
    service.answers("POST", "/keys", problem(503, detail="The service is stopping."), {"id": "k"})
    assert client.create_key("me") == {"id": "k"}
    first, second = (asked.headers["idempotency-key"] for asked in service.asked)
    assert first == second


def test_what_creates_carries_a_key_of_its_own(fake: tuple[FakeService, Any]) -> None:
    service, client = fake
    for path in ("/keys", "/webhooks", "/datasets/talks/inspect"):
        service.answers("POST", path, {"id": "a"})
    client.create_key("me", ["read"])
    client.create_webhook("https://x", ["job.succeeded"])
    client.inspect("talks", "tiny")
    assert len({asked.headers["idempotency-key"] for asked in service.asked}) == 3


def test_an_etag_is_handed_on(fake: tuple[FakeService, Any]) -> None:
    service, client = fake
    service.answers("GET", "/jobs/job-1", Answer(200, {"id": "job-1"}, headers={"etag": '"v3"'}))

    def changed(asked: Asked) -> Answer:
        return (
            Answer(200, {"id": "job-1"}) if asked.headers.get("if-match") == '"v3"' else problem(412, code="precondition_failed")
        )

    service.answers("PATCH", "/jobs/job-1", changed)
    _, etag = client.job_and_etag("job-1")
    assert client.change("job-1", {"priority": 2}, if_match=etag) == {"id": "job-1"}
    with pytest.raises(Problem) as caught:
        client.change("job-1", {"priority": 2}, if_match='"v2"')
    assert caught.value.code == "precondition_failed"
