"""Idempotency-Key on what makes or does anything: the first answer again, and nothing done twice."""

import shutil

import pytest
from pydantic import SecretStr
from sqlalchemy import func, select, text, update

from service.app import KEYED, create_app
from service.settings import Settings
from service.store import idempotency
from service.store.clock import now
from service.store.errors import IdempotencyBusy
from service.store.tables import (
    ApiKey,
    AuditEntry,
    File,
    IdempotencyKey,
    Job,
    Removal,
    Upload,
    UploadPart,
    Webhook,
    WebhookDelivery,
)
from tests.databases import migrated
from tests.service import shelves
from tests.service.api.door import Bell, Door
from tests.service.api.test_audit import CHANGES, a_delivery, a_sending, a_webhook
from tests.service.api.test_keys import LOOKING, a_key
from tests.service.store.threads import at_once

OF_JOBS = {"create_job", "create_fine_tuning_job", "inspect_dataset"}  # answered with the job as it stands
POSTS = {route.name for router in KEYED for route in router.routes if "POST" in route.methods}
DOING = sorted(POSTS & set(CHANGES))

# What there may be one more of.
MADE = (Job, ApiKey, Webhook, WebhookDelivery, File, Upload, UploadPart, AuditEntry)


SECRET = SecretStr("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")


@pytest.fixture
def keyed(plain_door):
    """An admin's, of a service that keeps secrets."""
    plain_door.headers = a_key(plain_door, "root", ["admin"])[1]
    state = plain_door.app.state
    state.settings = state.settings.model_copy(update={"secret_key": SECRET})
    return plain_door


def with_key(door, change, subject, key="the-key"):
    door.headers["idempotency-key"] = key
    try:
        return change(door, subject)
    finally:
        del door.headers["idempotency-key"]


def counts(door):
    with door.app.state.database.reading() as session:
        return [session.scalar(select(func.count()).select_from(table)) for table in MADE]


def test_every_post_takes_a_key_but_those_that_make_nothing_to_be_told_of_again(plain_door):
    paths = plain_door.app.openapi()["paths"]
    posts = {path["post"]["operationId"]: path["post"] for path in paths.values() if "post" in path}
    takes = {name for name, post in posts.items() if any(one["name"] == "idempotency-key" for one in post.get("parameters", ()))}
    assert takes - {"generate_text"} == set(DOING) == POSTS - LOOKING - {"generate_text"}
    assert all({"409", "422"} <= set(posts[name]["responses"]) for name in DOING)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """As `keyed`, for all operations."""
    home = tmp_path_factory.mktemp("home")
    roots = shelves.stocked(home)
    settings = Settings(home=home, models_root=roots.models, datasets_root=roots.datasets, artifacts_root=home / "artifacts")
    database = migrated(home / "plain.db")
    with Door(create_app(settings.model_copy(update={"secret_key": SECRET}), database, Bell())) as door:
        door.headers = a_key(door, "root", ["admin"])[1]
        yield door
    database.close()


@pytest.mark.parametrize("action", DOING)
def test_the_same_key_and_request_are_answered_as_the_first_and_nothing_is_done_again(shared, monkeypatch, action):
    prepare, change = CHANGES[action]
    subject = prepare(shared)
    before = counts(shared)
    with monkeypatch.context() as patched:
        patched.setattr(idempotency, "remember", busy)
        refused = with_key(shared, change, subject, action)
    assert (refused.status_code, refused.json()["code"]) == (409, "idempotency_busy")
    assert refused.headers["retry-after"] == "1"
    assert counts(shared) == before
    first = with_key(shared, change, subject, action)
    assert first.is_success, first.text
    done = counts(shared)
    again = with_key(shared, change, subject, action)
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert [again.headers.get(name) for name in ("location", "etag")] == [first.headers.get(n) for n in ("location", "etag")]
    assert (first.headers.get("idempotency-replayed"), again.headers["idempotency-replayed"]) == (None, "true")
    assert counts(shared) == done
    if action not in OF_JOBS:
        with monkeypatch.context() as patched:
            patched.setattr(shared, "params", {"other": "1"})
            refused = with_key(shared, change, subject, action)
        assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_mismatch")


def busy(*arguments):
    raise IdempotencyBusy("A request with this Idempotency-Key is being answered; ask again in a moment.")


def a_key_of(door, body=None, key="the-key"):
    return door.post("/keys", json=body or {"owner": "bob"}, headers={"idempotency-key": key})


