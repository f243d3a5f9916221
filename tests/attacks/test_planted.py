"""Secrets handed to a whole running service through every door there is, and then looked for in all that it said and wrote."""

import json
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
import redis
from pydantic import SecretStr

from service.embedded import running
from service.settings import Settings
from tests.attacks.family import Family, record
from tests.attacks.house import KEY
from tests.collector import collecting
from tests.fake_hub import fake_hub
from tests.service.webhooks.receiver import receiving

pytestmark = [pytest.mark.slow, pytest.mark.long]

FAMILY = Family(
    name="A planted token",
    tried="tokens for hubs and a reward API in jobs, nested, flat, in a step, under a misspelt name, as a name, a label or a "
    "model, in URLs; credentials in a webhook's URL and in addresses; the operator's keys of trackers, hubs and S3; then a whole "
    "job, whose tracker and whose hub fail",
    promise="none stands in an answer, an event, a trace, a message of the broker, a table, or a byte of any file, the log and "
    "the database's journal among them",
    found=(
        "A webhook's URL, which at many a receiver is its credential, was stored and shown in clear; it is encrypted, and shown "
        "with stars.",
        "A reward API could only be given a key in its URL, which was stored and shown: it has reward_api_key now, encrypted.",
        "The password in FINEBITS_MLFLOW_URL stood in a job's events when the server failed.",
    ),
)

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

# Each its own, so that one that is found says where it came in. Those that a place refuses by their shape look as real ones do.
PLANTED = {
    name: f"{shape}{digit * 34}"
    for name, shape, digit in (
        ("hub", "hf_", "a"),
        ("in_step", "hf_", "b"),
        ("flat", "hf_", "c"),
        ("modelscope", "ms-", "d"),
        ("reward_api", "rk-", "e"),
        ("misspelt", "hf_", "f"),
        ("label", "hf_", "g"),
        ("name", "hf_", "h"),
        ("model", "hf_", "i"),
        ("model_url", "pw-", "j"),
        ("hook_query", "wq-", "k"),
        ("hook_path", "wp1", "l"),
        ("hook_changed", "wc-", "m"),
        ("query", "hf_", "n"),
        ("bearer", "hf_", "o"),
        ("upload", "hf_", "p"),
        ("reward_url", "ru-", "q"),
        ("dry_run", "hf_", "r"),
        ("openai", "hf_", "s"),
        ("env_hub", "hf_", "t"),
        ("env_wandb", "wandb", "u"),
        ("env_s3", "s3-", "v"),
        ("env_mlflow", "ml-", "w"),
        ("patched", "hf_", "x"),
    )
}
API_KEY = "fb-operator-" + "z" * 30


def test_what_is_planted_is_found_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, planted in {
        "HF_TOKEN": "env_hub", "WANDB_API_KEY": "env_wandb", "AWS_SECRET_ACCESS_KEY": "env_s3"
    }.items():  # fmt: skip
        monkeypatch.setenv(name, PLANTED[planted])
    said: list[str] = []
    with fake_hub() as hub, receiving() as receiver, collecting() as collector:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        receiver.answers = [(500, {})]
        settings = Settings(
            home=tmp_path,
            port=0,
            models_root=EXAMPLES / "models",
            datasets_root=EXAMPLES,
            secret_key=KEY,
            api_key=SecretStr(API_KEY),
            hub=True,
            webhook_networks="127.0.0.0/8",
            reward_hosts="127.0.0.1:9",
            mlflow_url=f"http://ann:{PLANTED['env_mlflow']}@127.0.0.1:9",
            traces_url=collector.url,
        )
        with running(settings) as service, httpx2.Client(base_url=service.url, timeout=60) as http:
            heard = threading.Thread(target=listen, args=(settings, said), daemon=True)
            heard.start()
            http.headers["authorization"] = f"Bearer {API_KEY}"
            job_id = plant(http, receiver.url, said)
            job = ended(http, job_id)
            receiver.wait_for(1)
            assert job["reason"] == "unreachable_hub", job["sentence"]
            for path in ("", "/events", "/logs", "/metrics", "/checkpoints", "/artifacts"):
                note(said, http.get(f"/jobs/{job_id}{path}"))
            for path in (
                "/jobs",
                "/webhooks",
                "/audit?limit=1000",
                "/workers",
                "/metrics",
                "/v1/fine_tuning/jobs",
                "/openapi.json",
            ):
                note(said, http.get(path))
            for webhook in http.get("/webhooks").json()["data"]:
                note(said, http.get(f"/webhooks/{webhook['id']}/deliveries"))
            assert PLANTED["in_step"] in str(hub.asked), "the hub was never asked with the token that opens it"
            kept = tables(tmp_path / "finebits.db")
        spans = str(collector.spans)
    assert "mlflow" in "".join(said), "the tracker never failed"
    assert f"token={PLANTED['hook_query']}" in str(receiver.came), "a receiver is told at the whole of its URL"
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {"api.log", "worker.log", "log.txt", "finebits.db"} <= {path.name for path in files}
    texts = {"what was said": "\n".join(said), "the tables": kept, "the traces": spans}
    found = []
    for name, token in (*PLANTED.items(), ("the operator's key", API_KEY), ("the key of secrets", KEY.get_secret_value())):
        found += [(name, where) for where, text in texts.items() if token in text]
        found += [(name, str(path.relative_to(tmp_path))) for path, content in files.items() if token.encode() in content]
    assert found == []


