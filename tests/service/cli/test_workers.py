from typing import Any

from tests.service.cli.conftest import Finebits
from tests.service.fake_service import FakeService


def a_worker(jobs: tuple[str, ...] = ()) -> dict[str, Any]:
    gpu = {
        "position": 0,
        "kind": "gpu",
        "name": "H100",
        "memory_bytes": 80_000_000_000,
        "memory_used_bytes": 12_300_000_000,
        "temperature_celsius": 61,
        "utilization_percent": 97,
        "trouble": None,
        "jobs": [{"job": job, "fraction": 1.0} for job in jobs],
    }
    unknown = dict.fromkeys(("name", "memory_bytes", "memory_used_bytes", "temperature_celsius", "utilization_percent"))
    cpu = gpu | unknown | {"position": 1, "kind": "cpu", "jobs": []}
    return {"name": "host-a", "status": "up", "heartbeat_at": "2026-11-24T10:00:00.123Z", "slots": [gpu, cpu]}


def test_workers_are_a_table_with_a_line_for_each_slot(service: FakeService, finebits: Finebits) -> None:
    service.answers("GET", "/workers", {"data": [a_worker(("job-1",))]})
    lines = finebits("workers").stdout.splitlines()
    assert lines[1].split() == ["worker", "status", "heard", "of", "slot", "memory", "temperature", "use", "runs"]
    assert " ".join(lines[2].split()) == "host-a up 2026-11-24 10:00:00 0 H100 12.3 of 80.0 GB 61 °C 97 % job-1"
    assert lines[3].split() == ["1", "cpu"]


def test_no_worker_is_a_sentence(service: FakeService, finebits: Finebits) -> None:
    service.answers("GET", "/workers", {"data": []})
    assert finebits("workers").stdout == "No worker has reported yet.\n"
    assert finebits("workers", "--json").stdout == "[]\n"


def test_drain_says_what_becomes_of_the_jobs_that_run(service: FakeService, finebits: Finebits) -> None:
    service.answers("POST", "/workers/host-a/drain", a_worker(("job-1",)), a_worker(("job-1",)), a_worker())
    service.answers("POST", "/workers/host-a/undrain", a_worker())
    assert finebits("drain", "host-a").stdout == "host-a takes no new jobs. job-1 will run to the end.\n"
    assert finebits("drain", "host-a", "--now").stdout == "host-a takes no new jobs. job-1 will be given back.\n"
    assert finebits("drain", "host-a").stdout == "host-a takes no new jobs, and runs none.\n"
    assert finebits("drain", "host-a", "--undo").stdout == "host-a takes jobs again.\n"
    assert [asked.query for asked in service.asked] == ["", "now=true", "", ""]
