"""Data sets that are sent: piece by piece or at once, named in jobs, validated, and kept as long as a job needs them."""

import asyncio
import hashlib
import json

import pytest

from service.api import arriving as module
from service.api.arriving import Arriving, OtherOffset, TooMuch
from service.api.openai.files import TRAINED_ON
from service.store import datasets, jobs
from tests.service.api import made
from tests.service.api.test_keys import a_key
from tests.specs.job_documents import a_job

ROWS = b"".join(json.dumps({"instruction": f"say {n}", "output": str(n)}).encode() + b"\n" for n in range(20))


def sha256(body):
    return hashlib.sha256(body).hexdigest()


def put(door, body=ROWS, name="mine", file_name="mine.jsonl", **query):
    response = door.put(f"/datasets/{name}", content=body, params={"file_name": file_name, **query})
    assert response.status_code == 201, response.text
    return response.json()


def begin(door, body=ROWS, name="mine", **more):
    response = door.post(f"/datasets/{name}/uploads", json={"file_name": "mine.jsonl", "size": len(body), **more})
    assert response.status_code == 201, response.text
    return response.headers["location"]


def send(door, url, piece, offset):
    return door.patch(url, content=piece, headers={"upload-offset": str(offset)})


def incoming(door):
    folder = door.app.state.settings.artifacts_root / ".incoming"
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def test_a_file_that_is_sent_in_pieces_is_a_data_set_when_the_last_has_come(door):
    url = begin(door, sha256=sha256(ROWS))
    assert send(door, url, ROWS[:100], 0).headers["upload-offset"] == "100"
    assert door.head(url).headers["upload-offset"] == "100"
    version = send(door, url, ROWS[100:], 100)
    assert version.status_code == 201
    shown = version.json()
    assert (shown["sha256"], shown["rows"], shown["size"]) == (sha256(ROWS), 20, len(ROWS))
    assert door.get(shown["url"]).content == ROWS
    assert door.get(shown["url"], headers={"range": "bytes=5-9"}).content == ROWS[5:10]
    assert door.get(url).status_code == 404
    assert incoming(door) == []


def test_a_piece_that_begins_elsewhere_is_refused_with_where_to_go_on(plain_door):
    url = begin(plain_door)
    send(plain_door, url, ROWS[:100], 0)
    for wrong in (0, 99, 101):
        refused = send(plain_door, url, ROWS[100:], wrong)
        assert (refused.status_code, refused.json()["code"], refused.json()["offset"]) == (409, "offset_conflict", 100)
        assert refused.headers["upload-offset"] == "100"
    assert send(plain_door, url, ROWS[100:], 100).status_code == 201


def test_a_service_that_was_started_anew_goes_on_where_the_one_before_stood(plain_door):
    url = begin(plain_door, sha256=sha256(ROWS))
    send(plain_door, url, ROWS[:100], 0)
    plain_door.app.state.arriving = Arriving(plain_door.app.state.settings.artifacts_root)
    assert send(plain_door, url, ROWS[100:], 100).json()["sha256"] == sha256(ROWS)


def test_more_than_was_announced_is_refused_and_not_written(plain_door):
    url = begin(plain_door)
    assert send(plain_door, url, ROWS + b"x", 0).status_code == 422
    assert plain_door.get(url).json()["offset"] <= len(ROWS)


def test_what_has_another_hash_is_refused_and_given_up(plain_door):
    url = begin(plain_door, sha256="0" * 64)
    refused = send(plain_door, url, ROWS, 0)
    assert refused.json()["errors"][0]["pointer"] == "/sha256"
    assert plain_door.get(url).status_code == 404
    assert incoming(plain_door) == []
    assert plain_door.get("/datasets/mine").status_code == 404


def test_an_upload_that_is_given_up_leaves_nothing(plain_door):
    url = begin(plain_door)
    send(plain_door, url, ROWS[:100], 0)
    assert plain_door.delete(url).status_code == 204
    assert (plain_door.get(url).status_code, incoming(plain_door)) == (404, [])


