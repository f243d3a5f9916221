"""The audit log: every change leaves one row of who made it, in the same commit; what is refused leaves none."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import func, select

from service.api.scopes import SCOPES
from service.app import KEYED, create_app
from service.ports import free_port
from service.store import audit
from service.store.session import Database
from service.store.tables import AuditEntry, Job
from tests.service.api import made
from tests.service.api.door import Door
from tests.service.api.test_keys import LOOKING, a_key
from tests.service.store import staffed
from tests.specs.job_documents import a_job

ROOT = Path(__file__).parents[3]


def entries(door):
    with door.app.state.database.reading() as session:
        return list(audit.page(session, 100)[0])


def ended(door):
    job_id = door.submit()
    door.post(f"/jobs/{job_id}/cancel")
    return job_id


def paused(door):
    job_id = door.submit()
    door.post(f"/jobs/{job_id}/pause")
    return job_id


def a_worker(door):
    staffed.enter(door.app.state.database)
    return "one"


def a_file(door):
    return _upload_file(door, "").json()["id"]


def _upload_file(door, subject):
    row = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}'
    return door.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": ("chat.jsonl", row)})


def a_fine_tuning_job(door):
    return _fine_tune(door, a_file(door)).json()["id"]


def a_paused_fine_tuning_job(door):
    job_id = a_fine_tuning_job(door)
    door.post(f"/v1/fine_tuning/jobs/{job_id}/pause")
    return job_id


def _fine_tune(door, file_id):
    return door.post("/v1/fine_tuning/jobs", json={"model": "tiny", "training_file": file_id})


def an_upload(door):
    return _open_upload(door, "").json()["id"]


def _open_upload(door, subject):
    wanted = {"purpose": "assistants", "filename": "a.txt", "mime_type": "text/plain", "bytes": 2}
    return door.post("/v1/uploads", json=wanted)


def an_upload_with_a_part(door):
    upload_id = an_upload(door)
    return f"{upload_id} {_add_part(door, upload_id).json()['id']}"


def _add_part(door, upload_id):
    return door.post(f"/v1/uploads/{upload_id}/parts", files={"data": ("part", b"ab")})


def _complete(door, subject):
    upload_id, part_id = subject.split()
    return door.post(f"/v1/uploads/{upload_id}/complete", json={"part_ids": [part_id]})


def a_model(door):
    job_id = door.submit()
    held = made.claim(door.app.state.database)
    made.checkpoint(door.app.state.database, held, "sft", 3, {"model.safetensors": b"weights"})
    made.finish_step(door.app.state.database, held, "sft", f"{job_id}/1/sft/checkpoint-3")
    made.succeed(door.app.state.database, held)
    return next(one["id"] for one in door.get("/v1/models").json()["data"] if one["id"].startswith("ft:"))


ROW = b'{"instruction": "a", "output": "b"}\n'


def _put(door, subject):
    return door.put("/datasets/mine", params={"file_name": "mine.jsonl"}, content=ROW)


def a_dataset(door):
    version = _put(door, "").json()
    return f"mine@{version['version']}"


def _begin_sending(door, subject):
    return door.post("/datasets/mine/uploads", json={"file_name": "mine.jsonl", "size": len(ROW)})


def a_sending(door):
    return f"mine/uploads/{_begin_sending(door, '').json()['id']}"


def _continue_sending(door, subject):
    return door.patch(f"/datasets/{subject}", content=ROW, headers={"upload-offset": "0"})


def a_webhook(door):
    return _hook(door, "").json()["id"]


def _hook(door, subject):
    state = door.app.state
    state.settings = state.settings.model_copy(update={"secret_key": SecretStr("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")})
    return door.post("/webhooks", json={"url": "https://hooks.example.com/a"})


def a_delivery(door):
    webhook_id = a_webhook(door)
    return f"{webhook_id}/{door.post(f'/webhooks/{webhook_id}/test').json()['id']}"


def _replay(door, subject):
    webhook_id, delivery_id = subject.split("/")
    return door.post(f"/webhooks/{webhook_id}/deliveries/{delivery_id}/replay")


def _nothing(door):
    return ""


def request(method, path, document=None):
    return lambda door, subject: door.request(method, path.format(subject), json=document)


# By operation: what is there beforehand, and the request.
CHANGES = {
    "create_job": (_nothing, request("POST", "/jobs", a_job())),
    "change_job": (Door.submit, request("PATCH", "/jobs/{}", {"priority": 3})),
    "delete_job": (ended, request("DELETE", "/jobs/{}")),
    "cancel_job": (Door.submit, request("POST", "/jobs/{}/cancel")),
    "pause_job": (Door.submit, request("POST", "/jobs/{}/pause")),
    "resume_job": (paused, request("POST", "/jobs/{}/resume")),
    "retry_job": (ended, request("POST", "/jobs/{}/retry")),
    "inspect_dataset": (
        lambda door: "letters",
        request("POST", "/datasets/{}/inspect", {"model": "tiny", "template": "alpaca"}),
    ),
    "drain_worker": (a_worker, request("POST", "/workers/{}/drain")),
    "undrain_worker": (a_worker, request("POST", "/workers/{}/undrain")),
    "create_key": (_nothing, request("POST", "/keys", {"owner": "bob"})),
    "revoke_key": (lambda door: a_key(door)[0], request("DELETE", "/keys/{}")),
    "change_owner": (lambda door: "bob", request("PATCH", "/owners/{}", {"queued": 3})),
    "put_dataset": (_nothing, _put),
    "delete_dataset": (a_dataset, request("DELETE", "/datasets/{}")),
    "create_sending": (_nothing, _begin_sending),
    "continue_sending": (a_sending, _continue_sending),
    "delete_sending": (a_sending, request("DELETE", "/datasets/{}")),
    "create_webhook": (_nothing, _hook),
    "change_webhook": (a_webhook, request("PATCH", "/webhooks/{}", {"description": "mine"})),
    "delete_webhook": (a_webhook, request("DELETE", "/webhooks/{}")),
    "rotate_webhook": (a_webhook, request("POST", "/webhooks/{}/rotate")),
    "test_webhook": (a_webhook, request("POST", "/webhooks/{}/test")),
    "replay_delivery": (a_delivery, _replay),
    "create_file": (_nothing, _upload_file),
    "delete_file": (a_file, request("DELETE", "/v1/files/{}")),
    "create_upload": (_nothing, _open_upload),
    "add_upload_part": (an_upload, _add_part),
    "complete_upload": (an_upload_with_a_part, _complete),
    "cancel_upload": (an_upload, request("POST", "/v1/uploads/{}/cancel")),
    "create_fine_tuning_job": (a_file, _fine_tune),
    "cancel_fine_tuning_job": (a_fine_tuning_job, request("POST", "/v1/fine_tuning/jobs/{}/cancel")),
    "pause_fine_tuning_job": (a_fine_tuning_job, request("POST", "/v1/fine_tuning/jobs/{}/pause")),
    "resume_fine_tuning_job": (a_paused_fine_tuning_job, request("POST", "/v1/fine_tuning/jobs/{}/resume")),
    "delete_openai_model": (a_model, request("DELETE", "/v1/models/{}")),
}

# What is made has its id in the answer, not in the address.
MADE = {
    **dict.fromkeys(
        (
            "create_job",
            "inspect_dataset",
            "create_file",
            "create_upload",
            "create_fine_tuning_job",
            "create_key",
            "create_webhook",
        ),
        lambda made: made["id"],
    ),
    "create_sending": lambda made: f"mine/{made['id']}",
    "put_dataset": lambda made: f"mine@{made['version']}",
    "continue_sending": lambda made: f"mine@{made['version']}",
}


# It takes a worker: tests/service/api/test_generating.py.
ELSEWHERE = {"generate_text"}


def test_every_operation_that_changes_something_is_among_these():
    changing = {route.name for router in KEYED for route in router.routes if not route.methods & {"GET", "HEAD"}}
    assert changing - LOOKING - ELSEWHERE == set(CHANGES)
    assert changing <= set(SCOPES)


@pytest.mark.parametrize("action", CHANGES)
def test_a_change_leaves_one_row_of_who_made_it_and_from_where(plain_door, action):
    key_id, key = a_key(plain_door, "ann", ["admin"])
    plain_door.headers = key
    prepare, change = CHANGES[action]
    subject = prepare(plain_door)
    before = len(entries(plain_door))
    plain_door.headers["x-request-id"] = "req-7"
    response = change(plain_door, subject)
    assert response.is_success, response.text
    (entry, *_), actions = entries(plain_door), [entry.action for entry in entries(plain_door)]
    assert actions[: len(actions) - before].count(action) == 1
    assert (entry.owner, entry.key, entry.action) == ("ann", key_id, action)
    assert (entry.client, entry.request_id) == ("testclient", "req-7")
    expected = MADE[action](response.json()) if action in MADE else subject.split()[0].replace("/uploads/", "/")
    assert entry.subject.removeprefix("job-") == expected.removeprefix("ftjob-").removeprefix("job-")


def test_a_job_with_an_idempotency_key_leaves_one_row_however_often_it_is_sent(plain_door):
    for _ in range(2):
        assert plain_door.post("/jobs", json=a_job(), headers={"idempotency-key": "k"}).status_code == 201
    assert [entry.action for entry in entries(plain_door)] == ["create_job"]


def test_what_is_refused_or_only_looked_at_leaves_none(plain_door):
    plain_door.post("/jobs", json={})
    plain_door.post("/jobs?dry_run=true", json=a_job())
    plain_door.post("/jobs/job-1/cancel")
    plain_door.get("/jobs")
    assert entries(plain_door) == []


@pytest.mark.parametrize("action", ["create_job", "cancel_job", "create_key"])
def test_a_change_whose_row_cannot_be_written_is_not_made(plain_door, monkeypatch, action):
    prepare, change = CHANGES[action]
    subject = prepare(plain_door)

    def state():
        with plain_door.app.state.database.reading() as session:
            return sorted(map(repr, session.execute(select(Job.id, Job.state, Job.version)))), len(entries(plain_door))

    before = state()
    monkeypatch.setattr(audit, "note", lambda *_: 1 / 0)
    assert change(plain_door, subject).status_code == 500
    assert state() == before


def test_nothing_in_the_api_writes_past_the_log():
    """`access` notes when a key was used; `once` and `generating` make a job with its row; `files` gives up bytes without one;
    `refused` writes the log's other half."""
    writing = {
        file.name for file in (ROOT / "service" / "api").rglob("*.py") if "database.transaction()" in file.read_text("utf-8")
    }
    assert writing == {"access.py", "acting.py", "files.py", "generating.py", "once.py", "refused.py"}


