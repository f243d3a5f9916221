"""PATCH and DELETE of a job, and what it is told to do: pause, resume, retry."""

import pytest

from service.store import leases
from service.store.leases import Wish
from tests.service.api import made


def give_back(database, held):
    with database.transaction() as session:
        leases.give_back(session, held, "Stopped.")


def fail(database, held, reason="bad_row"):
    with database.transaction() as session:
        leases.fail(session, held, reason, "Row 3 has no text.")


def renew(database, held):
    with database.transaction() as session:
        return leases.renew(session, held, 60)


def test_a_job_is_paused_and_resumed_and_the_bell_rings(door, database, bell):
    job_id = door.submit()
    held = made.claim(database)
    asked = door.post(f"/jobs/{job_id}/pause")
    assert (asked.status_code, asked.json()["state"], asked.json()["pause_requested"]) == (200, "running", True)
    assert renew(database, held) is Wish.PAUSE
    give_back(database, held)
    paused = door.post(f"/jobs/{job_id}/pause").json()
    assert (paused["state"], paused["pause_requested"]) == ("paused", False)
    bell.rung.clear()
    resumed = door.post(f"/jobs/{job_id}/resume")
    assert (resumed.status_code, resumed.json()["state"], bell.rung) == (200, "queued", ["default"])
    assert door.get(f"/jobs/{job_id}").headers["etag"].startswith(resumed.headers["etag"].rstrip('"') + ".")


def test_the_same_wish_twice_is_one_and_one_that_cannot_be_says_where_the_job_is(door, database):
    job_id = door.submit()
    made.claim(database)
    first = door.post(f"/jobs/{job_id}/pause")
    again = door.post(f"/jobs/{job_id}/pause")
    assert (again.status_code, again.json(), again.headers["etag"]) == (200, first.json(), first.headers["etag"])
    told = [event["kind"] for event in door.get(f"/jobs/{job_id}/events").json()["data"]]
    assert told.count("pause_requested") == 1
    running = door.post(f"/jobs/{job_id}/retry")
    assert (running.status_code, running.json()["code"], running.json()["state"]) == (409, "state_conflict", "running")
    assert door.post(f"/jobs/{job_id}/cancel").json()["cancel_requested"] is True
    for verb in ("pause", "resume"):
        late = door.post(f"/jobs/{job_id}/{verb}")
        assert (late.status_code, late.json()["state"]) == (409, "running"), verb
        assert late.json()["detail"].endswith("It is being cancelled.")


def test_a_failed_job_is_tried_again(door, database, bell):
    job_id = door.submit()
    fail(database, made.claim(database))
    bell.rung.clear()
    again = door.post(f"/jobs/{job_id}/retry").json()
    assert (again["state"], again["reason"], again["sentence"], again["finished_at"]) == ("queued", None, None, None)
    assert bell.rung == ["default"]
    conflict = door.post(f"/jobs/{job_id}/retry")
    assert (conflict.status_code, conflict.json()["code"], conflict.json()["state"]) == (409, "state_conflict", "queued")


def test_a_job_that_waits_for_its_retry_says_when(door, database):
    job_id = door.submit()
    fail(database, made.claim(database), "out_of_disk")
    job = door.get(f"/jobs/{job_id}").json()
    assert (job["state"], job["retries"]) == ("queued", 1)
    event = door.get(f"/jobs/{job_id}/events").json()["data"][-1]
    assert event["kind"] == "retry_scheduled"
    assert event["data"]["at"][:16] == job["not_before"][:16]


@pytest.mark.parametrize("verb", ["pause", "resume", "retry", "cancel"])
def test_an_action_takes_no_body_or_one_that_is_not_looked_at(door, database, verb):
    for body, kind in ((b"", "application/json"), (b"{}", "application/json"), (b" ", "text/plain"), (b'{"a": 1}', "")):
        job_id = door.submit()
        if verb == "retry":
            door.post(f"/jobs/{job_id}/cancel")
        response = door.post(f"/jobs/{job_id}/{verb}", content=body, headers={"content-type": kind})
        assert response.status_code == 200, response.text
    assert door.post(f"/jobs/{job_id}/{verb}", content=b"{").status_code == 400
    assert door.post(f"/jobs/job-nowhere/{verb}").status_code == 404


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_what_has_ended_is_neither_paused_nor_resumed(door, verb):
    job_id = door.submit()
    door.post(f"/jobs/{job_id}/cancel")
    response = door.post(f"/jobs/{job_id}/{verb}")
    assert (response.status_code, response.json()["state"]) == (409, "cancelled")


# -- PATCH ---------------------------------------------------------------------------------------------------------------


