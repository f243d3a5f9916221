"""Artifacts and logs: whole, in parts, from the end, and gone. From the folder, and from an S3 all the same."""

import hashlib
import socket
from itertools import count

import boto3
import pytest

from service.api import logs
from service.storage.remote import Remote
from service.store import artifacts, leases
from tests.service.api import made

BODY = bytes(range(256)) * 40
FOLDER = pytest.mark.parametrize("settings", ["folder"], indirect=True)
S3 = pytest.mark.parametrize("settings", ["s3"], indirect=True)
_number = count()


@pytest.fixture(params=["folder", "s3"])
def settings(request, settings, tmp_path):
    """The API over each kind of store. Over an S3 it cannot see what lies in the worker's folder."""
    if request.param == "folder":
        return settings
    server = request.getfixturevalue("s3")
    of_s3 = {"artifacts_url": f"s3://finebits/api-{next(_number)}", "s3_endpoint": server.endpoint}
    return settings.model_copy(update={**of_s3, "artifacts_root": tmp_path / "elsewhere"})


@pytest.fixture
def root(tmp_path):
    """Where the worker writes."""
    return tmp_path / "artifacts"


@pytest.fixture
def keep(settings, root):
    """Brings a file that the worker wrote to the store."""

    def keep(file):
        if settings.artifacts_url:
            body = file.read_bytes()
            storage = Remote(settings.artifacts_url, settings.s3_endpoint)
            storage.put(file, str(file.relative_to(root)), len(body), hashlib.sha256(body).hexdigest())

    return keep


@pytest.fixture
def door(plain_door):
    """Files are the same on every database."""
    return plain_door


@pytest.fixture
def database(plain_door):
    return plain_door.app.state.database


@pytest.fixture
def running(door, database):
    door.submit()
    return made.claim(database)


@pytest.fixture
def file(database, root, running, keep):
    """(address, SHA-256) of a file of 10240 bytes."""
    sha256 = made.artifact(database, running, root, "sft/checkpoint-10/model.safetensors", BODY)
    keep(root / running.job_id / "1/sft/checkpoint-10/model.safetensors")
    return f"/jobs/{running.job_id}/artifacts/sft/checkpoint-10/model.safetensors", sha256


def test_artifacts_are_listed_with_where_they_are(door, running, file):
    url, sha256 = file
    [artifact] = door.get(f"/jobs/{running.job_id}/artifacts").json()["data"]
    assert artifact.pop("created_at").endswith("Z")
    assert artifact == {
        "name": "sft/checkpoint-10/model.safetensors",
        "size": len(BODY),
        "sha256": sha256,
        "attempt": 1,
        "url": url,
    }


def test_a_file_is_downloaded_whole(door, file):
    url, sha256 = file
    response = door.get(url)
    assert (response.status_code, response.content) == (200, BODY)
    assert response.headers["etag"] == f'"{sha256}"'
    assert response.headers["content-length"] == str(len(BODY))
    assert response.headers["content-disposition"] == 'attachment; filename="model.safetensors"'
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["accept-ranges"] == "bytes"


def test_a_head_is_the_same_without_the_bytes(door, file):
    whole, head = door.get(file[0]), door.head(file[0])
    assert (head.status_code, head.content) == (200, b"")
    same = ("etag", "content-length", "content-disposition", "content-type")
    assert {name: head.headers[name] for name in same} == {name: whole.headers[name] for name in same}


@pytest.mark.parametrize(
    ("wanted", "part"),
    [("bytes=0-9", BODY[:10]), ("bytes=100-", BODY[100:]), ("bytes=-7", BODY[-7:]), ("bytes=10000-99999", BODY[10000:])],
)
def test_a_part_of_a_file(door, file, wanted, part):
    response = door.get(file[0], headers={"range": wanted})
    assert (response.status_code, response.content) == (206, part)
    assert response.headers["content-range"].endswith(f"/{len(BODY)}")


def test_several_parts_of_a_file(door, file):
    response = door.get(file[0], headers={"range": "bytes=0-1,10-12"})
    assert response.status_code == 206
    assert response.headers["content-type"].startswith("multipart/byteranges")
    assert int(response.headers["content-length"]) == len(response.content)
    for part in (b"bytes 0-1/10240\r\n\r\n" + BODY[:2], b"bytes 10-12/10240\r\n\r\n" + BODY[10:13]):
        assert part in response.content