def test_the_log_is_read_page_by_page_by_an_admin_alone(plain_door):
    _, ann = a_key(plain_door, "ann")
    _, root = a_key(plain_door, "root", ["admin"])
    ids = [_submit(plain_door, ann) for _ in range(3)]
    page = plain_door.get("/audit?limit=2&owner=ann", headers=root).json()
    assert ([entry["subject"] for entry in page["data"]], page["has_more"]) == (ids[:0:-1], True)
    rest = plain_door.get(f"/audit?limit=2&owner=ann&after={page['next_after']}", headers=root).json()
    assert ([entry["subject"] for entry in rest["data"]], rest["has_more"]) == (ids[:1], False)
    assert plain_door.get("/audit", headers=ann).status_code == 403


def _submit(door, key):
    response = door.post("/jobs", json=a_job(), headers=key)
    assert response.status_code == 201
    return response.json()["id"]


@pytest.mark.parametrize(
    ("proxies", "says", "client"),
    [
        ("", "203.0.113.9", "testclient"),
        ("192.0.2.1", "203.0.113.9", "testclient"),
        ("testclient", "203.0.113.9", "203.0.113.9"),
        ("testclient, 10.0.0.0/8", "198.51.100.7, 203.0.113.9, 10.1.2.3", "203.0.113.9"),
    ],
)
def test_a_proxy_is_believed_where_the_operator_trusts_it(settings, plain_door, bell, proxies, says, client):
    app = create_app(settings.model_copy(update={"trusted_proxies": proxies}), plain_door.app.state.database, bell)
    with Door(app) as door:
        assert door.post("/jobs", json=a_job(), headers={"x-forwarded-for": says}).status_code == 201
        assert entries(door)[0].client == client


