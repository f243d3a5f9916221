"""A service with two jobs, a worker, a data set and a webhook, as a FakeService answers it: every command has what to show."""

import hashlib
from typing import Any

from tests.service.fake_service import Answer, FakeService, a_job, an_event

ONE, OTHER = f"job-{1:024x}", f"job-{2:024x}"
NAME = "a name that is as long as the names of people's jobs are: llama 8B, instructions, rank 64"
PROGRESS = {
    "step": "pretrain",
    "position": 1,
    "steps": 2,
    "global_step": 40,
    "max_steps": 400,
    "epoch": 0.5,
    "loss": 3.2144,
    "tokens_per_second": 12300.4,
    "eta_seconds": 65.2,
    "phase": "training",
}


def stocked(service: FakeService) -> FakeService:
    """The service, with an answer for whatever a command asks."""
    jobs = {ONE: whole_job(ONE, 1e-3), OTHER: whole_job(OTHER, 2e-3, state="running", progress=PROGRESS)}
    service.answers("GET", "/jobs", {"data": list(jobs.values()), "has_more": False})
    service.answers("POST", "/jobs", Answer(201, jobs[ONE]))
    for job_id, job in jobs.items():
        _of_job(service, job_id, job)
    service.answers("GET", "/workers", {"data": [a_worker(OTHER)]})
    for verb in ("drain", "undrain"):
        service.answers("POST", f"/workers/host-a/{verb}", a_worker(OTHER))
    _of_data(service)
    webhook = {"id": "webhook-1", "url": "https://example.com", "events": [], "description": None, "enabled": True}
    webhook |= {"created_at": "2026-11-24T10:00:00Z", "disabled_why": None, "secret": "whsec_x"}
    service.answers("GET", "/webhooks", {"data": [webhook]})
    service.answers("POST", "/webhooks", webhook)
    service.answers("POST", "/webhooks/webhook-1/test", {"id": "msg-7"})
    service.answers("DELETE", "/webhooks/webhook-1", Answer(204, b""))
    return service


def whole_job(job_id: str, learning_rate: float, **fields: Any) -> dict[str, Any]:
    data = {"dataset": "letters", "template": "alpaca", "dataset_dir": "data", "cutoff_len": 64, "reserved_label_len": 1}
    data |= {"train_on_prompt": False, "split": None, "max_samples": None, "val_size": 0.1}
    step = {"name": "sft", "do": "train", "data": data, "finetuning": {"stage": "sft"}, "model": {"model_name_or_path": "tiny"}}
    step["training"] = {"learning_rate": learning_rate}
    shown = {"name": "sft", "do": "train", "stage": "sft", "finetuning_type": "lora", "finished_at": None, "output": None}
    more = {"labels": {"team": "letters"}, "owner": "ada", "queue": "default", "priority": 0, "attempt": 1, "lost": 0}
    more |= {"details": None, "cancel_requested": False, "pause_requested": False, "position": None, "estimated_start": None}
    more |= {"notices": [{"pointer": "/model/use_fast_tokenizer", "detail": "Today's tokenizers are always the fast ones."}]}
    ends = {"state": "succeeded", "finished_at": "2026-11-24T11:00:00Z"}
    documents = {"spec": {"name": NAME}, "resolved": {"name": NAME, "steps": [step]}, "steps": [shown]}
    return a_job(id=job_id, name=NAME, **(more | ends | documents | fields))


def a_worker(job_id: str) -> dict[str, Any]:
    gpu = {
        "position": 0,
        "kind": "gpu",
        "name": "NVIDIA H100 80GB HBM3",
        "memory_bytes": 85_000_000_000,
        "memory_used_bytes": 12_300_000_000,
        "temperature_celsius": 61,
        "utilization_percent": 97,
        "trouble": None,
        "jobs": [{"job": job_id, "fraction": 1.0}],
    }
    own = {"name": "host-a", "status": "up", "heartbeat_at": "2026-11-24T10:00:00.123Z", "draining": False}
    return own | {"software": "0.1.0", "spec_versions": [1], "slots": [gpu, gpu | {"position": 1, "jobs": []}]}


def measured(bits: float) -> list[dict[str, Any]]:
    return [row("base", 6.0, 0.05), row(20, bits + 0.5, 0.02, versus=bits + 0.5 - 6.0), row(40, bits, 0.02, versus=bits - 6.0)]


def row(checkpoint: Any, bits: float, error: float, versus: float | None = None) -> dict[str, Any]:
    value = {"value": bits, "unit": "bits/token", "standard_error": error, "interval": [bits - 2 * error, bits + 2 * error]}
    value |= {"n_documents": 80, "n_tokens": 9600, "estimator": "mean", "on": "tokens", "interval_reason": None}
    value |= {"versus_base": None, "versus_best": None, "versus_leader": None}
    if versus is not None:
        value["versus_base"] = {"value": versus, "standard_error": 0.01, "interval": [versus - 0.02, versus + 0.02]}
    measures = {"cross_entropy": value, "entropy": value | {"value": bits - 0.25}, "perplexity": value | {"unit": "1"}}
    tests: dict[str, Any] = {"alerts": [], "tests": []}
    return {"step": "sft", "checkpoint": checkpoint, "split": "validation", "measures": measures, **tests}


