import hashlib
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.client import Client, ClientError, Corrupt, Problem, Unreachable
from service.clients import pace
from tests.service.clients.forms import FORMS, opened
from tests.service.fake_service import DROPPED, Answer, Asked, FakeService, a_job, an_event, fake_service, problem

CONTENT = bytes(range(256)) * 300
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(params=FORMS)
def fake(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FakeService, Client]]:
    monkeypatch.setattr(pace, "DELAYS", (0.001, 0.001, 0.001))
    with fake_service() as (service, url), opened(request.param, url, "a-key-of-sixteen") as client:
        yield service, client


def test_submits_a_document_with_its_key(fake: tuple[FakeService, Client]) -> None:
    service, client = fake
    service.answers("POST", "/jobs", Answer(201, a_job()))
    assert client.submit({"model": {"model_name_or_path": "tiny"}})["id"] == "job-1"
    (asked,) = service.asked
    assert asked.headers["authorization"] == "Bearer a-key-of-sixteen"
    assert asked.headers["content-type"] == "application/json"
    assert asked.body == b'{"model": {"model_name_or_path": "tiny"}}'
    assert asked.query == ""


@pytest.mark.parametrize(("suffix", "content_type"), [(".json", "json"), (".yaml", "yaml"), (".yml", "yaml")])
def test_a_file_is_sent_as_it_is(fake: tuple[FakeService, Client], tmp_path: Path, suffix: str, content_type: str) -> None:
    service, client = fake
    service.answers("POST", "/jobs", a_job())
    file = tmp_path / f"job{suffix}"
    file.write_bytes(b"# not even read\n")
    client.submit(file, dry_run=True)
    (asked,) = service.asked
    assert (asked.body, asked.query) == (b"# not even read\n", "dry_run=true")
    assert asked.headers["content-type"] == f"application/{content_type}"


def test_a_file_of_another_kind_is_refused(fake: tuple[FakeService, Client], tmp_path: Path) -> None:
    with pytest.raises(ClientError, match=r"neither a \.json nor a \.yaml"):
        fake[1].submit(tmp_path / "job.toml")
    with pytest.raises(ClientError, match="No such file"):
        fake[1].submit(tmp_path / "missing.json")


BUSY = problem(409, code="idempotency_busy")
AWAY = Answer(502, b"", "text/html")


@pytest.mark.parametrize("trouble", [DROPPED, AWAY, problem(503), problem(504), BUSY])
def test_a_submission_is_tried_again_with_the_same_key(fake: tuple[FakeService, Client], trouble: Answer) -> None:
    service, client = fake
    service.answers("POST", "/jobs", trouble, trouble, a_job())
    assert client.submit({})["id"] == "job-1"
    keys = [asked.headers["idempotency-key"] for asked in service.asked]
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert re.fullmatch(r"[0-9a-f]{32}", keys[0])


def test_each_submission_has_a_key_of_its_own_or_the_one_given(fake: tuple[FakeService, Client]) -> None:
    service, client = fake
    service.answers("POST", "/jobs", a_job())
    client.submit({})
    client.submit({})
    client.submit({}, idempotency_key="mine")
    first, second, third = (asked.headers["idempotency-key"] for asked in service.asked)
    assert first != second
    assert third == "mine"


def test_a_cancel_is_asked_again_with_its_key(fake: tuple[FakeService, Client]) -> None:
    service, client = fake
    service.answers("POST", "/jobs/job-1/cancel", DROPPED, a_job(state="cancelled"))
    assert client.cancel("job-1")["state"] == "cancelled"
    assert len({asked.headers["idempotency-key"] for asked in service.asked}) == 1
    assert len(service.asked) == 2


def test_a_deletion_is_asked_once(fake: tuple[FakeService, Client]) -> None:
    service, client = fake
    service.answers("DELETE", "/jobs/job-1", DROPPED, {})
    with pytest.raises(Unreachable, match="broke"):
        client.delete("job-1")
    assert len(service.asked) == 1


def test_a_refusal_has_its_places(fake: tuple[FakeService, Client]) -> None:
    service, client = fake
    errors = [{"pointer": "/training/lr", "detail": "There is no such argument."}]
    refusal = problem(422, title="Invalid job", detail="1 error", code="invalid_job", request_id="r-1", errors=errors)
    service.answers("POST", "/jobs", refusal)
    with pytest.raises(Problem, match="1 error") as caught:
        client.submit({})
    assert (caught.value.status, caught.value.code, caught.value.title) == (422, "invalid_job", "Invalid job")
    assert caught.value.errors == errors
    assert caught.value.request_id == "r-1"
    assert len(service.asked) == 1