def test_priority_name_and_labels_are_merged_in(door):
    job_id = door.submit(labels={"team": "a", "old": "x"})
    for kind in ("application/json", "application/merge-patch+json"):
        body = b'{"priority": 7, "name": "n", "labels": {"old": null, "new": "y"}}'
        response = door.patch(f"/jobs/{job_id}", content=body, headers={"content-type": kind})
        job = response.json()
        assert (job["priority"], job["name"], job["labels"]) == (7, "n", {"team": "a", "new": "y"})
        assert job["resolved"]["resources"]["priority"] == 7
        assert job["spec"].get("resources", {}).get("priority", 0) == 0, "the document stays as it came"
    assert door.get(f"/jobs/{job_id}").json() | dict.fromkeys(("position", "place_unknown")) == job
    assert [found["id"] for found in door.get("/jobs?label=new:y").json()["data"]] == [job_id]


def test_a_change_that_cannot_be_is_refused_with_its_place(door):
    job_id = door.submit()
    response = door.patch(f"/jobs/{job_id}", json={"priority": 1000, "state": "paused"})
    assert response.status_code == 422
    assert sorted(error["pointer"] for error in response.json()["errors"]) == ["/priority", "/state"]
    assert door.patch(f"/jobs/{job_id}", json={}).status_code == 422
    assert door.patch(f"/jobs/{job_id}", content=b"{", headers={"content-type": "application/json"}).status_code == 400
    assert door.patch(f"/jobs/{job_id}", content=b"x", headers={"content-type": "text/plain"}).status_code == 415
    assert door.patch("/jobs/job-nowhere", json={"priority": 1}).status_code == 404


def test_a_change_is_made_only_of_the_job_that_was_looked_at(door):
    job_id = door.submit()
    etag = door.get(f"/jobs/{job_id}").headers["etag"]
    first = door.patch(f"/jobs/{job_id}", json={"priority": 1}, headers={"if-match": f'"x", {etag}'})
    assert first.status_code == 200
    for given in (etag, f"W/{first.headers['etag']}", '"x"', ""):
        late = door.patch(f"/jobs/{job_id}", json={"priority": 2}, headers={"if-match": given})
        assert (late.status_code, late.json()["code"]) == (412, "precondition_failed"), given
        assert late.headers["etag"] == first.headers["etag"]
    assert door.get(f"/jobs/{job_id}").json()["priority"] == 1
    for given in (first.headers["etag"], "*"):
        assert door.patch(f"/jobs/{job_id}", json={"name": given}, headers={"if-match": given}).status_code == 200


def test_a_finished_job_has_no_other_priority(door, database):
    job_id = door.submit()
    made.succeed(database, made.claim(database))
    response = door.patch(f"/jobs/{job_id}", json={"priority": 5})
    assert (response.status_code, response.json()["state"]) == (409, "succeeded")
    assert door.patch(f"/jobs/{job_id}", json={"labels": {"good": "yes"}}).json()["labels"] == {"good": "yes"}


# -- DELETE --------------------------------------------------------------------------------------------------------------


def test_a_job_that_has_ended_is_forgotten(door, database):
    job_id = door.submit()
    held = made.claim(database)
    refused = door.delete(f"/jobs/{job_id}")
    assert (refused.status_code, refused.json()["state"]) == (409, "running")
    made.succeed(database, held)
    assert door.get(f"/jobs/{job_id}").status_code == 200
    gone = door.delete(f"/jobs/{job_id}")
    assert (gone.status_code, gone.content) == (204, b"")
    for path in ("", "/events", "/checkpoints", "/metrics", "/artifacts", "/logs"):
        assert door.get(f"/jobs/{job_id}{path}").status_code == 404
    assert door.delete(f"/jobs/{job_id}").status_code == 404
    assert door.get("/jobs").json()["data"] == []


def test_a_checkpoint_that_was_given_up_is_listed_without_files(door, database):
    job_id = door.submit(training={"save_total_limit": 1})
    held = made.claim(database)
    made.checkpoint(database, held, "sft", 10, {"w": b"1"})
    made.checkpoint(database, held, "sft", 20, {"w": b"2"})
    before = door.get(f"/jobs/{job_id}/checkpoints").json()["data"]
    assert [one["removed_at"] for one in before] == [None, None]
    from service.store import retention

    with made.behind_the_fence(database, held) as session:
        retention.thin(session, held, "sft", 1, None)
    first, second = door.get(f"/jobs/{job_id}/checkpoints").json()["data"]
    assert (first["removed_at"][-1], first["files"], second["removed_at"]) == ("Z", [], None)
    assert [artifact["name"] for artifact in door.get(f"/jobs/{job_id}/artifacts").json()["data"]] == ["sft/checkpoint-20/w"]
    assert door.get(f"/jobs/{job_id}/artifacts/sft/checkpoint-10/w").status_code == 404
