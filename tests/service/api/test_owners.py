"""Owners over HTTP: their quotas, what counts against them, and the answer where they have enough."""

import pytest

from tests.service.api.test_keys import a_key
from tests.specs.job_documents import a_job


@pytest.fixture
def root(plain_door):
    return a_key(plain_door, "root", ["admin"])[1]


def test_one_job_too_many_is_answered_with_when_to_ask_again(plain_door, root):
    _, ann = a_key(plain_door)
    assert plain_door.patch("/owners/ann", json={"queued": 1}, headers=root).json()["quota"]["queued"] == 1
    assert plain_door.post("/jobs", json=a_job(), headers=ann).status_code == 201
    for headers in (ann, {**ann, "idempotency-key": "k"}):
        refused = plain_door.post("/jobs", json=a_job(), headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (429, "quota_reached")
        assert int(refused.headers["retry-after"]) > 0
    inspection = {"model": "tiny", "template": "alpaca"}
    assert plain_door.post("/datasets/letters/inspect", json=inspection, headers=ann).status_code == 429
    assert plain_door.post("/jobs", json=a_job(), headers=root).status_code == 201


def test_a_retry_counts_as_a_job_that_comes(plain_door, root):
    _, ann = a_key(plain_door)
    plain_door.headers = ann
    job_id = plain_door.submit()
    plain_door.post(f"/jobs/{job_id}/cancel")
    plain_door.patch("/owners/ann", json={"queued": 1}, headers=root)
    other = plain_door.submit()
    assert plain_door.post(f"/jobs/{job_id}/retry", headers=root).status_code == 429
    plain_door.post(f"/jobs/{other}/cancel")
    assert plain_door.post(f"/jobs/{job_id}/retry").status_code == 200


def test_what_is_not_named_of_a_quota_stays_and_what_is_null_is_the_settings(plain_door, root):
    plain_door.patch("/owners/ann", json={"queued": 5, "gpu_hours": 2.5}, headers=root)
    changed = plain_door.patch("/owners/ann", json={"running": 2, "queued": None}, headers=root).json()
    assert changed["quota"] == {"queued": None, "running": 2, "gpu_hours": 2.5}
    assert changed["usage"] == {"queued": 0, "running": 0, "gpu_hours": 0, "gpu_hours_held": 0}
    assert plain_door.get("/owners/ann", headers=root).json() == changed
    assert [one["owner"] for one in plain_door.get("/owners", headers=root).json()["data"]] == ["ann"]


def test_an_owner_sees_its_own_quota_and_no_other(plain_door):
    _, ann = a_key(plain_door)
    assert plain_door.get("/owners/ann", headers=ann).status_code == 200
    assert plain_door.get("/owners/bob", headers=ann).status_code == 404
    assert plain_door.patch("/owners/ann", json={"queued": 5}, headers=ann).status_code == 403


@pytest.mark.parametrize(
    "wrong", [{"queued": -1}, {"running": 1.5}, {"gpu_hours": "many"}, {"gpu_hours": False}, {"queued": "3"}, {"cpus": 1}]
)
def test_a_quota_that_cannot_be_is_refused(plain_door, root, wrong):
    assert plain_door.patch("/owners/ann", json=wrong, headers=root).status_code == 422
    assert plain_door.patch("/owners/*", json={}, headers=root).status_code == 422