def run(take):
    return asyncio.run(take)


async def pieces(*given, then=None):
    for piece in given:
        yield piece
    if then is not None:
        raise then


def test_what_came_before_a_sender_was_cut_off_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "WRITTEN_AT_ONCE", 4)
    arriving = Arriving(tmp_path)
    with pytest.raises(ConnectionResetError):
        run(arriving.take("it", 0, 100, pieces(b"abc", b"def", b"g", then=ConnectionResetError())))
    assert arriving.path("it").read_bytes() == b"abcdefg"
    assert run(arriving.take("it", 7, 100, pieces(b"h"))) == 8
    assert arriving.sha256("it") == sha256(b"abcdefgh")


def test_of_two_that_send_at_once_one_is_refused(tmp_path):
    arriving = Arriving(tmp_path)

    async def both():
        async def slow():
            yield b"abc"
            with pytest.raises(OtherOffset, match="at this moment"):
                await arriving.take("it", 0, 100, pieces(b"xyz"))
            yield b"def"

        return await arriving.take("it", 0, 100, slow())

    assert run(both()) == 6
    assert arriving.path("it").read_bytes() == b"abcdef"


def test_a_file_never_grows_beyond_its_size(tmp_path):
    arriving = Arriving(tmp_path)
    with pytest.raises(TooMuch):
        run(arriving.take("it", 0, 4, pieces(b"abc", b"de")))
    assert arriving.path("it").read_bytes() == b"abc"


def test_the_same_content_is_the_same_version_and_another_is_another(plain_door):
    first, again = put(plain_door), put(plain_door)
    assert again["version"] == first["version"]
    assert again["file"] == first["file"]
    other = put(plain_door, ROWS + ROWS)
    columns = put(plain_door, entry=json.dumps({"columns": {"prompt": "output", "response": "instruction"}}))
    versions = [one["version"] for one in plain_door.get("/datasets/mine/versions").json()["data"]]
    assert versions == [columns["version"], other["version"], first["version"]]
    assert len(set(versions)) == 3
    assert plain_door.get("/datasets/mine").json()["version"] == columns["version"]
    assert len(plain_door.get("/v1/files").json()["data"]) == 3


def test_a_data_set_that_comes_again_is_the_newest(plain_door):
    first = put(plain_door)
    put(plain_door, ROWS + ROWS)
    put(plain_door)
    assert plain_door.get("/datasets/mine").json()["version"] == first["version"]


@pytest.mark.parametrize(
    ("file_name", "body", "formatting", "holds"),
    [
        ("a.jsonl", b'{"messages": [{"role": "user", "content": "a"}]}', "openai", "conversations"),
        ("a.json", b'[{"conversations": []}]', "sharegpt", "conversations"),
        ("a.csv", b"instruction,output\r\na,b\r\n", "alpaca", "conversations"),
        ("a.txt", b"call me\n", "alpaca", "texts"),
        ("a.jsonl", b'{"text": "call me"}', "alpaca", "texts"),
        ("a.jsonl", b'{"instruction": "a", "chosen": "b", "rejected": "c"}', "alpaca", "pairs"),
        ("a.jsonl", b'{"instruction": "a", "output": "b", "kto_tag": true}', "alpaca", "labels"),
    ],
)
def test_the_first_row_tells_how_the_rows_read(plain_door, file_name, body, formatting, holds):
    put(plain_door, body, file_name=file_name)
    shown = plain_door.get("/datasets/mine").json()
    assert (shown["formatting"], shown["holds"], shown["rows"]) == (formatting, holds, 1)


