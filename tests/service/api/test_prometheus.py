"""/metrics, read with Prometheus's own parser."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from sqlalchemy import event
from starlette.testclient import TestClient

from service.api import prometheus
from service.app import create_app
from service.settings import Settings
from service.store import workers
from service.store.session import Database
from tests.databases import migrated
from tests.service.api import made
from tests.service.api.door import Bell, Door
from tests.service.store.staffed import enter
from tests.service.store.stored import submit

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(door: Any) -> Samples:
    answer = door.get("/metrics")
    assert (answer.status_code, answer.headers["content-type"]) == (200, prometheus.MEDIA_TYPE)
    families = text_string_to_metric_families(answer.text)
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for family in families for one in family.samples}


def value(found: Samples, name: str, **labels: str) -> float | None:
    return found.get((name, tuple(sorted(labels.items()))))


@pytest.fixture(autouse=True)
def not_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus, "CACHED_SECONDS", 0.0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Database]:
    opened = migrated(tmp_path / "plain.db")
    yield opened
    opened.close()


@pytest.fixture
def own_door(settings: Settings, store: Database) -> Iterator[Door]:
    with Door(create_app(settings, store, Bell())) as opened:
        yield opened


def test_requests_are_counted_by_route_and_never_by_path(own_door: Door) -> None:
    for path in ("/jobs", "/jobs/job-1", "/jobs/job-2", "/nowhere/1", "/nowhere/2"):
        own_door.get(path)
    own_door.request("BREW", "/jobs")
    found = samples(own_door)
    assert value(found, "finebits_http_requests_total", method="GET", route="/jobs", code="200") == 1
    assert value(found, "finebits_http_requests_total", method="GET", route="/jobs/{job_id}", code="404") == 2
    assert value(found, "finebits_http_requests_total", method="GET", route="none", code="404") == 2
    assert value(found, "finebits_http_request_seconds_count", route="/jobs/{job_id}") == 2
    assert {dict(labels)["method"] for (name, labels) in found if name == "finebits_http_requests_total"} == {"GET", "other"}
    assert not any("job-1" in str(labels) or "BREW" in str(labels) for _, labels in found)


def test_a_request_that_raises_is_counted_as_500() -> None:
    app = FastAPI()
    exposition = prometheus.Exposition(None)  # type: ignore[arg-type]
    app.add_middleware(prometheus.Counted, exposition=exposition)

    @app.get("/breaks")
    def breaks() -> None:
        raise RuntimeError

    TestClient(app, raise_server_exceptions=False).get("/breaks")
    counted = {tuple(one.labels.values()): one.value for one in next(iter(exposition.requests.collect())).samples}
    assert counted["GET", "/breaks", "500"] == 1


def test_jobs_queues_attempts_workers_and_gpus_are_told(own_door: Door, store: Database) -> None:
    me = enter(store, "worker-1", gpus=1)
    with store.transaction() as session:
        readings = {"utilization_percent": 80, "memory_used_bytes": 5_000, "temperature_celsius": 61}
        workers.heartbeat(session, me, {0: workers.Reading(readings, trouble="too hot")})
    submit(store)
    held = made.claim(store)
    with made.behind_the_fence(store, held) as session:
        made.leases.renew(session, held, 60, {"tokens_per_second": 1000.5})
    submit(store)
    submit(store)
    found = samples(own_door)
    assert [value(found, "finebits_jobs", state=state) for state in ("queued", "running", "paused")] == [2, 1, 0]
    assert value(found, "finebits_queue_depth", queue="default") == 2
    assert value(found, "finebits_queue_oldest_wait_seconds", queue="default") is not None
    assert value(found, "finebits_queue_wait_seconds_count", queue="default") == 1
    assert value(found, "finebits_queue_wait_seconds_sum", queue="default") in (0, 1)
    assert value(found, "finebits_workers", status="up") == 1
    assert value(found, "finebits_worker_jobs", worker="worker-1") == 1
    assert value(found, "finebits_worker_tokens_per_second", worker="worker-1") == 1000.5
    gpu = {name: reading for (name, labels), reading in found.items() if name.startswith("finebits_gpu_")}
    assert [gpu[f"finebits_gpu_{name}"] for name in ("utilization_percent", "memory_used_bytes", "temperature_celsius")] == [
        80,
        5_000,
        61,
    ]
    assert value(found, "finebits_slot_trouble", worker="worker-1", position="0", kind="gpu") == 1
    made.succeed(store, held)
    after = samples(own_door)
    assert value(after, "finebits_jobs_ended_total", state="succeeded", reason="") == 1
    assert value(after, "finebits_jobs_ended_total", state="failed", reason="diverged") == 0  # so that the first is a rise
    assert value(after, "finebits_attempts_ended_total", outcome="succeeded") == 1
    assert value(after, "finebits_attempts_ended_total", outcome="lost") == 0
    assert (value(after, "finebits_leases_lost_total"), value(after, "finebits_writes_fenced_total")) == (0, 0)


def test_what_ended_is_a_counter_that_stays_where_the_job_is_forgotten_and_the_service_begins_anew(
    settings: Settings, store: Database, own_door: Door
) -> None:
    job_id = own_door.submit()
    own_door.post(f"/jobs/{job_id}/cancel")
    own_door.delete(f"/jobs/{job_id}")
    with Door(create_app(settings, store, Bell())) as another:
        text = another.get("/metrics").text
        assert value(samples(another), "finebits_jobs_ended_total", state="cancelled", reason="") == 1
    assert "# TYPE finebits_jobs_ended_total counter" in text


def test_a_database_that_is_away_is_told_and_the_rest_is_there(own_door: Door, store: Database) -> None:
    with store.engine.connect() as connection:
        connection.exec_driver_sql("ALTER TABLE jobs RENAME TO jobs_elsewhere")
        connection.commit()
    found = samples(own_door)
    assert value(found, "finebits_database_up") == 0
    assert value(found, "finebits_jobs", state="queued") is None
    assert any(name == "finebits_build" for name, _ in found)


def test_several_who_scrape_load_the_database_once(own_door: Door, store: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus, "CACHED_SECONDS", 60.0)
    asked = []
    event.listen(store._reading_engine, "before_cursor_execute", lambda *told: asked.append(told[2]))
    samples(own_door)
    n_first = len(asked)
    assert 0 < n_first < 15
    samples(own_door)
    assert len(asked) == n_first


def test_metrics_need_the_key_where_there_is_one(settings: Settings, store: Database) -> None:
    keyed = settings.model_copy(update={"api_key": SecretStr("a key of the operator's")})
    with Door(create_app(keyed, store, Bell())) as door:
        assert door.get("/metrics").status_code == 401
        assert door.get("/metrics", headers={"Authorization": "Bearer a key of the operator's"}).status_code == 200