def test_where_nothing_answers_the_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "DELAYS", (0.001,))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with Client(f"http://127.0.0.1:{port}/") as client:
        assert not client.is_ready()
        with pytest.raises(Unreachable, match=f"^No Finebits answers at http://127.0.0.1:{port}; start one with `make up`.$"):
            client.job("job-1")


def test_a_proxy_is_not_asked_for_loopback(fake: tuple[FakeService, Client], monkeypatch: pytest.MonkeyPatch) -> None:
    service, client = fake
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    service.answers("GET", "/readyz", {})
    with Client(client.base_url) as other:
        assert other.is_ready()


@pytest.mark.parametrize("address", ["127.0.0.1:8765", "", "ftp://host", "http://"])
def test_an_address_is_checked(address: str) -> None:
    with pytest.raises(Unreachable, match="should look like http://127"):
        Client(address)


def test_what_is_not_finebits_is_said(fake: tuple[FakeService, Client]) -> None:
    service, client = fake
    service.answers("GET", "/jobs/job-1", Answer(200, b"<html>", "text/html"))
    service.answers("GET", "/jobs/job-2", Answer(403, b"<html>", "text/html"))
    with pytest.raises(Unreachable, match="is not Finebits"):
        client.job("job-1")
    with pytest.raises(Problem, match="answered 403, and not as Finebits does"):
        client.job("job-2")


def test_jobs_are_read_page_after_page_as_they_are_used(fake: tuple[FakeService, Client]) -> None:
    service, client = fake
    pages = [
        {"data": [a_job(id="c"), a_job(id="b")], "has_more": True},
        {"data": [a_job(id="a")], "has_more": False},
    ]
    service.answers("GET", "/jobs", *pages)
    jobs = client.jobs(state="failed", page_size=2)
    assert [next(jobs)["id"], next(jobs)["id"]] == ["c", "b"]
    assert len(service.asked) == 1
    assert [job["id"] for job in jobs] == ["a"]
    assert [asked.query for asked in service.asked] == ["limit=2&state=failed", "limit=2&state=failed&after=b"]


def test_events_go_on_behind_a_number(fake: tuple[FakeService, Client]) -> None:
    service, client = fake
    first = {"data": [an_event(4), an_event(5)], "has_more": True, "next_after": 5}
    service.answers("GET", "/jobs/job-1/events", first, {"data": [an_event(6)], "has_more": False, "next_after": 6})
    assert [event["number"] for event in client.events("job-1", after=3)] == [4, 5, 6]
    assert [asked.query for asked in service.asked] == ["after=3", "after=5"]


def test_watching_misses_no_event_and_outlives_a_service_that_is_away(fake: tuple[FakeService, Client]) -> None:
    service, client = fake
    running, ended = a_job(state="running"), a_job(state="succeeded")
    service.answers("GET", "/jobs/job-1", running, *[DROPPED] * 6, *[problem(503)] * 6, running, ended)

    def events(asked: Asked) -> Answer:
        after = int(asked.query.removeprefix("after="))
        data = [an_event(number) for number in range(after + 1, min(after + 2, 5) + 1)]
        return Answer(body={"data": data, "has_more": False, "next_after": None})

    service.answers("GET", "/jobs/job-1/events", events)
    sightings = list(client.watch("job-1", every=0.001))
    assert [sighting.job["state"] for sighting in sightings] == ["running", "running", "succeeded"]
    assert [event["number"] for sighting in sightings for event in sighting.events] == [1, 2, 3, 4, 5]


def test_watching_gives_up_when_its_patience_ends(fake: tuple[FakeService, Client]) -> None:
    service, client = fake
    service.answers("GET", "/jobs/job-1", DROPPED)
    with pytest.raises(Unreachable):
        next(client.watch("job-1", every=0.001, patience=0))


def test_watching_a_job_that_is_not_there_is_a_problem_at_once(fake: tuple[FakeService, Client]) -> None:
    with pytest.raises(Problem, match=r"There is no /jobs/job-9\."):
        next(fake[1].watch("job-9"))