def test_a_download_is_taken_up_only_if_the_file_is_the_same(door, file):
    url, sha256 = file
    same = door.get(url, headers={"range": "bytes=5-", "if-range": f'"{sha256}"'})
    assert (same.status_code, same.content) == (206, BODY[5:])
    other = door.get(url, headers={"range": "bytes=99999-", "if-range": '"other"'})
    assert (other.status_code, other.content) == (200, BODY)


@pytest.mark.parametrize(
    ("wanted", "status"), [("bytes=10240-", 416), ("bytes=99999-100000", 416), ("bytes=9-3", 400), ("rows=1-2", 400), ("x", 400)]
)
def test_a_bad_range_is_a_problem(door, file, wanted, status):
    response = door.get(file[0], headers={"range": wanted})
    assert response.status_code == status
    assert status != 416 or response.headers["content-range"] == f"bytes */{len(BODY)}"


def test_a_file_that_is_known_is_not_sent_again(door, file):
    url, sha256 = file
    response = door.get(url, headers={"if-none-match": f'"{sha256}"'})
    assert (response.status_code, response.content) == (304, b"")


def test_a_file_that_was_never_made_is_not_found(door, running, file):
    for name in ("other", "sft/checkpoint-10", "../../secret.json", "..%2f..%2fsecret.json", "/etc/passwd", "sft//x"):
        assert door.get(f"/jobs/{running.job_id}/artifacts/{name}").status_code in (404, 405)


def behind_its_back(settings, running):
    """A client of the bucket, and where in it the file is."""
    client = boto3.client("s3", endpoint_url=settings.s3_endpoint)
    folder = settings.artifacts_url.removeprefix("s3://finebits/")
    return client, {"Bucket": "finebits", "Key": f"{folder}/{running.job_id}/1/sft/checkpoint-10/model.safetensors"}


def test_a_file_that_is_gone_from_the_store_is_gone(door, settings, root, running, file):
    if settings.artifacts_url:
        client, place = behind_its_back(settings, running)
        client.delete_object(**place)
    else:
        (root / running.job_id / "1/sft/checkpoint-10/model.safetensors").unlink()
    response = door.get(file[0])
    assert (response.status_code, response.json()["code"]) == (410, "gone")


@S3
def test_a_file_of_another_size_than_was_made_is_gone(door, settings, running, file):
    client, place = behind_its_back(settings, running)
    client.put_object(**place, Body=BODY[:-1])
    response = door.get(file[0])
    assert (response.status_code, response.json()["code"]) == (410, "gone")
    assert "10240" in response.json()["detail"]


@S3
def test_a_store_that_does_not_answer_is_a_503_that_says_so_and_the_service_is_not_ready(door, settings, running, file):
    door.app.state.storage = Remote(settings.artifacts_url, "http://127.0.0.1:9")
    for url in (file[0], f"/jobs/{running.job_id}/logs"):
        response = door.get(url)
        assert (response.status_code, response.json()["code"]) == (503, "unavailable")
        assert response.headers["retry-after"]
        assert "artifact store" in response.json()["detail"]
    ready = door.get("/readyz")
    assert (ready.status_code, ready.json()["checks"]["artifacts"]) == (503, False)


