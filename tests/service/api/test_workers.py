"""GET /workers, one worker, drain and undrain."""

import pytest

from service.store import workers
from service.store.workers import Reading
from tests.service.store.staffed import GB, enter, place, silence


@pytest.fixture
def staffed(door, database):
    return enter(database, "host-a", gpus=1, cpus=1)


def test_a_worker_is_shown_with_its_slots_what_they_read_and_what_they_run(door, database, staffed):
    job_id = door.submit()
    assert place(database, staffed)
    values = {"memory_used_bytes": 5 * GB, "temperature_celsius": 61, "utilization_percent": 97}
    with database.transaction() as session:
        workers.heartbeat(session, staffed, {0: Reading(values)})
    worker = door.get("/workers/host-a").json()
    assert door.get("/workers").json() == {"data": [worker]}
    assert (worker["status"], worker["healthy"], worker["queues"], worker["reserved_for"]) == ("up", True, ["default"], None)
    assert worker["heartbeat_at"].endswith("Z")
    gpu, cpu = worker["slots"]
    assert (gpu["kind"], gpu["gpu"], gpu["name"], gpu["memory_bytes"]) == ("gpu", "GPU-host-a-0", "H100", 80 * GB)
    assert (gpu["memory_used_bytes"], gpu["temperature_celsius"], gpu["utilization_percent"]) == (5 * GB, 61, 97)
    assert (gpu["used"], gpu["jobs"]) == (1.0, [{"job": job_id, "fraction": 1.0}])
    assert (cpu["kind"], cpu["memory_bytes"], cpu["used"], cpu["jobs"]) == ("cpu", None, 0.0, [])


def test_a_worker_that_is_lost_or_in_trouble_is_not_healthy(door, database, staffed):
    with database.transaction() as session:
        workers.heartbeat(session, staffed, {0: Reading({}, trouble="The GPU cannot be asked: it is lost.")})
    worker = door.get("/workers/host-a").json()
    assert (worker["status"], worker["healthy"], worker["slots"][0]["trouble"]) == (
        "up",
        False,
        "The GPU cannot be asked: it is lost.",
    )
    silence(database, "host-a")
    assert door.get("/workers/host-a").json()["status"] == "lost"


def test_a_worker_drains_and_comes_back(door, database, staffed):
    drained = door.post("/workers/host-a/drain").json()
    assert (drained["status"], drained["draining"]) == ("draining", True)
    door.submit()
    assert place(database, staffed) is None
    assert door.post("/workers/host-a/undrain").json()["status"] == "up"
    assert place(database, staffed) is not None


def test_draining_now_has_the_worker_give_its_jobs_back(door, database, staffed):
    door.post("/workers/host-a/drain")
    with database.transaction() as session:
        assert not workers.heartbeat(session, staffed).stop_jobs
    door.post("/workers/host-a/drain?now=true")
    with database.transaction() as session:
        assert workers.heartbeat(session, staffed).stop_jobs


def test_a_worker_that_nobody_knows_is_not_found(door):
    for method, path in (("GET", ""), ("POST", "/drain"), ("POST", "/undrain")):
        response = door.request(method, f"/workers/nobody{path}")
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert door.get("/workers").json() == {"data": []}


def test_drain_says_what_it_does_not_understand(door, database, staffed):
    assert door.post("/workers/host-a/drain", json={"stop_jobs": True}).status_code == 200
    with database.transaction() as session:
        assert workers.heartbeat(session, staffed).stop_jobs
    for body in ({"stop_job": True}, {"stop_jobs": "yes"}, [True]):
        response = door.post("/workers/host-a/drain", json=body)
        assert response.status_code == 422
        assert [error["pointer"] for error in response.json()["errors"]] == ["/stop_jobs"]
    assert [error["pointer"] for error in door.post("/workers/host-a/drain?now=soon").json()["errors"]] == ["/query/now"]