def _of_job(service: FakeService, job_id: str, job: dict[str, Any]) -> None:
    path = f"/jobs/{job_id}"
    service.answers("GET", path, job)
    service.answers("PATCH", path, job)
    service.answers("DELETE", path, Answer(204, b""))
    for verb in ("pause", "resume", "retry", "cancel"):
        service.answers("POST", f"{path}/{verb}", job)
    events = {"data": [an_event(1, message="Queued.")], "has_more": False}
    service.answers("GET", f"{path}/events", events, {"data": [], "has_more": False})
    service.answers("GET", f"{path}/logs", Answer(200, b"one line\n", "text/plain"))
    stream = b'id: 1\nevent: log\ndata: {"attempt": 1, "text": "one line\\n"}\n\nevent: end\ndata: {}\n\n'
    service.answers("GET", f"{path}/logs/stream", Answer(200, stream, "text/event-stream"))
    service.answers("GET", f"{path}/metrics", {"job_id": job_id, "data": measured(2.0 if job_id == ONE else 2.1)})
    series = {"name": "loss", "pipeline_step": "sft", "step": list(range(1, 401)), "value": [9 / step for step in range(1, 401)]}
    names = {"job_id": job_id, "data": [{"pipeline_step": "sft", "names": ["loss"]}]}
    service.answers("GET", f"{path}/metrics/series", lambda asked: Answer(body=series if "name=" in asked.query else names))
    checkpoint = {"step": "sft", "global_step": 40, "epoch": 1.0, "metrics": {"cross_entropy": 2.0}, "pareto": True, "rank": None}
    service.answers("GET", f"{path}/checkpoints", {"data": [checkpoint], "measured": [], "front": []})
    files = {"inspection.json": b"{}", "d.txt": b"d"}
    made = [{"name": name, "size": len(raw), "sha256": hashlib.sha256(raw).hexdigest()} for name, raw in files.items()]
    service.answers("GET", f"{path}/artifacts", {"data": made})
    for one, raw in zip(made, files.values(), strict=True):
        answer = Answer(200, raw, "application/octet-stream", {"etag": f'"{one["sha256"]}"'})
        service.answers("GET", f"{path}/artifacts/{one['name']}", answer)
    told = [("started", "{}"), ("piece", '{"text": "Hi"}')]
    told.append(("done", '{"tokens": 2, "log_probability": -3.0, "entropy": 1.5, "finish_reason": "stop"}'))
    written = "".join(f"event: {name}\ndata: {data}\n\n" for name, data in told).encode()
    service.answers("POST", f"{path}/checkpoints/40/generate", Answer(200, written, "text/event-stream"))


def _of_data(service: FakeService) -> None:
    dataset = {"name": "talks", "formatting": "alpaca", "holds": "conversations", "files": ["talks.jsonl"], "rows": 2}
    service.answers("GET", "/datasets", {"data": [dataset | {"trouble": None, "version": "3f2a"}]})
    service.answers("GET", "/datasets/talks", dataset)
    version = {"name": "talks", "version": "3f2a", "rows": 1, "size": 3, "created_at": "2026-11-24T10:00:00Z"}
    version |= {"file_name": "talks.jsonl", "sha256": hashlib.sha256(b"{}\n").hexdigest()}
    service.answers("GET", "/datasets/talks/versions", {"data": [version]})
    rows = [{"file": "talks.jsonl", "row": 1, "values": {"instruction": "Add 1 and 2.", "output": "3"}}]
    service.answers("GET", "/datasets/talks/rows", {"data": rows})
    fault = {"file": "talks.jsonl", "row": 2, "column": "output", "line": None, "detail": "It is not there."}
    service.answers("POST", "/datasets/talks/validate", {"name": "talks", "rows": 2, "is_whole": True, "faults": [fault]})
    service.answers("POST", "/datasets/talks/inspect", Answer(201, whole_job(ONE, 1e-3)))
    service.answers("DELETE", "/datasets/talks", Answer(204, b""))
    etag = {"etag": f'"{version["sha256"]}"'}
    service.answers("GET", "/datasets/talks/content", Answer(200, b"{}\n", "application/octet-stream", etag))
    upload = {"id": "sending-1", "name": "talks", "size": 3, "offset": 0, "url": "/datasets/talks/uploads/sending-1"}
    service.answers("POST", "/datasets/talks/uploads", Answer(201, upload))
    service.answers("GET", upload["url"], upload)
    service.answers("PATCH", str(upload["url"]), Answer(201, version))
