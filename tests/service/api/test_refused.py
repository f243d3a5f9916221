"""Who was refused what: noted of every request that may not, and of every change that was not made."""

import logging

import pytest
from sqlalchemy import update

from service.api import refused
from service.api.refused import RefusedRequests
from service.app import create_app
from service.store import keys, refusals
from service.store.clock import now
from service.store.refusals import Refused, Times
from service.store.tables import ApiKey
from tests.service.api.door import Bell, Door
from tests.service.api.test_keys import a_key
from tests.specs.job_documents import a_job


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(refused, "WRITTEN_EVERY_SECONDS", 0.0)


def entries(door):
    """Those there are, by the operation and the code; the thread that writes them is waited for."""
    door.app.state.refused.close()
    with door.app.state.database.reading() as session:
        return {(entry.action, entry.code): entry for entry in refusals.page(session, 100)[0]}


def test_whoever_has_no_right_is_noted_with_what_was_asked_for(plain_door):
    reader_id, reader = a_key(plain_door, "ann", ["read"])
    revoked_id, revoked = a_key(plain_door, "bob", ["read"])
    with plain_door.app.state.database.transaction() as session:
        keys.revoke(session, revoked_id)
    plain_door.get("/jobs")
    plain_door.get("/jobs", headers={"authorization": "Bearer guess"})
    plain_door.get("/jobs/job-7", headers={**revoked, "x-request-id": "req-7"})
    plain_door.post("/jobs", json=a_job(), headers=reader)
    plain_door.get("/audit", headers=reader)
    plain_door.get("/jobs", headers=reader)
    found = entries(plain_door)
    assert set(found) == {
        ("list_jobs", "unauthorized"),
        ("get_job", "unauthorized"),
        ("create_job", "forbidden"),
        ("list_audit", "forbidden"),
    }
    nobody = found["list_jobs", "unauthorized"]
    assert (nobody.owner, nobody.key, nobody.times, nobody.status, nobody.client) == ("", "", 2, 401, "testclient")
    his = found["get_job", "unauthorized"]
    assert (his.owner, his.key, his.subject, his.request_id) == ("bob", revoked_id, "job-7", "req-7")
    hers = found["create_job", "forbidden"]
    assert (hers.owner, hers.key, hers.status) == ("ann", reader_id, 403)


def test_a_change_that_was_not_made_is_noted_and_a_look_in_vain_is_not(plain_door):
    plain_door.post("/jobs", json={})
    plain_door.post("/jobs", content=b"{", headers={"content-type": "application/json"})
    for _ in range(3):
        plain_door.post("/jobs/job-1/cancel")
    job_id = plain_door.submit()
    plain_door.post(f"/jobs/{job_id}/retry")
    plain_door.get("/jobs/job-1")
    plain_door.get("/jobs?limit=0")
    plain_door.post("/nowhere")
    plain_door.delete("/jobs")
    found = entries(plain_door)
    assert {place: entry.times for place, entry in found.items()} == {
        ("create_job", "invalid_job"): 1,
        ("create_job", "malformed_body"): 1,
        ("cancel_job", "not_found"): 3,
        ("retry_job", "state_conflict"): 1,
    }
    assert found["cancel_job", "not_found"].subject == "job-1"


def test_they_are_read_page_by_page_by_an_admin_alone(plain_door):
    _, root = a_key(plain_door, "root", ["admin"])
    _, ann = a_key(plain_door, "ann")
    plain_door.post("/jobs/job-1/cancel", headers=ann)
    plain_door.post("/jobs/job-1/pause", headers=ann)
    assert plain_door.get("/audit/refusals", headers=ann).status_code == 403
    entries(plain_door)
    first = plain_door.get("/audit/refusals?limit=2", headers=root).json()
    rest = plain_door.get(f"/audit/refusals?limit=2&after={first['next_after']}", headers=root).json()
    told = [(one["owner"], one["action"], one["status"], one["times"]) for one in (*first["data"], *rest["data"])]
    assert sorted(told) == [("ann", "cancel_job", 404, 1), ("ann", "list_refusals", 403, 1), ("ann", "pause_job", 404, 1)]
    assert (first["has_more"], rest["has_more"], rest["next_after"]) == (True, False, None)
    assert plain_door.get("/audit/refusals?owner=bob", headers=root).json()["data"] == []


def test_the_service_that_stops_writes_what_it_had_noted(settings, plain_door, monkeypatch):
    monkeypatch.setattr(refused, "WRITTEN_EVERY_SECONDS", 3600.0)
    database = plain_door.app.state.database
    with Door(create_app(settings, database, Bell())) as door:
        door.post("/jobs/job-1/cancel")
    with database.reading() as session:
        assert [entry.action for entry in refusals.page(session, 10)[0]] == ["cancel_job"]


SCOPE = {"method": "POST", "route": type("Route", (), {"name": "create_key"}), "client": ("203.0.113.1", 1), "state": {}}


def test_what_cannot_be_written_waits_and_is_written_once(plain_door, monkeypatch, caplog):
    monkeypatch.setattr(RefusedRequests, "_write", lambda requests: None)
    requests = RefusedRequests(plain_door.app.state.database)
    requests.note(SCOPE, 401, "unauthorized")
    with plain_door.app.state.database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE refusals RENAME TO elsewhere")
    with caplog.at_level(logging.WARNING):
        assert not requests.flush()
    assert "cannot be written now" in caplog.text
    requests.note(SCOPE, 401, "unauthorized")
    with plain_door.app.state.database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO refusals")
    assert requests.flush()
    with plain_door.app.state.database.reading() as session:
        assert [entry.times for entry in refusals.page(session, 10)[0]] == [2]


def test_a_flood_from_many_addresses_is_held_in_little_memory(plain_door, monkeypatch):
    monkeypatch.setattr(refused, "MOST_APART", 10)
    monkeypatch.setattr(RefusedRequests, "_write", lambda requests: None)
    requests = RefusedRequests(plain_door.app.state.database)
    for number in range(1000):
        requests.note({**SCOPE, "client": (f"2001:db8::{number:x}", 1)}, 401, "unauthorized")
    assert len(requests._waiting) == 11
    assert requests._waiting[Refused("", "", "create_key", "", 401, "unauthorized")] == Times(990, "", "")


def test_a_key_that_has_expired_is_told_by_its_id(plain_door):
    key_id, key = a_key(plain_door, "ann", ["read"])
    with plain_door.app.state.database.transaction() as session:
        session.execute(update(ApiKey).values(expires_at=now() - 1))
    assert plain_door.get("/jobs", headers=key).status_code == 401
    assert entries(plain_door)["list_jobs", "unauthorized"].key == key_id