def plant(http: httpx2.Client, receiver: str, said: list[str]) -> str:
    """Through every door; the id of the one job that is to run."""
    job: dict[str, Any] = json.loads((EXAMPLES / "sft-lora.json").read_text(encoding="utf-8"))
    job["training"] = {"per_device_train_batch_size": 2, "max_steps": 1, "save_steps": 1, "report_to": ["mlflow"]}
    job["measures"] = {"names": ""}
    model = job["model"]

    def asked(status: int, document: Any, path: str = "/jobs", method: str = "POST") -> Any:
        response = http.request(method, path, json=document)
        assert response.status_code == status, (path, document, response.text)
        note(said, response)
        return response.json()

    for query in ("token=%s", "x=%s", "url=http://ann:%s@host/"):
        note(said, http.get("/jobs?" + query % PLANTED["query"]))
    note(said, http.get("/jobs", headers={"authorization": f"Bearer {PLANTED['bearer']}"}))
    asked(422, job | {"model": model | {"hf_hub_tokn": PLANTED["misspelt"]}})
    asked(422, job | {"labels": {"a": PLANTED["label"]}})
    asked(422, job | {"name": PLANTED["name"]})
    asked(422, job | {"model": {"model_name_or_path": PLANTED["model"]}})
    asked(422, job | {"model": {"model_name_or_path": f"https://ann:{PLANTED['model_url']}@hub.example/a"}})
    asked(422, job | {"model": model | {"ms_hub_token": PLANTED["modelscope"]}})
    asked(422, {"model_name_or_path": "nowhere", "hf_hub_token": PLANTED["flat"], "stage": "sft"})
    ppo = {"stage": "ppo", "reward_model_type": "api", "reward_api_key": PLANTED["reward_api"]}
    asked(422, job | {"finetuning": ppo | {"reward_model": f"http://127.0.0.1:9/score?key={PLANTED['reward_url']}"}})
    asked(200, job | {"model": model | {"hf_hub_token": PLANTED["dry_run"]}}, "/jobs?dry_run=true")
    fine_tuning = {"model": "tiny-llama", "training_file": "file-0", "metadata": {"a": PLANTED["openai"]}}
    asked(422, fine_tuning, "/v1/fine_tuning/jobs")
    asked(422, {"file_name": "a.jsonl", "size": 3, "entry": {"hf_hub_url": PLANTED["upload"]}}, "/datasets/mine/uploads")
    hook = f"{receiver}/{PLANTED['hook_path']}?token={PLANTED['hook_query']}"
    events = ["fine_tuning.job.succeeded", "fine_tuning.job.failed"]
    made = http.post("/webhooks", json={"url": hook, "events": events})
    assert made.status_code == 201, made.text
    note(said, made)
    other = asked(201, {"url": "https://hooks.example.com/a"}, "/webhooks")
    asked(
        200,
        {"url": f"https://hooks.example.com/a?token={PLANTED['hook_changed']}"},
        f"/webhooks/{other['id']}",
        "PATCH",
    )
    steps = [
        {"name": "here", "model": {"hf_hub_token": PLANTED["hub"]}},
        {"name": "hub", "model": {"model_name_or_path": "someone/private", "hf_hub_token": PLANTED["in_step"]}},
    ]
    job_id = str(asked(201, job | {"steps": steps})["id"])
    asked(422, {"labels": {"a": PLANTED["patched"]}}, f"/jobs/{job_id}", "PATCH")
    return job_id


def note(said: list[str], response: Any) -> None:
    record(FAMILY).note(response.status_code)
    said.append(f"{response.headers} {response.text}")


def listen(settings: Settings, said: list[str]) -> None:
    """Every command that the broker is given until it ends."""
    broker = redis.Redis(unix_socket_path=str(settings.home / "broker" / "broker.sock"))
    try:
        with broker.monitor() as monitor:
            for command in monitor.listen():
                said.append(str(command))
    except (redis.RedisError, OSError, ValueError):
        pass


def ended(http: httpx2.Client, job_id: str) -> Any:
    ends_at = time.monotonic() + 200
    while (job := http.get(f"/jobs/{job_id}").json())["state"] not in ("succeeded", "failed", "cancelled"):
        assert time.monotonic() < ends_at, job
        time.sleep(0.2)
    return job


def tables(database: Path) -> str:
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return "\n".join(str(connection.execute(f'SELECT * FROM "{name}"').fetchall()) for name in names)
