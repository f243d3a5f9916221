"""GET /jobs and GET /jobs/{id}, and cancelling."""

import pytest

from service.store import leases
from tests.service.api import made


def ids(response):
    assert response.status_code == 200, response.text
    return [job["id"] for job in response.json()["data"]]


# -- one job -------------------------------------------------------------------------------------------------------------


def test_a_job_that_is_not_there_is_not_found(door):
    response = door.get("/jobs/job-nowhere")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


def test_a_null_character_reaches_no_database(door):
    for path in ("/jobs/%00", "/jobs/a%00b/events", "/jobs/x/artifacts/a%00", "/jobs?label=a:%00", "/jobs?after=%00"):
        assert door.get(path).status_code == 422, path
    assert [one["pointer"] for one in door.get("/jobs?state=queued&label=a:%00").json()["errors"]] == ["/query/label"]
    assert [one["pointer"] for one in door.get("/jobs/%00?limit=1").json()["errors"]] == ["/path"]


def test_a_strange_address_is_only_not_found(door):
    for path in ("/jobs/%ff", "/jobs/%ed%a0%80", "/jobs/" + "x" * 5000, "/jobs/..%2f..%2fetc"):
        assert door.get(path).status_code == 404, path


def test_an_etag_spares_what_is_known(door, database):
    job_id = door.submit()
    etag = door.get(f"/jobs/{job_id}").headers["etag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = door.get(f"/jobs/{job_id}", headers={"if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert door.get(f"/jobs/{job_id}", headers={"if-none-match": '"other"'}).status_code == 200


def test_an_etag_changes_with_everything_that_is_shown(door, database):
    job_id = door.submit()
    etags = [door.get(f"/jobs/{job_id}").headers["etag"]]

    def changed():
        etags.append(door.get(f"/jobs/{job_id}").headers["etag"])
        return len(set(etags)) == len(etags)

    held = made.claim(database)
    assert changed()
    with database.transaction() as session:
        leases.renew(session, held, 60, {"step": "sft"})
    assert changed()
    made.finish_step(database, held, "sft")
    assert changed()
    door.post(f"/jobs/{job_id}/cancel")
    assert changed()


def test_a_running_job_shows_its_progress_and_its_finished_steps(door, database):
    job_id = door.submit(steps=[{"name": "one"}, {"name": "two"}])
    held = made.claim(database)
    made.finish_step(database, held, "one")
    job = door.get(f"/jobs/{job_id}").json()
    assert (job["state"], job["attempt"], job["progress"]) == ("running", 1, {"step": "one"})
    assert job["started_at"].endswith("Z")
    one, two = job["steps"]
    assert one["finished_at"].endswith("Z")
    assert one["output"] == f"{job_id}/1/one"
    assert (two["name"], two["finished_at"], two["output"]) == ("two", None, None)
    assert door.get("/jobs").json()["data"][0]["steps"] == [one, two]


def test_a_failed_job_says_why_and_where(door, database):
    job_id = door.submit()
    held = made.claim(database)
    with database.transaction() as session:
        leases.fail(session, held, "bad_row", "letters.json, row 3: no output.", {"row": 3})
    job = door.get(f"/jobs/{job_id}").json()
    assert (job["state"], job["reason"], job["sentence"], job["details"]) == (
        "failed",
        "bad_row",
        "letters.json, row 3: no output.",
        {"row": 3},
    )


# -- lists ---------------------------------------------------------------------------------------------------------------


def test_pages_are_stable_while_jobs_arrive(door):
    early = [door.submit() for _ in range(5)]
    seen, after = [], ""
    while after is not None:
        page = door.get("/jobs", params={"limit": 2, **({"after": after} if after else {})}).json()
        seen += [job["id"] for job in page["data"]]
        after = page["next_after"]
        assert page["has_more"] is (after is not None)
        door.submit()
    assert seen == early[::-1]


def test_lists_are_filtered_by_state_and_labels(door, database):
    blue = door.submit(labels={"team": "blue", "run.v1": "a:b=c"})
    red = door.submit(labels={"team": "red"})
    made.claim(database)
    assert ids(door.get("/jobs?label=team:blue")) == [blue]
    assert ids(door.get("/jobs?label=team%3Dred")) == [red]
    assert ids(door.get("/jobs?label=team:blue&label=run.v1:a:b%3Dc")) == [blue]
    assert ids(door.get("/jobs?label=team:blue&label=run.v1:x")) == []
    assert ids(door.get("/jobs?state=running")) == [blue]
    assert ids(door.get("/jobs?state=queued&label=team:red")) == [red]


BAD_QUERIES = [
    ("limit=-1", "/query/limit"),
    ("limit=0", "/query/limit"),
    ("limit=201", "/query/limit"),
    ("limit=many", "/query/limit"),
    ("limit=" + "9" * 50, "/query/limit"),
    ("after=job-nowhere", "/query/after"),
    ("after=%27%20OR%201", "/query/after"),
    ("state=sleeping", "/query/state"),
    ("label=team", "/query/label"),
    ('label=a"b:c', "/query/label"),
]


def test_a_bad_query_is_refused_at_its_place(door):
    for query, pointer in BAD_QUERIES:
        response = door.get(f"/jobs?{query}")
        assert response.status_code == 422, query
        assert [error["pointer"] for error in response.json()["errors"]] == [pointer]


# -- cancelling ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"content": b"", "headers": {"content-type": "application/json"}},
        {"json": {}},
        {"json": {"why": "no longer needed"}},
        {"content": b"{}", "headers": {"content-type": "text/plain"}},
    ],
)
def test_a_job_that_waits_is_cancelled_with_any_or_no_body(plain_door, body):
    job_id = plain_door.submit()
    response = plain_door.post(f"/jobs/{job_id}/cancel", **body)
    assert (response.status_code, response.json()["state"]) == (200, "cancelled")


def test_a_job_that_runs_is_asked_to_stop(door, database):
    job_id = door.submit()
    made.claim(database)
    for _ in range(2):
        job = door.post(f"/jobs/{job_id}/cancel").json()
        assert (job["state"], job["cancel_requested"]) == ("running", True)


def test_a_job_that_has_ended_is_a_conflict_with_its_state(door, database):
    job_id = door.submit()
    made.succeed(database, made.claim(database))
    response = door.post(f"/jobs/{job_id}/cancel")
    assert (response.status_code, response.json()["code"], response.json()["state"]) == (409, "state_conflict", "succeeded")


def test_a_cancelled_job_may_be_cancelled_again(door):
    job_id = door.submit()
    answers = [door.post(f"/jobs/{job_id}/cancel").json() for _ in range(2)]
    assert answers[0] == answers[1]


def test_a_body_that_is_no_json_is_refused(plain_door):
    job_id = plain_door.submit()
    assert plain_door.post(f"/jobs/{job_id}/cancel", content=b"now!").status_code == 400
    assert plain_door.get(f"/jobs/{job_id}").json()["state"] == "queued"


def test_nothing_that_is_not_there_can_be_cancelled(door):
    assert door.post("/jobs/job-nowhere/cancel").status_code == 404
