"""One job through the whole house, with everything on that tells of it: webhook, tracker, metrics, traces, lines of JSON."""

import json
import subprocess
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx2
import openai
import pytest
from pydantic import SecretStr

from service.embedded import Embedded, running
from service.settings import Settings
from tests.collector import Span, collecting
from tests.docs.pages import commands
from tests.service.webhooks.receiver import receiving

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
TRACE = "0af7651916cd43dd8448eb211c80319c"


def test_what_becomes_of_a_job_is_told_to_everyone_who_listens(tmp_path: Path) -> None:
    with collecting() as collector, receiving() as receiver:
        settings = Settings(
            home=tmp_path,
            port=0,
            models_root=EXAMPLES / "models",
            datasets_root=EXAMPLES,
            secret_key=SecretStr("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="),
            webhook_networks="127.0.0.0/8",
            traces_url=collector.url,
            log_format="json",
        )
        with running(settings) as service, httpx2.Client(base_url=service.url, timeout=120) as http:
            made = on_the_page(service, "webhooks", 0, {"https://example.com/hook": receiver.url})
            secret = json.loads(made)["secret"]
            job_id = http.post("/jobs", json=a_job(), headers=SENT).json()["id"]
            [message] = receiver.wait_for(1, seconds=240)
            told = openai.OpenAI(api_key="none", webhook_secret=secret).webhooks.unwrap(message.body, message.headers)
            assert (told.type, told.data.id) == ("fine_tuning.job.succeeded", f"ft{job_id}")  # type: ignore[union-attr]
            tried = on_the_page(service, "webhooks", 1, {"$WEBHOOK": json.loads(made)["id"]})
            assert "webhook.test" in tried
            assert told.id in tried
            names = [artifact["name"] for artifact in http.get(f"/jobs/{job_id}/artifacts").json()["data"]]
            assert [name for name in names if name.startswith("sft/tensorboard/attempt-1/events")]
            assert 'finebits_attempts_ended_total{outcome="succeeded"} 1.0' in fresh_metrics(http)
        # everybody has ended, and sent what was left
        lines = {name: lines_of(tmp_path / "logs" / f"{name}.log") for name in ("api", "worker")}
        spans = collector.spans
    [began] = [line for line in lines["worker"] if line["message"] == f"attempt 1 of {job_id} began"]
    assert (began["job"], began["attempt"], began["request_id"]) == (job_id, 1, "of-the-test")
    assert [line for line in lines["api"] if line.get("request_id") == "of-the-test" and "POST /jobs" in line["message"]]
    [posted] = [span for span in spans if span.name == "POST request" and span.trace_id == TRACE]
    assert chain_of(spans, posted) == [
        ("finebits-api", "POST request"),
        ("finebits-worker", "attempt"),
        ("finebits-training", "training"),
        ("finebits-training", "step"),
    ]


def on_the_page(service: Embedded, page: str, block: int, changes: dict[str, str]) -> str:
    """What the page's commands print."""
    script = commands(page)[block].replace("http://127.0.0.1:8765", service.url)
    for old, new in changes.items():
        script = script.replace(old, new)
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], capture_output=True, text=True, timeout=240, check=True)
    return done.stdout


SENT = {"x-request-id": "of-the-test", "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}


def a_job() -> dict[str, Any]:
    job: dict[str, Any] = json.loads((EXAMPLES / "sft-lora.json").read_text(encoding="utf-8"))
    training = {"max_steps": 2, "save_steps": 2, "logging_steps": 1, "report_to": "tensorboard"}
    job["training"] = {"per_device_train_batch_size": 2} | training
    return job | {"measures": {"names": ""}}


def fresh_metrics(http: httpx2.Client) -> str:
    """Until what is cached is of after the end."""
    ends_at = monotonic() + 120
    while 'outcome="succeeded"} 1.0' not in (text := http.get("/metrics").text) and monotonic() < ends_at:
        sleep(0.2)
    return text


def lines_of(log: Path) -> list[dict[str, Any]]:
    """Those that are JSON: what is said before the settings are read is not."""
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


def chain_of(spans: list[Span], first: Span) -> list[tuple[str, str]]:
    """From a span down through the one child of each."""
    chain, parent = [(first.service, first.name)], first
    while children := [span for span in spans if span.parent == parent.id]:
        [parent] = children
        assert parent.trace_id == first.trace_id
        chain.append((parent.service, parent.name))
    return chain
