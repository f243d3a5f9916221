import hashlib
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from sqlalchemy import update

from service.app import create_app
from service.settings import Settings
from service.store import files, removals, uploads, wishes
from service.store.session import Database
from service.store.tables import File, Upload
from tests.service.api.door import Bell, Door
from tests.service.api.openai.uploaded import chats, keep, lines, preferences, send


def test_a_file_is_kept_shown_and_handed_out_as_it_came(door: Door, settings: Settings) -> None:
    content = chats()
    file = send(door, content, name="wéird / name.jsonl").json()
    assert file == door.get(f"/v1/files/{file['id']}").json()
    assert (file["bytes"], file["rows"], file["status"]) == (len(content), 40, "processed")
    assert file["filename"] == " name.jsonl"  # a path is no part of a name
    assert file["sha256"] == hashlib.sha256(content).hexdigest()
    whole = door.get(f"/v1/files/{file['id']}/content")
    assert whole.content == content
    assert whole.headers["etag"] == f'"{file["sha256"]}"'
    part = door.get(f"/v1/files/{file['id']}/content", headers={"Range": "bytes=5-9"})
    assert (part.status_code, part.content) == (206, content[5:10])
    assert list((settings.artifacts_root / ".incoming").iterdir()) == []


def test_a_page_begins_behind_the_file_it_is_asked_to(door: Door) -> None:
    ids = [keep(door) for _ in range(4)]
    keep(door, b"any", purpose="user_data", name="x.bin")
    newest = door.get("/v1/files", params={"purpose": "fine-tune", "limit": 3}).json()
    assert [file["id"] for file in newest["data"]] == ids[:0:-1]
    assert (newest["has_more"], newest["first_id"], newest["last_id"]) == (True, ids[3], ids[1])
    rest = door.get("/v1/files", params={"purpose": "fine-tune", "limit": 3, "after": newest["last_id"]}).json()
    assert ([file["id"] for file in rest["data"]], rest["has_more"]) == ([ids[0]], False)
    oldest = door.get("/v1/files", params={"purpose": "fine-tune", "order": "asc", "after": ids[0]}).json()
    assert [file["id"] for file in oldest["data"]] == ids[1:]
    assert door.get("/v1/files", params={"after": "file-none"}).json()["error"]["param"] == "after"


GOOD = chats(2)
USER, ASSISTANT = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
FAULTS: list[tuple[bytes, str]] = [
    (GOOD + b"\n\n{no}", "line 4: This is not JSON"),
    (GOOD + b"\n[1]", "line 3: A row must be an object."),
    (GOOD + b'\n"\xff"', "line 3: This is not UTF-8: it holds the byte 0xff."),
    (GOOD + lines([{}, {"messages": [USER]}])[2:], "line 3: messages must end with one of the assistant"),
    (GOOD + b"\n" + lines([{"messages": [{"role": "robot", "content": "a"}, ASSISTANT]}]), "line 3: messages[0].role is 'robot'"),
    (GOOD + b"\n" + lines([{"messages": [{"role": "user"}, ASSISTANT]}]), "line 3: messages[0].content must be text."),
    (GOOD + b"\n" + lines([{"messages": [USER, ASSISTANT | {"weight": 2}]}]), "line 3: messages[1].weight must be 0 or 1."),
    (GOOD + b"\n" + lines([{"messages": [USER, ASSISTANT | {"weight": 0}]}]), "line 3: every message of the assistant has the"),
    (GOOD + b"\n" + lines([{"messages": [USER, ASSISTANT], "tools": 1}]), "line 3: tools must be a list of functions."),
    (GOOD + b"\n" + lines([{"text": "a"}]), "line 3: messages must be a list of messages."),
    (preferences(2) + b"\n" + lines([{"input": 1}]), "line 3: input must be an object with messages."),
    (lines([{"question": "a"}]), "line 1: These are no rows to train on"),
    (b"\n\n", "train.jsonl: It holds no rows."),
    (b"", "train.jsonl: It holds no rows."),
]


def test_a_file_to_train_on_is_refused_with_the_number_of_the_line(plain_door: Door) -> None:
    for content, told in FAULTS:
        answer = send(plain_door, content)
        assert answer.status_code == 422
        assert told in answer.json()["error"]["message"]
        assert answer.json()["error"]["param"] == "file"
    assert plain_door.get("/v1/files").json()["data"] == []


def test_several_bad_lines_are_told_at_once_and_not_all_of_very_many(plain_door: Door) -> None:
    answer = send(plain_door, chats(1) + b"\n{}" * 1000).json()
    assert [error["detail"].partition(":")[0] for error in answer["errors"]] == [f"train.jsonl, line {n}" for n in range(2, 22)]
    assert answer["error"]["message"].endswith("And 15 more.")


