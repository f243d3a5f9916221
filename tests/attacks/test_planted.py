"""Secrets handed to a whole running service through every door there is, and then looked for in all that it said and wrote."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
import redis
from pydantic import SecretStr
from sqlalchemy import create_engine, inspect, make_url

from service.embedded import Embedded, running
from service.settings import Settings
from tests import servers
from tests.attacks import test_injection
from tests.attacks.family import Family, record
from tests.attacks.house import KEY, opened
from tests.collector import collecting
from tests.fake_hub import fake_hub
from tests.service.webhooks.receiver import receiving

FAMILY = Family(
    name="A planted token",
    tried="tokens for hubs and a reward API in jobs, nested, flat, in a step, under a misspelt name, as a name, a label or a "
    "model, in URLs; credentials in a webhook's URL and in addresses; the operator's keys of trackers, hubs and S3; then whole "
    "jobs, one whose tracker and whose hub fail, one whose training process crashes; on SQLite and on PostgreSQL",
    promise="none stands in an answer, an event, a metric, a trace, a message or a key of the broker, a command line, a table, "
    "or a byte of any file: logs, SQLite's journal, PostgreSQL's files and its write-ahead log among them",
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
        ("crashing", "hf_", "y"),
    )
}
API_KEY = "fb-operator-" + "z" * 30


lines = test_injection.lines


def test_what_is_planted_is_found_in_nothing_that_is_said_or_stored(tmp_path: Path, lines: list[str]) -> None:
    """All but the jobs themselves: nobody works here."""
    said: list[str] = []
    settings = {"reward_hosts": "127.0.0.1:9", "mlflow_url": f"http://ann:{PLANTED['env_mlflow']}@127.0.0.1:9"}
    with opened(tmp_path, FAMILY, **settings) as house:
        house.door.headers = house.admin
        job = {"model": {"model_name_or_path": "tiny"}, "data": {"dataset": "letters", "template": "alpaca"}}
        job_id = plant(house.door, "https://hooks.example.com", said, job)
        look_around(house.door, job_id, said)
        texts = {
            "what was said": "\n".join(said),
            "the tables": tables(f"sqlite:///{tmp_path}/plain.db"),
            "the log": "\n".join(lines),
        }
        assert found_in(texts, tmp_path) == []
    assert found_in({}, tmp_path) == []
    assert job_id in texts["the tables"]
    assert "POST /jobs" in texts["the log"]


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_what_is_planted_is_found_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    for name, planted in {
        "HF_TOKEN": "env_hub", "WANDB_API_KEY": "env_wandb", "AWS_SECRET_ACCESS_KEY": "env_s3"
    }.items():  # fmt: skip
        monkeypatch.setenv(name, PLANTED[planted])
    said: list[str] = []
    with database(kind, tmp_path) as (url, folder), fake_hub() as hub, receiving() as receiver, collecting() as collector:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        receiver.answers = [(500, {})]
        settings = Settings(
            home=tmp_path / "home",
            port=0,
            database_url=url,
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
            base: dict[str, Any] = json.loads((EXAMPLES / "sft-lora.json").read_text(encoding="utf-8"))
            job_id = plant(http, receiver.url, said, base)
            job = ended(http, job_id)
            receiver.wait_for(1)
            assert job["reason"] == "unreachable_hub", job["sentence"]
            crashed = crash(http, service, said, base)
            for one in (job_id, crashed):
                look_around(http, one, said)
            assert PLANTED["in_step"] in str(hub.asked), "the hub was never asked with the token that opens it"
            said += [str(process.cmdline()) for process in psutil.Process().children(recursive=True)]
            texts = {"the tables": tables(url), "the broker": kept_by_the_broker(settings)}
            assert found_in(texts, tmp_path, folder) == [], "while it runs"
        texts |= {"what was said": "\n".join(said), "the traces": str(collector.spans)}
        assert "mlflow" in texts["what was said"], "the tracker never failed"
        assert f"token={PLANTED['hook_query']}" in str(receiver.came), "a receiver is told at the whole of its URL"
        assert {"api.log", "worker.log", "log.txt"} <= {path.name for path in tmp_path.rglob("*")}
        assert job_id in texts["the tables"]
        assert any(job_id.encode() in content for content in contents(folder).values()), "PostgreSQL's files are looked at"
        assert found_in(texts, tmp_path, folder) == []


@contextmanager
def database(kind: str, home: Path) -> Iterator[tuple[str, Path]]:
    """Its URL, and the folder of all that it writes."""
    if kind == "sqlite":
        (home / "home").mkdir()
        yield f"sqlite:///{home}/home/finebits.db", home
        return
    with servers.postgresql() as url:
        yield url, Path(str(make_url(url).query["host"]))


def found_in(texts: dict[str, str], *folders: Path) -> list[tuple[str, str]]:
    """(what was planted, where it was found)"""
    secrets = {**PLANTED, "the operator's key": API_KEY, "the key of secrets": KEY.get_secret_value()}
    files = {path: content for folder in folders for path, content in contents(folder).items()}
    found = [(name, where) for name, secret in secrets.items() for where, text in texts.items() if secret in text]
    return found + [
        (name, path) for name, secret in secrets.items() for path, content in files.items() if secret.encode() in content
    ]


def contents(folder: Path) -> dict[str, bytes]:
    """Of every file, as it is now. One may go meanwhile."""
    found = {}
    for path in folder.rglob("*"):
        try:
            found[str(path)] = path.read_bytes()
        except OSError:  # a folder, a socket, or gone
            continue
    return found


def look_around(http: Any, job_id: str, said: list[str]) -> None:
    for path in ("", "/events", "/logs", "/metrics", "/checkpoints", "/artifacts"):
        note(said, http.get(f"/jobs/{job_id}{path}"))
    for path in (
        "/jobs", "/webhooks", "/audit?limit=1000", "/audit/refusals", "/workers", "/overview", "/metrics", "/v1/fine_tuning/jobs",
        "/keys", "/models", "/datasets", "/openapi.json",
    ):  # fmt: skip
        note(said, http.get(path))
    for webhook in http.get("/webhooks").json()["data"]:
        note(said, http.get(f"/webhooks/{webhook['id']}/deliveries"))


def crash(http: httpx2.Client, service: Embedded, said: list[str], base: dict[str, Any]) -> str:
    """A job with a token whose training process ends by a segmentation fault, and which is then cancelled."""
    training = {"per_device_train_batch_size": 2, "max_steps": 5000, "save_steps": 5000, "logging_steps": 1}
    model = base["model"] | {"hf_hub_token": PLANTED["crashing"]}
    response = http.post("/jobs", json=base | {"model": model, "training": training, "measures": {"names": ""}})
    note(said, response)
    job_id = str(response.json()["id"])
    _until(http, job_id, lambda job: ((job["progress"] or {}).get("global_step") or 0) > 0)
    [worker] = [child.process.pid for child in service.children if child.name == "worker"]
    below = psutil.Process(worker).children(recursive=True)
    said += [str(process.cmdline()) for process in below]
    for process in below:
        if os.getsid(process.pid) == process.pid:  # the training process leads a session of its own
            process.send_signal(signal.SIGSEGV)
    _until(http, job_id, lambda job: job["attempt"] > 1 or job["state"] != "running")
    if http.get(f"/jobs/{job_id}").json()["state"] not in ENDS:
        note(said, http.post(f"/jobs/{job_id}/cancel"))
    ended(http, job_id)
    return job_id


def kept_by_the_broker(settings: Settings) -> str:
    """Every key that there is, with what it holds."""
    with redis.Redis(unix_socket_path=str(settings.home / "broker" / "broker.sock")) as broker:
        return str([(key, broker.dump(key)) for key in broker.keys("*")])


def plant(http: Any, receiver: str, said: list[str], base: dict[str, Any]) -> str:
    """Through every door; the id of the one job that is to run, which is `base` and more."""
    job = dict(base)
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


ENDS = ("succeeded", "failed", "cancelled")


def ended(http: httpx2.Client, job_id: str) -> Any:
    return _until(http, job_id, lambda job: job["state"] in ENDS)


def _until(http: httpx2.Client, job_id: str, holds: Any) -> Any:
    ends_at = time.monotonic() + 300
    while not holds(job := http.get(f"/jobs/{job_id}").json()):
        assert time.monotonic() < ends_at, job
        time.sleep(0.2)
    return job


def tables(url: str) -> str:
    """Every row of every table."""
    engine = create_engine(url)
    with engine.connect() as connection:
        names = inspect(connection).get_table_names()
        rows = [str(connection.exec_driver_sql(f'SELECT * FROM "{name}"').fetchall()) for name in names]
    engine.dispose()
    return "\n".join(rows)