def test_an_api_that_is_killed_leaves_no_change_without_its_row(settings, plain_door):
    """And no row without its change."""
    url = plain_door.app.state.database.url
    plain_door.app.state.database.close()
    port = free_port()
    places = {name: str(getattr(settings, name)) for name in ("home", "models_root", "datasets_root", "artifacts_root")}
    environment = {**os.environ, **{f"FINEBITS_{name.upper()}": value for name, value in places.items()}}
    command = [sys.executable, "-m", "uvicorn", "--factory", "service.app:from_environment", "--port", str(port)]
    process = subprocess.Popen(
        command, cwd=ROOT, env={**environment, "FINEBITS_DATABASE_URL": url, "FINEBITS_BROKER_URL": "redis://127.0.0.1:1"},
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    answered = []

    def ask():
        while process.poll() is None:
            connection = HTTPConnection("127.0.0.1", port, timeout=60)
            with closing(connection), suppress(OSError, HTTPException):
                while True:
                    connection.request("POST", "/jobs", json.dumps(a_job()), {"content-type": "application/json"})
                    job = json.load(connection.getresponse())
                    connection.request("POST", f"/jobs/{job['id']}/cancel")
                    answered.append(json.load(connection.getresponse())["id"])
            time.sleep(0.05)

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    try:
        deadline = time.monotonic() + 180
        while len(answered) < 20:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        for client in clients:
            client.join()
    database = Database(url)
    with database.reading() as session:
        actions = dict(session.execute(select(AuditEntry.action, func.count()).group_by(AuditEntry.action)).all())
        states = dict(session.execute(select(Job.state, func.count()).group_by(Job.state)).all())
        subjects = set(session.scalars(select(AuditEntry.subject).where(AuditEntry.action == "create_job")))
        assert subjects == set(session.scalars(select(Job.id)))
    database.close()
    assert actions == {"create_job": sum(states.values()), "cancel_job": states["cancelled"]}
    assert states["cancelled"] >= len(answered)