def test_metrics_series_and_the_rest_are_asked_for_by_name(fake: tuple[FakeService, Client]) -> None:
    service, client = fake
    row = {"step": "sft", "checkpoint": "base", "split": "validation", "measures": {}}
    service.answers("GET", "/jobs/job-1/metrics", {"job_id": "job-1", "data": [row]})
    columns = {"name": "loss", "pipeline_step": "sft", "step": [1], "value": [2.5]}
    service.answers("GET", "/jobs/job-1/metrics/series", columns)
    service.answers("GET", "/jobs/job-1/checkpoints", {"data": [{"global_step": 5}], "has_more": False})
    service.answers("GET", "/jobs/job-1/artifacts", {"data": [{"name": "a"}], "has_more": False})
    service.answers("GET", "/jobs/job-1/logs", Answer(200, "línea\n".encode(), "text/plain; charset=utf-8"))
    service.answers("GET", "/measures", {"data": [{"name": "entropy"}]})
    assert client.metrics("job-1", checkpoint="base", split="validation") == [row]
    assert client.series("job-1", "loss", step="sft", points=50) == columns
    assert client.checkpoints("job-1") == [{"global_step": 5}]
    assert client.artifacts("job-1") == [{"name": "a"}]
    assert client.logs("job-1") == "línea\n"
    assert client.measures() == [{"name": "entropy"}]
    assert service.asked[0].query == "checkpoint=base&split=validation"
    assert service.asked[1].query == "name=loss&step=sft&points=50"


def ranged(asked: Asked, breaks_after: int | None = None, content: bytes = CONTENT) -> Answer:
    wanted = asked.headers.get("range")
    start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
    headers = {"etag": f'"{SHA256}"'}
    if wanted and start >= len(content):
        return Answer(416, b"", headers=headers)
    return Answer(206 if wanted else 200, content[start:], "application/octet-stream", headers, breaks_after)


FILE = "/jobs/job-1/artifacts/sft/checkpoint-5/a%20file.bin"


def download(client: Client, to: Path) -> Path:
    return client.download("job-1", "sft/checkpoint-5/a file.bin", to)


def test_a_download_goes_on_where_it_broke(fake: tuple[FakeService, Client], tmp_path: Path) -> None:
    service, client = fake
    service.answers("GET", FILE, lambda asked: ranged(asked, 50_000), lambda asked: ranged(asked, 20_000), ranged)
    assert download(client, tmp_path) == tmp_path / "a file.bin"
    assert (tmp_path / "a file.bin").read_bytes() == CONTENT
    assert list(tmp_path.iterdir()) == [tmp_path / "a file.bin"]
    starts = [int((asked.headers.get("range") or "bytes=0-")[6:-1]) for asked in service.asked]
    assert starts[0] == 0
    assert 0 < starts[1] <= 50_000 <= starts[1] + 20_000 >= starts[2] > starts[1]


def test_a_later_download_goes_on_from_the_part_that_is_there(fake: tuple[FakeService, Client], tmp_path: Path) -> None:
    service, client = fake
    service.answers("GET", FILE, ranged)
    (tmp_path / "here.part").write_bytes(CONTENT[:70_000])
    assert download(client, tmp_path / "here").read_bytes() == CONTENT
    assert service.asked[0].headers["range"] == "bytes=70000-"


def test_a_part_longer_than_the_file_is_left(fake: tuple[FakeService, Client], tmp_path: Path) -> None:
    service, client = fake
    service.answers("GET", FILE, ranged)
    (tmp_path / "here.part").write_bytes(CONTENT + b"more")
    assert download(client, tmp_path / "here").read_bytes() == CONTENT


def test_a_damaged_download_is_not_kept(fake: tuple[FakeService, Client], tmp_path: Path) -> None:
    service, client = fake
    service.answers("GET", FILE, lambda asked: ranged(asked, content=CONTENT[:-1] + b"x"))
    with pytest.raises(Corrupt, match="damaged"):
        download(client, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_there_leaves_nothing_behind(fake: tuple[FakeService, Client], tmp_path: Path) -> None:
    with pytest.raises(Problem, match="There is no"):
        download(fake[1], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_hostile_id_stays_one_part_of_the_path(fake: tuple[FakeService, Client]) -> None:
    service, client = fake
    answered: dict[str, Any] = a_job()
    service.answers("GET", "/jobs/..%2Fkeys%3Fx", answered)
    assert client.job("../keys?x") == answered