@pytest.mark.parametrize(
    ("name", "query", "body", "pointer"),
    [
        ("mine", {"file_name": "a.exe"}, ROWS, "/file_name"),
        ("mine", {"file_name": "a.jsonl", "entry": "[]"}, ROWS, "/query/entry"),
        ("mine", {"file_name": "a.jsonl", "entry": '{"hf_hub_url": "a/b"}'}, ROWS, "/entry"),
        ("mine", {"file_name": "a.jsonl", "entry": '{"columns": {"colour": "x"}}'}, ROWS, "/entry"),
        ("mine", {"file_name": "a.jsonl"}, b"", "/entry"),
        ("mine", {"file_name": "a.jsonl", "sha256": "0" * 64}, ROWS, "/sha256"),
        ("mine", {"file_name": "a.csv"}, b'a,b\n"', "/entry"),
        ("letters", {"file_name": "a.jsonl"}, ROWS, "/path/name"),
        ("file-0123456789abcdef01234567", {"file_name": "a.jsonl"}, ROWS, "/path/name"),
        ("a@b", {"file_name": "a.jsonl"}, ROWS, "/path/name"),
    ],
)
def test_what_cannot_be_a_data_set_is_refused_with_its_place(plain_door, name, query, body, pointer):
    response = plain_door.put(f"/datasets/{name}", params=query, content=body)
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, pointer)
    assert incoming(plain_door) == []


def test_a_job_names_a_data_set_and_runs_on_the_version_that_it_was_then(door):
    first = put(door)
    job_id = door.submit(data={"dataset": "mine", "template": "alpaca"})
    put(door, ROWS + ROWS)
    job = door.get(f"/jobs/{job_id}").json()
    assert job["spec"]["data"]["dataset"] == "mine"
    assert job["resolved"]["steps"][0]["data"]["dataset"] == [first["file"]]
    assert f"mine is mine@{first['version']}, the file {first['file']}." in [one["detail"] for one in job["notices"]]


def test_a_version_is_named_with_an_at_wherever_a_data_set_is(plain_door):
    first, second = put(plain_door), put(plain_door, ROWS + ROWS)
    name = f"mine@{first['version']}"
    document = a_job(
        data={"dataset": [name, "mine", "letters"], "template": "alpaca"}, measures={"dataset": "mine", "anchor": name}
    )
    dry = plain_door.post("/jobs?dry_run=true", json=document)
    assert dry.status_code == 200, dry.text
    [step] = dry.json()["resolved"]["steps"]
    assert step["data"]["dataset"] == [first["file"], second["file"], "letters"]
    assert (step["measures"]["dataset"], step["measures"]["anchor"]) == ([second["file"]], [first["file"]])


def test_a_name_that_nobody_has_is_refused_where_it_stands(plain_door):
    put(plain_door)
    for name in ("yours", "mine@0123456789ab", "mine@"):
        [(pointer, detail)] = plain_door.refusals(a_job(data={"dataset": name, "template": "alpaca"}))
        assert pointer == "/data/dataset"
        assert name in detail


def test_another_owner_s_data_set_is_as_good_as_none(plain_door):
    _, ann = a_key(plain_door, "ann")
    _, bob = a_key(plain_door, "bob")
    plain_door.headers = ann
    version = put(plain_door)
    url = begin(plain_door)
    plain_door.headers = bob
    for path in ("", f"@{version['version']}", "/versions", "/content"):
        assert plain_door.get(f"/datasets/mine{path}").status_code == 404
    assert plain_door.post("/datasets/mine/validate").status_code == 404
    assert plain_door.post("/datasets/mine/inspect", json={"model": "tiny"}).status_code == 404
    assert plain_door.delete("/datasets/mine").status_code == 404
    assert send(plain_door, url, ROWS, 0).status_code == 404
    assert plain_door.delete(url).status_code == 404
    assert "mine" not in [one["name"] for one in plain_door.get("/datasets").json()["data"]]
    assert plain_door.post("/jobs", json=a_job(data={"dataset": "mine", "template": "alpaca"})).status_code == 422
    put(plain_door, ROWS + ROWS)
    plain_door.headers = ann
    assert [one["version"] for one in plain_door.get("/datasets/mine/versions").json()["data"]] == [version["version"]]