def test_another_body_is_refused_and_another_owner_has_keys_of_its_own(keyed):
    first = a_key_of(keyed)
    assert a_key_of(keyed, {"owner": "ann"}).json()["code"] == "idempotency_mismatch"
    keyed.headers = a_key(keyed, "ann", ["admin"])[1]
    assert a_key_of(keyed, {"owner": "ann"}).json()["id"] != first.json()["id"]


def test_two_addresses_are_two_requests(keyed):
    one, other = a_webhook(keyed), a_webhook(keyed)
    assert keyed.post(f"/webhooks/{one}/test", headers={"idempotency-key": "k"}).status_code == 202
    assert keyed.post(f"/webhooks/{other}/test", headers={"idempotency-key": "k"}).json()["code"] == "idempotency_mismatch"


def test_a_refused_request_uses_no_key_up(keyed):
    assert a_key_of(keyed, {"owner": "bob", "scopes": []}).status_code == 422
    assert a_key_of(keyed).status_code == 201


def test_a_key_is_free_again_after_a_day_and_forgotten_by_the_sweep(keyed):
    first = a_key_of(keyed).json()["id"]
    with keyed.app.state.database.transaction() as session:
        session.execute(update(IdempotencyKey).values(created_at=now() - idempotency.DAY_SECONDS - 1))
    assert a_key_of(keyed).json()["id"] != first
    a_key_of(keyed, key="another")
    with keyed.app.state.database.transaction() as session:
        old = update(IdempotencyKey).where(IdempotencyKey.key == "the-key")
        session.execute(old.values(created_at=now() - idempotency.DAY_SECONDS - 1))
        assert idempotency.forget(session) == ["the-key"]
        assert list(session.scalars(select(IdempotencyKey.key))) == ["another"]


@pytest.mark.parametrize("action", ["create_key", "create_webhook", "rotate_webhook"])
def test_a_secret_is_shown_again_and_lies_nowhere_in_clear(shared, action):
    prepare, change = CHANGES[action]
    subject = prepare(shared)
    shown = with_key(shared, change, subject, f"{action} again").json()
    secret = shown.get("key") or shown["secret"]
    assert secret in with_key(shared, change, subject, f"{action} again").json().values()
    database = shared.app.state.database
    with database.reading() as session:
        names = session.scalars(text("SELECT name FROM sqlite_master WHERE type = 'table'")).all()
        everything = [str(tuple(row)) for name in names for row in session.execute(text(f"SELECT * FROM {name}"))]
    assert len(everything) > 3
    assert not [row for row in everything if secret in row]


def test_where_no_secrets_are_kept_the_key_is_not_made_twice_and_the_answer_says_which_it_was(plain_door):
    plain_door.headers = a_key(plain_door, "root", ["admin"])[1]
    made = a_key_of(plain_door).json()
    lost = a_key_of(plain_door)
    assert (lost.status_code, lost.json()["code"]) == (409, "answer_lost")
    assert made["id"] in lost.json()["detail"]
    assert "FINEBITS_SECRET_KEY" in lost.json()["detail"]
    assert counts(plain_door)[MADE.index(ApiKey)] == 2


def test_an_answer_that_was_sealed_with_another_key_is_lost(keyed):
    made = a_key_of(keyed).json()
    state = keyed.app.state
    state.settings = state.settings.model_copy(update={"secret_key": SecretStr("ZZEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")})
    lost = a_key_of(keyed)
    assert (lost.status_code, lost.json()["code"]) == (409, "answer_lost")
    assert made["id"] in lost.json()["detail"]


def test_requests_at_the_same_moment_do_it_once(door):
    answers = at_once(*[lambda: door.post("/v1/uploads", json=AN_UPLOAD, headers={"idempotency-key": "k"})] * 6)
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert counts(door)[MADE.index(Upload)] == 1


AN_UPLOAD = {"purpose": "assistants", "filename": "a.txt", "mime_type": "text/plain", "bytes": 2}


def test_a_failure_between_the_doing_and_the_answer_leaves_neither(keyed, monkeypatch):
    def broken(*arguments):
        raise RuntimeError("the process died here")

    with monkeypatch.context() as patched:
        patched.setattr(idempotency, "keep", broken)
        assert a_key_of(keyed).status_code == 500
    assert counts(keyed)[MADE.index(ApiKey)] == 1
    assert a_key_of(keyed).status_code == 201


# -- files -------------------------------------------------------------------------------------------------------------

ROW = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}'


