"""The house as its users find it: real processes, real HTTP, the files in `examples/`."""

import hashlib
import json
import runpy
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from service.client import Client
from service.embedded import Embedded, running
from service.settings import Settings

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SHORT = {"max_steps": 6, "save_steps": 3, "logging_steps": 2, "per_device_train_batch_size": 4}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    home = tmp_path_factory.mktemp("home")
    settings = Settings(home=home, models_root=EXAMPLES / "models", datasets_root=EXAMPLES, port=0)
    with running(settings) as started:
        yield started


@pytest.fixture
def client(service: Embedded) -> Iterator[Client]:
    with service.client() as opened:
        yield opened


def ended(client: Client, job_id: str, seconds: float = 120) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        job = client.job(job_id)
        if job["state"] in ("succeeded", "failed", "cancelled"):
            return job
        time.sleep(0.1)
    raise AssertionError(f"not in {seconds} s: {job['state']}, {job['progress']}\n{client.logs(job_id)[-2000:]}")


def short(file: str) -> dict[str, Any]:
    """An example with fewer updates."""
    text = (EXAMPLES / file).read_text(encoding="utf-8")
    document = json.loads(text) if file.endswith(".json") else yaml.safe_load(text)
    if "model" not in document:
        document.pop("num_train_epochs", None)
        return document | SHORT
    for step in (document, *document.get("steps", [])):
        if "training" in step:
            step["training"] = {k: v for k, v in step["training"].items() if k not in ("num_train_epochs", "save_strategy")}
            step["training"] |= SHORT
    document["training"] = document.get("training", {}) | SHORT
    return document


@pytest.mark.parametrize("file", sorted(path.name for path in EXAMPLES.iterdir() if path.suffix in (".json", ".yaml")))
def test_every_example_succeeds(client: Client, file: str) -> None:
    job = ended(client, client.submit(short(file))["id"])
    assert job["state"] == "succeeded", f"{job['reason']}: {job['sentence']}\n{client.logs(job['id'])[-2000:]}"
    steps = {step["name"] for step in job["steps"]}
    measured = client.metrics(job["id"])
    assert {row["step"] for row in measured} == steps
    for step in steps:
        rows = {row["checkpoint"]: row["measures"] for row in measured if row["step"] == step}
        assert set(rows) == {"base", 3, 6}
        assert rows[6]["cross_entropy"]["value"] < rows["base"]["cross_entropy"]["value"]
        assert rows[6]["cross_entropy"]["versus_base"]["value"] < 0
        assert rows[6]["kl_from_base"]["value"] > 0
        low, high = rows[6]["perplexity"]["interval"]
        assert low < rows[6]["perplexity"]["value"] < high
        assert client.series(job["id"], "loss", step)["step"] == [2, 4, 6]


def test_what_a_job_made_can_be_had_whole_or_in_part(service: Embedded, client: Client, tmp_path: Path) -> None:
    job = ended(client, client.submit(short("sft-lora.json"))["id"])
    (adapter,) = [
        artifact
        for artifact in client.artifacts(job["id"])
        if artifact["name"].endswith("checkpoint-6/adapter_model.safetensors")
    ]
    got = client.download(job["id"], adapter["name"], tmp_path / "adapter.safetensors")
    assert hashlib.sha256(got.read_bytes()).hexdigest() == adapter["sha256"]
    url = f"{service.url}/jobs/{job['id']}/artifacts/{adapter['name']}"
    part = httpx2.get(url, headers={"Range": "bytes=8-15"})
    assert (part.status_code, part.content) == (206, got.read_bytes()[8:16])
    assert [point["global_step"] for point in client.checkpoints(job["id"])] == [3, 6]


def test_a_dry_run_says_what_the_run_then_does(client: Client) -> None:
    document = json.loads((EXAMPLES / "sft-lora.json").read_text(encoding="utf-8"))
    document["training"] = {"per_device_train_batch_size": 16, "num_train_epochs": 1, "gradient_accumulation_steps": 2}
    before = [job["id"] for job in client.jobs()]
    (planned,) = client.submit(document, dry_run=True)["steps"]
    assert [job["id"] for job in client.jobs()] == before
    job = ended(client, client.submit(document)["id"])
    events = {event["kind"]: event["data"] for event in client.events(job["id"])}
    assert events["step_finished"]["updates"] == planned["updates"]
    assert events["model_loaded"]["trainable_parameters"] == planned["trainable_parameters"]
    assert events["data_loaded"]["rows"] == planned["training_rows"]