def test_a_data_set_is_not_deleted_while_a_job_needs_it(door):
    first, second = put(door), put(door, ROWS + ROWS)
    job_id = door.submit(data={"dataset": f"mine@{first['version']}", "template": "alpaca"})
    for name in ("mine", f"mine@{first['version']}"):
        refused = door.delete(f"/datasets/{name}")
        assert (refused.status_code, refused.json()["jobs"]) == (409, [job_id])
    assert len(door.get("/datasets/mine/versions").json()["data"]) == 2
    assert door.delete(f"/datasets/mine@{second['version']}").status_code == 204
    made.succeed(door.app.state.database, made.claim(door.app.state.database))
    assert door.delete("/datasets/mine").status_code == 204
    assert door.get("/datasets/mine").status_code == 404
    assert door.get("/v1/files").json()["data"] == []


def test_what_is_named_by_a_job_that_is_about_to_be_kept_cannot_go_first(door):
    """A job is read, its data set is deleted, and then it would be written."""
    put(door)
    database, written = door.app.state.database, door.app.state.new_jobs.write

    async def late(new):
        with database.transaction() as session:
            datasets.delete(session, "local", "mine")
        return await written(new)

    door.app.state.new_jobs.write = late
    response = door.post("/jobs", json=a_job(data={"dataset": "mine", "template": "alpaca"}))
    assert (response.status_code, response.json()["code"]) == (422, "invalid_job")
    with database.reading() as session:
        assert jobs.listing(session, "local", 10) == ([], False)


def test_uploaded_data_sets_are_listed_behind_the_operator_s(plain_door):
    before = [one["name"] for one in plain_door.get("/datasets").json()["data"]]
    version = put(plain_door)["version"]
    after = plain_door.get("/datasets").json()["data"]
    assert [one["name"] for one in after] == [*before, "mine"]
    assert after[-1]["version"] == version
    assert plain_door.get("/v1/files").json()["data"][0]["purpose"] == TRAINED_ON


def test_an_uploaded_data_set_is_inspected_by_its_name(plain_door):
    file = put(plain_door)["file"]
    response = plain_door.post("/datasets/mine/inspect", json={"model": "tiny", "template": "alpaca"})
    assert response.status_code == 201, response.text
    assert response.json()["resolved"]["steps"][0]["data"]["dataset"] == [file]


BAD = b"""{"instruction": "a", "output": "b"}
{"instruction": "a"}
{"instruction": 3, "output": "b"}

not json
{"instruction": "a", "output": "b", "history": [["a"]]}
["a"]
"""


def test_the_first_rows_are_shown_as_they_are_also_of_a_file_with_faults(plain_door):
    put(plain_door, BAD)
    rows = plain_door.get("/datasets/mine/rows?limit=3").json()["data"]
    assert [(row["file"], row["row"]) for row in rows] == [("mine.jsonl", 1), ("mine.jsonl", 2), ("mine.jsonl", 3)]
    assert rows[2]["values"] == {"instruction": 3, "output": "b"}
    assert len(plain_door.get("/datasets/letters/rows").json()["data"]) == 10
    assert plain_door.get("/datasets/none/rows").status_code == 404
    assert plain_door.get("/datasets/mine/rows?limit=0").json()["errors"][0]["pointer"] == "/query/limit"


def test_every_fault_is_said_with_its_file_row_and_column(plain_door):
    put(plain_door, BAD)
    found = plain_door.post("/datasets/mine/validate").json()
    assert found["is_whole"]
    assert [(fault["file"], fault["row"], fault["column"]) for fault in found["faults"]] == [
        ("mine.jsonl", 2, "output"),
        ("mine.jsonl", 3, "instruction"),
        ("mine.jsonl", 5, None),
        ("mine.jsonl", 6, "history"),
        ("mine.jsonl", 7, None),
    ]
    assert all(fault["detail"].endswith(".") for fault in found["faults"])
    few = plain_door.post("/datasets/mine/validate?limit=2").json()
    assert (len(few["faults"]), few["is_whole"]) == (2, False)
    assert plain_door.post("/datasets/letters/validate").json()["faults"] == []