FORMS: list[tuple[dict[str, Any], str]] = [
    ({"files": {"file": ("a.jsonl", GOOD)}}, "purpose"),
    ({"files": {"data": ("a.jsonl", GOOD)}, "data": {"purpose": "fine-tune"}}, "file"),
    ({"files": {"file": ("a.jsonl", GOOD)}, "data": {"purpose": "fun"}}, "purpose"),
    ({"files": {"file": ("a", GOOD)}, "data": {"purpose": "batch", "expires_after[anchor]": "now"}}, "expires_after.anchor"),
    (
        {"files": {"file": ("a", GOOD)}, "data": {"purpose": "batch", "expires_after[anchor]": "created_at"}},
        "expires_after.seconds",
    ),
]


def test_a_form_that_lacks_something_says_what(plain_door: Door) -> None:
    for form, param in FORMS:
        answer = plain_door.post("/v1/files", **form)
        assert (answer.status_code, answer.json()["error"]["param"]) == (422, param)


def test_what_is_no_form_is_refused(plain_door: Door) -> None:
    assert plain_door.post("/v1/files", json={}).status_code == 415
    broken = {"Content-Type": "multipart/form-data; boundary=x"}
    assert plain_door.post("/v1/files", content=b"--y\r\n\r\n", headers=broken).json()["code"] == "malformed_body"


def test_a_file_may_be_larger_than_other_bodies_and_no_larger_than_its_limit(
    settings: Settings, bell: Bell, plain_door: Door
) -> None:
    small = settings.model_copy(update={"max_body_bytes": 1024, "max_file_bytes": 200_000})
    with Door(create_app(small, plain_door.app.state.database, bell)) as door:
        assert send(door, b"x" * 150_000, purpose="user_data").status_code == 200
        answer = send(door, b"x" * 300_000, purpose="user_data")
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
        assert "FINEBITS_MAX_FILE_BYTES" in answer.json()["error"]["message"]
        assert door.post("/v1/uploads", content=b" " * 2000).status_code == 413


def test_files_are_kept_in_a_store_that_is_elsewhere_and_handed_out_from_there(
    settings: Settings, bell: Bell, plain_door: Door, tmp_path: Path
) -> None:
    elsewhere = settings.model_copy(update={"artifacts_url": f"file://{tmp_path}/elsewhere"})
    with Door(create_app(elsewhere, plain_door.app.state.database, bell)) as door:
        content = chats()
        upload = opened(door, len(content))
        file = complete(door, upload, part(door, upload, content[:900]), part(door, upload, content[900:])).json()["file"]
        assert door.get(f"/v1/files/{file['id']}/content").content == content
        part_of_it = door.get(f"/v1/files/{file['id']}/content", headers={"Range": "bytes=5-9"})
        assert part_of_it.content == content[5:10]
    assert (tmp_path / "elsewhere" / "files" / file["id"] / "train.jsonl").read_bytes() == content
    assert not (settings.artifacts_root / "files").exists()


def test_what_cannot_be_written_is_a_503_and_no_fault_of_the_clients(settings: Settings, plain_door: Door) -> None:
    settings.artifacts_root.mkdir(exist_ok=True)
    (settings.artifacts_root / ".incoming").write_text("a file stands in the way")
    answer = send(plain_door, chats())
    assert (answer.status_code, answer.json()["error"]["type"]) == (503, "server_error")


def test_this_door_asks_for_the_key_too(settings: Settings, bell: Bell, plain_door: Door) -> None:
    keyed = settings.model_copy(update={"api_key": SecretStr("0123456789abcdef")})
    with Door(create_app(keyed, plain_door.app.state.database, bell)) as door:
        for path in ("/v1/files", "/v1/models", "/v1/fine_tuning/jobs"):
            error = door.get(path).json()["error"]
            assert (error["type"], error["code"]) == ("authentication_error", "unauthorized")
        assert send(door, chats()).status_code == 401


def test_a_file_that_a_job_needs_is_not_deleted_and_another_is(door: Door, database: Database) -> None:
    needed, other = keep(door), keep(door)
    job = door.post("/v1/fine_tuning/jobs", json={"model": "tiny", "training_file": needed}).json()["id"]
    answer = door.delete(f"/v1/files/{needed}")
    assert answer.status_code == 409
    assert answer.headers["x-should-retry"] == "false"
    assert job in answer.json()["error"]["message"]
    assert door.delete(f"/v1/files/{other}").json() == {"id": other, "object": "file", "deleted": True}
    assert door.get(f"/v1/files/{other}").status_code == 404
    door.post(f"/v1/fine_tuning/jobs/{job}/cancel")
    assert door.delete(f"/v1/files/{needed}").status_code == 200
    with database.reading() as session:
        assert set(removals.waiting(session)) == {f"files/{other}", f"files/{needed}"}


def expire(database: Database, file_id: str) -> list[str]:
    """Its time is over, and a sweep comes by."""
    with database.transaction() as session:
        session.execute(update(File).where(File.id == file_id).values(expires_at=1.0))
    with database.transaction() as session:
        return files.expire(session)