def test_a_running_job_is_cancelled_over_http(client: Client) -> None:
    document = short("sft-lora.json")
    document["training"] |= {"max_steps": 100_000, "save_steps": 100_000}
    job_id = client.submit(document)["id"]
    while client.job(job_id)["state"] == "queued" or not (client.job(job_id)["progress"] or {}).get("global_step"):
        time.sleep(0.1)
    assert client.cancel(job_id)["cancel_requested"] is True
    assert ended(client, job_id, seconds=20)["state"] == "cancelled"


def test_the_command_line_submits_and_watches_to_the_end(service: Embedded, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(short("sft-lora-flat.yaml")), encoding="utf-8")
    command = [sys.executable, "-m", "service.cli", "--url", service.url, "submit", str(file), "--watch"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All steps are done." in done.stdout


def test_a_guard_stops_a_step_that_over_fits_keeps_the_best_and_the_best_is_measured_again(client: Client) -> None:
    """Thirty texts, learned by heart: what is held out becomes less likely, an alert fires, a later step measures the best."""
    over_fit = {"name": "pt", "measures": {"guards": [{"when": "over_fit", "then": "stop"}]}}
    later = {"name": "later", "do": "measure", "measures": {"checkpoints": "@pt,@pt/12"}}
    document = {
        "model": {"model_name_or_path": "tiny-llama"},
        "data": {"dataset": "markov", "max_samples": 60, "val_size": 30, "cutoff_len": 128},
        "finetuning": {"stage": "pt", "finetuning_type": "full"},
        "training": {"max_steps": 400, "save_steps": 12, "learning_rate": 0.01, "per_device_train_batch_size": 8},
        "measures": {"names": "cross_entropy"},
        "steps": [over_fit, later],
    }
    job = ended(client, client.submit(document)["id"])
    assert job["state"] == "succeeded", job["sentence"]
    rows = client.metrics(job["id"])
    bits = {row["checkpoint"]: row["measures"]["cross_entropy"]["value"] for row in rows if row["step"] == "pt"}
    base = bits.pop("base")
    last, best = max(bits), min(bits, key=lambda at: bits[at])
    assert last < 400
    assert bits[last] > bits[best] < base
    fired = {row["checkpoint"]: [alert["alert"] for alert in row["alerts"]] for row in rows if row["step"] == "pt"}
    assert [at for at, alerts in fired.items() if "over_fit" in alerts] == [last], "it stops at the first"
    events = client.events(job["id"])
    (told,) = [event for event in events if event["kind"] == "alert" and event["data"]["alert"] == "over_fit"]
    assert told["data"]["global_step"] == last
    (guarded,) = [event for event in events if event["kind"] == "guarded"]
    assert guarded["data"]["then"] == "stop"
    kept = int(job["steps"][0]["output"].rpartition("-")[2])
    assert kept == best
    measured = {row["checkpoint"]: row for row in rows if row["step"] == "later"}
    assert [row["of"] and row["of"]["checkpoint"] for row in measured.values()] == [None, kept, 12]
    assert measured[1]["of"]["job_id"] == job["id"]
    assert measured[1]["measures"]["cross_entropy"]["value"] == pytest.approx(bits[kept], rel=1e-5)
    assert measured[2]["measures"]["cross_entropy"]["value"] == pytest.approx(bits[12], rel=1e-5)


def test_the_last_checkpoint_of_the_demo_is_near_the_entropy_rate_of_its_source(client: Client) -> None:
    """The demo's own numbers, over half of its pretraining: the floor holds, and is neared."""
    source = runpy.run_path(str(EXAMPLES / "source.py"))
    document = yaml.safe_load((EXAMPLES / "demo.yaml").read_text(encoding="utf-8"))
    document["steps"] = document["steps"][:1]
    document["steps"][0]["training"] |= {"num_train_epochs": 3, "save_steps": 65}
    job = ended(client, client.submit(document)["id"], seconds=240)
    assert job["state"] == "succeeded", job["sentence"]
    bits = [row["measures"]["cross_entropy"]["value"] for row in client.metrics(job["id"]) if row["checkpoint"] != "base"]
    floor = source["entropy_of_text"](240) / 240
    assert bits == sorted(bits, reverse=True)
    assert floor < bits[-1] < 1.08 * floor