@S3
def test_a_store_that_takes_the_call_and_says_nothing_keeps_nobody_waiting(door, settings, running, file, monkeypatch):
    monkeypatch.setattr("service.storage.remote.SIZE_SECONDS", 0.3)
    monkeypatch.setattr("service.storage.remote.ANSWER_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        door.app.state.storage = Remote(settings.artifacts_url, f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert door.get(file[0]).status_code == 503
        assert door.get("/readyz").status_code == 503


@S3
def test_a_store_that_answers_is_one_of_the_checks(door):
    assert door.get("/readyz").json()["checks"]["artifacts"] is True


@S3
def test_a_large_file_is_read_in_pieces(door, s3, settings, database, root, running, keep, monkeypatch):
    monkeypatch.setattr("service.api.stored_file.StoredFile.chunk_size", 1000)
    made.artifact(database, running, root, "big.bin", BODY)
    keep(root / running.job_id / "1/big.bin")
    assert door.get(f"/jobs/{running.job_id}/artifacts/big.bin").content == BODY
    folder = settings.artifacts_url.removeprefix("s3://finebits/")
    assert len(s3.requests("GET", f"{folder}/{running.job_id}/1/big.bin")) == 11


@pytest.mark.parametrize("path", ["../secret.json", "/etc/passwd", "escape/secret.json"])
def test_a_record_that_points_outside_is_not_followed(door, database, root, running, tmp_path, path):
    root.mkdir(exist_ok=True)
    (root / "escape").symlink_to(tmp_path)
    with database.transaction() as session:
        artifacts.record(session, running, "bad", path, 2, "0" * 64)
    assert door.get(f"/jobs/{running.job_id}/artifacts/bad").status_code == 410


def test_a_name_with_odd_characters_is_found_at_its_address(door, database, root, running, keep):
    made.artifact(database, running, root, "plots/loss – ü?#%.txt", b"x")
    keep(root / running.job_id / "1" / "plots/loss – ü?#%.txt")
    [artifact] = door.get(f"/jobs/{running.job_id}/artifacts").json()["data"]
    response = door.get(artifact["url"])
    assert response.content == b"x"
    assert "filename*=utf-8''loss%20%E2%80%93%20%C3%BC%3F%23%25.txt" in response.headers["content-disposition"]


# -- logs ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def log(root, running):
    path = root / running.job_id / "1" / "log.txt"
    path.parent.mkdir(parents=True)
    return path


def test_a_job_that_has_not_begun_has_no_log(door):
    response = door.get(f"/jobs/{door.submit()}/logs")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


def test_a_log_that_has_no_line_yet_is_empty(door, running):
    response = door.get(f"/jobs/{running.job_id}/logs")
    assert (response.status_code, response.text) == (200, "")


def test_a_log_is_read_as_it_stands_while_the_job_runs(door, running, log, keep):
    url = f"/jobs/{running.job_id}/logs"
    log.write_bytes("erste Zeile ü\n".encode())
    keep(log)
    first = door.get(url)
    assert first.headers["content-type"] == "text/plain; charset=utf-8"
    assert first.text == "erste Zeile ü\n"
    with log.open("ab") as more:
        more.write(b"half a li")
    keep(log)
    assert door.get(url).text == "erste Zeile ü\nhalf a li"
    assert door.get(f"{url}?tail=1").text == "half a li"


def test_a_log_is_of_one_attempt(door, database, running, log, keep):
    log.write_text("the first try\n")
    keep(log)
    with database.transaction() as session:
        leases.give_back(session, running, "The worker stops.")
    made.claim(database)
    second = log.parents[1] / "2" / "log.txt"
    second.parent.mkdir()
    second.write_text("the second try\n")
    keep(second)
    url = f"/jobs/{running.job_id}/logs"
    assert door.get(url).text == "the second try\n"
    assert door.get(f"{url}?attempt=1").text == "the first try\n"
    assert door.get(f"{url}?attempt=3").status_code == 404
    assert door.get(f"{url}?attempt=0").status_code == 422


@FOLDER
@pytest.mark.parametrize("block", [1, 2, 3, 7, 256 * 1024])
@pytest.mark.parametrize("text", ["a\nbb\nccc\n", "a\nbb\nccc", "\n\n\n", "alone", "", "a\n\nb\n"])
def test_a_tail_is_the_last_lines(door, running, log, monkeypatch, text, block):
    monkeypatch.setattr(logs, "BLOCK", block)
    log.write_text(text)
    for lines in (1, 2, 3, 50):
        expected = "".join(text.splitlines(keepends=True)[-lines:])
        assert door.get(f"/jobs/{running.job_id}/logs?tail={lines}").text == expected


def test_a_log_that_is_a_link_out_of_the_folder_is_not_followed(door, running, log, tmp_path):
    log.symlink_to(tmp_path / "secret.json")
    assert door.get(f"/jobs/{running.job_id}/logs").text == ""
