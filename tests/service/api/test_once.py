"""Idempotency-Key: however often a request comes, there is one job."""

import shutil

from sqlalchemy import update

from service.store import idempotency
from service.store.clock import now
from service.store.errors import IdempotencyBusy
from service.store.tables import IdempotencyKey
from tests.service.store.threads import at_once
from tests.specs.job_documents import a_job

KEY = {"idempotency-key": "the-key"}


def number_of_jobs(door):
    return len(door.get("/jobs?limit=200").json()["data"])


def test_the_same_key_and_body_are_answered_with_the_first_job(door, bell):
    first = door.post("/jobs", json=a_job(), headers=KEY)
    again = door.post("/jobs", json=a_job(), headers=KEY)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.headers["location"] == first.headers["location"]
    assert again.json() == first.json()
    assert number_of_jobs(door) == 1
    assert bell.rung == ["default"]


def test_the_answer_is_the_job_as_it_stands_by_now(door):
    job_id = door.post("/jobs", json=a_job(), headers=KEY).json()["id"]
    door.post(f"/jobs/{job_id}/cancel")
    assert door.post("/jobs", json=a_job(), headers=KEY).json()["state"] == "cancelled"


def test_spaces_and_the_order_of_keys_make_no_other_body(plain_door):
    one = b'{"model": {"model_name_or_path": "tiny"}, "data": {"template": "chatml", "dataset": "letters"}}'
    other = b'{"data":{"dataset":"letters","template":"chatml"},"model":{"model_name_or_path":"tiny"}}'
    headers = KEY | {"content-type": "application/json"}
    locations = {plain_door.post("/jobs", content=body, headers=headers).headers["location"] for body in (one, other)}
    assert len(locations) == 1


def test_the_first_answer_stands_even_if_the_model_has_gone(plain_door, settings):
    first = plain_door.post("/jobs", json=a_job(), headers=KEY)
    shutil.rmtree(settings.models_root / "tiny")
    assert plain_door.post("/jobs", json=a_job(), headers=KEY).headers["location"] == first.headers["location"]


def test_another_body_is_refused(door):
    door.post("/jobs", json=a_job(), headers=KEY)
    response = door.post("/jobs", json=a_job(name="other"), headers=KEY)
    assert (response.status_code, response.json()["code"]) == (422, "idempotency_mismatch")
    assert number_of_jobs(door) == 1


def test_another_key_makes_another_job(door):
    door.post("/jobs", json=a_job(), headers=KEY)
    door.post("/jobs", json=a_job(), headers={"idempotency-key": "another"})
    door.post("/jobs", json=a_job())
    assert number_of_jobs(door) == 3


def test_a_refused_job_uses_no_key_up(door):
    assert door.post("/jobs", json=a_job(data={"dataset": "numbers"}), headers=KEY).status_code == 422
    assert door.post("/jobs", json=a_job(), headers=KEY).status_code == 201


def test_a_dry_run_uses_no_key_up(door):
    assert door.post("/jobs?dry_run=true", json=a_job(name="other"), headers=KEY).status_code == 200
    assert door.post("/jobs", json=a_job(), headers=KEY).status_code == 201


def test_a_key_is_free_again_after_a_day(door, database):
    first = door.post("/jobs", json=a_job(), headers=KEY)
    with database.transaction() as session:
        session.execute(update(IdempotencyKey).values(created_at=now() - idempotency.DAY_SECONDS - 1))
    assert door.post("/jobs", json=a_job(), headers=KEY).headers["location"] != first.headers["location"]


def test_a_key_has_a_length(plain_door):
    for key in ("", "k" * 256):
        response = plain_door.post("/jobs", json=a_job(), headers={"idempotency-key": key})
        assert [error["pointer"] for error in response.json()["errors"]] == ["/header/idempotency-key"]


def test_requests_at_the_same_moment_make_one_job(door):
    answers = at_once(*[lambda: door.post("/jobs", json=a_job(), headers=KEY)] * 8)
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.headers["location"] for answer in answers}) == 1
    assert number_of_jobs(door) == 1


def test_a_race_that_is_lost_finds_the_winners_job(door, monkeypatch):
    """As PostgreSQL has it: the key is not there yet when looked for, and is when it is to be written."""
    first = door.post("/jobs", json=a_job(), headers=KEY)
    real, calls = idempotency.earlier, []

    def blind_at_first(*arguments):
        calls.append(1)
        return real(*arguments) if len(calls) > 2 else None

    monkeypatch.setattr(idempotency, "earlier", blind_at_first)
    again = door.post("/jobs", json=a_job(), headers=KEY)
    assert (again.status_code, again.headers["location"]) == (201, first.headers["location"])
    monkeypatch.undo()
    assert number_of_jobs(door) == 1


def test_a_key_that_stays_busy_is_a_conflict(plain_door, monkeypatch, bell):
    def busy(*arguments):
        raise IdempotencyBusy("A request with this Idempotency-Key is being answered; ask again in a moment.")

    monkeypatch.setattr(idempotency, "remember", busy)
    response = plain_door.post("/jobs", json=a_job(), headers=KEY)
    assert (response.status_code, response.json()["code"]) == (409, "idempotency_busy")
    assert response.headers["retry-after"] == "1"
    assert number_of_jobs(plain_door) == 0
    assert bell.rung == []
