"""finebits upload and download."""

import hashlib
import json
from pathlib import Path

from tests.service.cli.conftest import Finebits
from tests.service.fake_service import Answer, FakeService

UPLOAD = {"id": "sending-1", "name": "talks", "size": 3, "offset": 0, "url": "/datasets/talks/uploads/sending-1"}


def test_a_file_is_sent_under_its_name(service: FakeService, finebits: Finebits, tmp_path: Path) -> None:
    file = tmp_path / "talks.jsonl"
    file.write_text("{}\n")
    service.answers("POST", "/datasets/talks/uploads", Answer(201, UPLOAD))
    service.answers("GET", UPLOAD["url"], UPLOAD)
    service.answers("PATCH", UPLOAD["url"], Answer(201, {"name": "talks", "version": "3f2a", "size": 3, "rows": 1}))
    done = finebits("upload", file, "--entry", '{"formatting": "openai"}')
    assert (done.exit_code, done.stdout) == (0, "talks@3f2a is here (3 bytes, 1 rows).\n")
    assert json.loads(service.asked[0].body)["entry"] == {"formatting": "openai"}
    assert service.asked[-1].body == b"{}\n"


def test_an_entry_that_is_not_json_is_a_sentence(service: FakeService, finebits: Finebits, tmp_path: Path) -> None:
    (tmp_path / "talks.jsonl").write_text("{}\n")
    done = finebits("upload", tmp_path / "talks.jsonl", "--entry", "openai")
    assert done.exit_code != 0
    assert "--entry is not JSON" in done.output
    assert service.asked == []


def stocked(service: FakeService) -> None:
    files = {
        "sft/checkpoint-4/a.json": b"a",
        "sft/checkpoint-4/b/c.json": b"c",
        "sft/checkpoint-40/a.json": b"other",
        "d.txt": b"d",
    }
    made = [{"name": name, "size": len(raw), "sha256": hashlib.sha256(raw).hexdigest()} for name, raw in files.items()]
    service.answers("GET", "/jobs/job-1/artifacts", {"data": made})
    for name, raw in files.items():
        headers = {"etag": f'"{hashlib.sha256(raw).hexdigest()}"'}
        service.answers("GET", f"/jobs/job-1/artifacts/{name}", Answer(200, raw, "application/octet-stream", headers))


def test_a_file_and_a_folder_are_fetched(service: FakeService, finebits: Finebits, tmp_path: Path) -> None:
    stocked(service)
    done = finebits("download", "job-1", "d.txt", "sft/checkpoint-4", "--to", tmp_path)
    assert done.exit_code == 0, done.output
    fetched = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert fetched == {"d.txt": b"d", "checkpoint-4/a.json": b"a", "checkpoint-4/b/c.json": b"c"}


def test_without_a_name_what_there_is_is_listed(service: FakeService, finebits: Finebits) -> None:
    stocked(service)
    done = finebits("download", "job-1")
    assert "sft/checkpoint-4/b/c.json" in done.stdout
    assert len(done.stdout.splitlines()) == 6