def send(door, content=ROW, boundary="one", **fields):
    """A form whose boundary is its sender's, as it is another each time that a client asks again."""
    parts = {"purpose": "fine-tune"} | fields
    about = f"--{boundary}\r\nContent-Disposition: form-data; name="
    body = "".join(f'{about}"{name}"\r\n\r\n{value}\r\n' for name, value in parts.items())
    body += f'{about}"file"; filename="chat.jsonl"\r\n\r\n{content.decode()}\r\n--{boundary}--\r\n'
    headers = {"content-type": f"multipart/form-data; boundary={boundary}", "idempotency-key": "k"}
    return door.post("/v1/files", content=body, headers=headers)


def test_a_form_that_is_cut_otherwise_is_the_same_and_other_bytes_are_not(keyed):
    first = send(keyed)
    assert send(keyed, boundary="another").json() == first.json()
    for other in (send(keyed, content=ROW.replace(b'"b"', b'"c"')), send(keyed, purpose="assistants")):
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    assert counts(keyed)[MADE.index(File)] == 1


def test_a_file_that_came_twice_at_once_is_kept_once(keyed, monkeypatch):
    """The second had looked before the first was answered: what it has put into the store goes again."""
    first = send(keyed)
    real, calls = idempotency.answered, []

    def blind_at_first(*arguments):
        calls.append(1)
        return real(*arguments) if len(calls) > 1 else None

    monkeypatch.setattr(idempotency, "answered", blind_at_first)
    assert send(keyed).json() == first.json()
    root = keyed.app.state.settings.artifacts_root
    there = {f"files/{path.parent.name}/{path.name}" for path in (root / "files").rglob("*.jsonl")}
    with keyed.app.state.database.reading() as session:
        kept, going = session.scalars(select(File.path)).all(), session.scalars(select(Removal.path)).all()
    assert len(kept) == 1
    assert there == {*kept, *going}
    assert len(going) == 1


def test_a_part_that_is_sent_again_once_the_upload_is_complete_is_answered_as_it_was(keyed):
    upload_id = keyed.post("/v1/uploads", json=AN_UPLOAD).json()["id"]

    def add():
        return keyed.post(f"/v1/uploads/{upload_id}/parts", files={"data": ("part", b"ab")}, headers={"idempotency-key": "k"})

    part = add().json()
    keyed.post(f"/v1/uploads/{upload_id}/complete", json={"part_ids": [part["id"]]})
    assert add().json() == part


def test_a_look_at_data_is_one_job_for_one_key_and_one_body(keyed, settings):
    def look(**more):
        wanted = {"model": "tiny", "template": "alpaca", **more}
        return keyed.post("/datasets/letters/inspect", json=wanted, headers={"idempotency-key": "k"})

    first = look()
    shutil.rmtree(settings.models_root / "tiny")  # the first answer stands
    assert look().headers["location"] == first.headers["location"]
    assert look(cutoff_len=32).json()["code"] == "idempotency_mismatch"


def test_what_is_written_for_a_reader_takes_no_key(keyed):
    job_id = keyed.submit()
    refused = keyed.post(f"/jobs/{job_id}/checkpoints/3/generate", json={"prompt": "a"}, headers={"idempotency-key": "k"})
    assert [error["pointer"] for error in refused.json()["errors"]] == ["/header/idempotency-key"]


def test_what_puts_or_patches_needs_none(keyed):
    """A data set is a version by its content, and a piece has its place: each is done once however often it comes."""
    subject = a_sending(keyed)
    for _ in range(2):
        versions = keyed.put("/datasets/other", params={"file_name": "a.jsonl"}, content=b'{"instruction": "a", "output": "b"}\n')
    assert versions.status_code == 201
    assert len(keyed.get("/datasets/other/versions").json()["data"]) == 1
    assert keyed.patch(f"/datasets/{subject}", content=b"{", headers={"upload-offset": "0"}).status_code == 204
    assert keyed.patch(f"/datasets/{subject}", content=b"{", headers={"upload-offset": "0"}).status_code == 409


def test_a_message_is_sent_again_once(keyed):
    webhook_id, delivery_id = a_delivery(keyed).split("/")
    address = f"/webhooks/{webhook_id}/deliveries/{delivery_id}/replay"
    first = keyed.post(address, headers={"idempotency-key": "k"})
    with keyed.app.state.database.transaction() as session:
        session.execute(update(WebhookDelivery).values(next_at=None, delivered_at=now()))
    assert keyed.post(address, headers={"idempotency-key": "k"}).json() == first.json()
    with keyed.app.state.database.reading() as session:
        assert session.scalar(select(WebhookDelivery.next_at)) is None
