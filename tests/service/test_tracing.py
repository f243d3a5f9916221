import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import select

from service import tracing
from service.app import create_app
from service.settings import Settings
from service.store.session import Database
from service.store.tables import Job
from service.tracing import OFF, OpenTelemetry
from tests.databases import migrated
from tests.service.api.conftest import settings as settings
from tests.service.api.door import Bell, Door
from tests.specs.job_documents import a_job

CLIENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Database]:
    opened = migrated(tmp_path / "plain.db")
    yield opened
    opened.close()


def test_a_job_goes_on_with_the_trace_of_its_request_and_that_with_the_client_s(settings: Settings, store: Database) -> None:
    exported = InMemorySpanExporter()
    traces = OpenTelemetry("api", exported)
    with Door(create_app(settings, store, Bell(), traces=traces)) as door:
        answer = door.post("/jobs", json=a_job(), headers={"traceparent": CLIENT, "x-request-id": "mine"})
        assert answer.status_code == 201
        door.get("/nowhere")
    traces.close()
    posted, looked = exported.get_finished_spans()
    assert posted.parent is not None
    assert f"{posted.context.trace_id:032x}" == CLIENT.split("-")[1]
    assert f"{posted.parent.span_id:016x}" == CLIENT.split("-")[2]
    told = dict(posted.attributes or {})
    assert told == {
        "http.request.method": "POST",
        "url.path": "/jobs",
        "http.route": "/jobs",
        "http.response.status_code": 201,
        "finebits.request_id": "mine",
    }
    assert looked.parent is None
    with store.reading() as session:
        job = session.scalars(select(Job)).one()
    assert job.trace == f"00-{posted.context.trace_id:032x}-{posted.context.span_id:016x}-01"
    assert job.request_id == "mine"


def test_without_a_collector_a_job_has_its_request_and_no_trace(settings: Settings, store: Database) -> None:
    with Door(create_app(settings, store, Bell())) as door:
        door.post("/jobs", json=a_job(), headers={"traceparent": CLIENT, "x-request-id": "mine"})
        door.post("/jobs", json=a_job(), headers={"Idempotency-Key": "once", "x-request-id": "keyed"})
    with store.reading() as session:
        made = {(job.request_id, job.trace) for job in session.scalars(select(Job))}
    assert made == {("mine", None), ("keyed", None)}


def test_a_span_goes_on_with_the_one_that_it_stands_in() -> None:
    exported = InMemorySpanExporter()
    traces = OpenTelemetry("training", exported)
    with pytest.raises(RuntimeError), traces.span("training", CLIENT), traces.span("step", step="sft"):
        raise RuntimeError("broke")
    traces.close()
    inner, outer = exported.get_finished_spans()
    assert inner.parent is not None
    assert inner.parent.span_id == outer.context.span_id
    assert not outer.status.is_ok


def test_a_traceparent_that_is_none_begins_a_trace_of_its_own() -> None:
    traces = OpenTelemetry("api", InMemorySpanExporter())
    with traces.span("request", "00-nonsense") as span:
        assert span.trace is not None
        assert span.trace.startswith("00-")
    traces.close()


def test_a_collector_that_is_away_keeps_no_process_from_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "FLUSH_SECONDS", 0.5)
    traces = tracing.tracing("training", "http://127.0.0.1:9/v1/traces")
    with traces.span("training"):
        pass
    began_at = monotonic()
    traces.close()
    assert monotonic() - began_at < 20


def test_without_a_collector_nothing_of_opentelemetry_is_loaded() -> None:
    assert tracing.tracing("api", "") is OFF
    look = "import sys, service.tracing as t\nwith t.tracing('a', '').span('b') as s: assert s.trace is None\n"
    look += "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    subprocess.run([sys.executable, "-c", look], check=True)