def test_a_file_expires_and_one_that_a_job_needs_is_kept_for_it(door: Door, database: Database) -> None:
    fields = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    file = send(door, chats(), **fields).json()
    assert file["expires_at"] == file["created_at"] + 3600
    job_id = door.submit({"model": {"model_name_or_path": "tiny"}, "data": {"dataset": file["id"], "template": "chatml"}})
    assert expire(database, file["id"]) == []
    assert door.get(f"/v1/files/{file['id']}").status_code == 404
    late = door.post("/v1/fine_tuning/jobs", json={"model": "tiny", "training_file": file["id"]})
    assert late.json()["error"]["param"] == "training_file"
    with database.transaction() as session:
        assert set(files.of_job(session, job_id, {"dataset": [file["id"]]})) == {file["id"]}
        wishes.cancel(session, "local", job_id)
    assert expire(database, file["id"]) == [file["id"]]


# -- in parts -----------------------------------------------------------------------------------------------------------


def opened(door: Door, size: int, **more: Any) -> str:
    new = {"bytes": size, "filename": "train.jsonl", "mime_type": "text/jsonl", "purpose": "fine-tune", **more}
    return str(door.post("/v1/uploads", json=new).json()["id"])


def part(door: Door, upload: str, content: bytes) -> str:
    return str(door.post(f"/v1/uploads/{upload}/parts", files={"data": ("part", content)}).json()["id"])


def complete(door: Door, upload: str, *parts: str, **more: Any) -> Any:
    return door.post(f"/v1/uploads/{upload}/complete", json={"part_ids": list(parts), **more})


def test_parts_become_a_file_in_the_order_that_is_named_and_once(door: Door, database: Database, settings: Settings) -> None:
    content = chats()
    upload = opened(door, len(content), expires_after={"anchor": "created_at", "seconds": 3600})
    last, first = part(door, upload, content[700:]), part(door, upload, content[:700])
    done = complete(door, upload, first, last, md5=hashlib.md5(content).hexdigest().upper()).json()
    assert (done["status"], done["file"]["bytes"], done["file"]["rows"]) == ("completed", len(content), 40)
    assert done["file"]["expires_at"] == done["file"]["created_at"] + 3600
    assert door.get(f"/v1/files/{done['file']['id']}/content").content == content
    assert complete(door, upload, first, last).json()["file"] == done["file"]  # a client that did not hear the answer
    assert len(door.get("/v1/files").json()["data"]) == 1
    with database.reading() as session:
        assert removals.waiting(session) == [f"uploads/{upload}"]
    assert part_refused(door, upload) == (409, "state_conflict")
    assert Path(settings.artifacts_root, f"files/{done['file']['id']}/train.jsonl").read_bytes() == content


def part_refused(door: Door, upload: str) -> tuple[int, str]:
    answer = door.post(f"/v1/uploads/{upload}/parts", files={"data": ("part", b"1")})
    return answer.status_code, answer.json()["error"]["code"]


def test_parts_that_do_not_make_the_file_are_refused_and_can_be_put_right(plain_door: Door) -> None:
    content = chats()
    upload = opened(plain_door, len(content))
    only = part(plain_door, upload, content[:-1])
    told = complete(plain_door, upload, only).json()["error"]["message"]
    assert told == f"The parts have {len(content) - 1} bytes together, and the upload was opened for {len(content)}."
    for asked, param in (
        (complete(plain_door, upload, only), "part_ids"),
        (complete(plain_door, upload, only, "part-none"), "part_ids.1"),
        (complete(plain_door, upload, only, md5="0" * 32), "md5"),
        (complete(plain_door, upload), "part_ids"),
    ):
        assert (asked.status_code, asked.json()["error"]["param"]) == (422, param)
    assert complete(plain_door, upload, only, part(plain_door, upload, content[-1:])).status_code == 200


def test_what_the_parts_make_is_read_as_any_file_to_train_on(plain_door: Door) -> None:
    content = chats(3) + b"\nno"
    upload = opened(plain_door, len(content))
    answer = complete(plain_door, upload, part(plain_door, upload, content))
    assert "line 4: This is not JSON" in answer.json()["error"]["message"]


def test_an_upload_that_is_cancelled_or_late_takes_nothing_more(door: Door, database: Database) -> None:
    cancelled, late = opened(door, 10), opened(door, 10)
    assert door.post(f"/v1/uploads/{cancelled}/cancel").json()["status"] == "cancelled"
    with database.transaction() as session:
        session.execute(update(Upload).where(Upload.id == late).values(expires_at=1.0))
    with database.transaction() as session:
        assert uploads.expire(session) == [late]
    assert complete(door, late, "part-none").json()["state"] == "expired"
    for upload in (cancelled, late):
        assert part_refused(door, upload) == (409, "state_conflict")
    assert door.post("/v1/uploads/upload-none/parts", files={"data": ("part", b"1")}).status_code == 404


def test_an_upload_says_what_is_wrong_with_it(plain_door: Door) -> None:
    good = {"bytes": 10, "filename": "a", "mime_type": "b", "purpose": "batch"}
    for wrong, param in (({"bytes": "10"}, "bytes"), ({"purpose": "fun"}, "purpose"), ({"bytes": 2**50}, "bytes")):
        answer = plain_door.post("/v1/uploads", json=good | wrong)
        assert (answer.status_code, answer.json()["error"]["param"]) == (422, param)
