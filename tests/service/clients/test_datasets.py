import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.client import Problem, Unreachable
from service.clients import pace
from service.clients.asynchronous import datasets as asynchronous
from service.clients.synchronous import datasets as synchronous
from tests.service.clients.forms import FORMS, opened
from tests.service.fake_service import DROPPED, Answer, Asked, FakeService, fake_service, problem

CONTENT = bytes(range(256)) * 300
SHA256 = hashlib.sha256(CONTENT).hexdigest()
UPLOAD = {"id": "sending-1", "name": "talks", "size": len(CONTENT), "offset": 0, "url": "/datasets/talks/uploads/sending-1"}
VERSION = {"name": "talks", "version": "3f2a", "sha256": SHA256}


@pytest.fixture(params=FORMS)
def fake(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FakeService, Any]]:
    monkeypatch.setattr(pace, "DELAYS", (0.001, 0.001, 0.001))
    monkeypatch.setattr(asynchronous, "SENT_AT_ONCE", 10_000)
    monkeypatch.setattr(synchronous, "SENT_AT_ONCE", 10_000)
    with fake_service() as (service, url), opened(request.param, url) as client:
        service.answers("POST", "/datasets/talks/uploads", Answer(201, UPLOAD))
        yield service, client


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "talks.jsonl"
    made.write_bytes(CONTENT)
    return made


def patches(service: FakeService) -> list[Asked]:
    return [asked for asked in service.asked if asked.method == "PATCH"]


def test_an_upload_says_what_comes_and_sends_it(fake: tuple[FakeService, Any], file: Path) -> None:
    service, client = fake
    service.answers("GET", UPLOAD["url"], UPLOAD)
    service.answers("PATCH", UPLOAD["url"], Answer(201, VERSION))
    assert client.upload("talks", file, {"formatting": "openai"}) == VERSION
    opened = json.loads(service.asked[0].body)
    assert opened == {"file_name": "talks.jsonl", "size": len(CONTENT), "sha256": SHA256, "entry": {"formatting": "openai"}}
    (sent,) = patches(service)
    assert sent.body == CONTENT
    assert (sent.headers["upload-offset"], sent.headers["content-length"]) == ("0", str(len(CONTENT)))


def test_an_upload_goes_on_where_it_broke(fake: tuple[FakeService, Any], file: Path) -> None:
    service, client = fake
    service.answers("GET", UPLOAD["url"], UPLOAD, UPLOAD | {"offset": 50_000}, UPLOAD | {"offset": 60_000})
    writing_still = problem(409, code="offset_conflict", detail="Another request is sending a piece of it at this moment.")
    service.answers("PATCH", UPLOAD["url"], DROPPED, writing_still, Answer(201, VERSION))
    assert client.upload("talks", file) == VERSION
    assert [asked.headers["upload-offset"] for asked in patches(service)] == ["0", "50000", "60000"]
    assert patches(service)[-1].body == CONTENT[60_000:]


def test_an_upload_whose_answer_was_lost_is_found_by_its_hash(fake: tuple[FakeService, Any], file: Path) -> None:
    service, client = fake
    gone = problem(404, code="not_found", detail="There is no upload.")
    service.answers("GET", UPLOAD["url"], UPLOAD, gone)
    service.answers("PATCH", UPLOAD["url"], DROPPED)
    service.answers("GET", "/datasets/talks/versions", {"data": [{"version": "old", "sha256": "0"}, VERSION]})
    assert client.upload("talks", file) == VERSION
    service.answers("GET", UPLOAD["url"], UPLOAD, gone)
    service.answers("GET", "/datasets/talks/versions", {"data": []})
    with pytest.raises(Problem, match="There is no upload"):
        client.send(UPLOAD, file)


def test_an_upload_that_is_refused_says_why_and_is_not_sent_again(fake: tuple[FakeService, Any], file: Path) -> None:
    service, client = fake
    service.answers("GET", UPLOAD["url"], UPLOAD)
    service.answers("PATCH", UPLOAD["url"], problem(422, detail="What has come has the SHA-256 0."))
    with pytest.raises(Problem, match="What has come"):
        client.upload("talks", file)
    assert len(patches(service)) == 1


def test_an_upload_that_never_gets_on_is_given_up(fake: tuple[FakeService, Any], file: Path) -> None:
    service, client = fake
    service.answers("GET", UPLOAD["url"], UPLOAD)
    service.answers("PATCH", UPLOAD["url"], DROPPED)
    with pytest.raises(Unreachable):
        client.upload("talks", file)
    assert len(patches(service)) == 4


def test_a_data_set_comes_back_under_its_files_name(fake: tuple[FakeService, Any], tmp_path: Path) -> None:
    service, client = fake
    service.answers("GET", "/datasets/talks", {"name": "talks", "files": ["talks.jsonl"]})
    content = Answer(200, CONTENT, "application/octet-stream", {"etag": f'"{SHA256}"'})
    service.answers("GET", "/datasets/talks/content", content)
    assert client.download_dataset("talks", tmp_path) == tmp_path / "talks.jsonl"
    assert (tmp_path / "talks.jsonl").read_bytes() == CONTENT
