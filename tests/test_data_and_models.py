"""Data and model arguments together, as a user would combine them: real processes, real HTTP."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.client import Client
from service.embedded import running
from service.settings import Settings
from tests.test_whole_way import EXAMPLES, ended

pytestmark = pytest.mark.slow

TOOLS = json.dumps([{"name": "weather", "description": "of a town", "parameters": {"properties": {"town": {"type": "string"}}}}])
INFO = {"talks": {"file_name": "talks.jsonl", "formatting": "sharegpt", "columns": {"messages": "said", "tools": "tools"}}}


def talk(town: str) -> dict[str, Any]:
    said = [
        {"from": "human", "value": f"is it warm in {town}"},
        {"from": "function_call", "value": json.dumps({"name": "weather", "arguments": {"town": town}})},
        {"from": "observation", "value": '{"degrees": 30}'},
        {"from": "gpt", "value": f"yes it is warm in {town}"},
    ]
    return {"said": said, "tools": TOOLS}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the examples' model among its models, and sixteen conversations with tools among its data sets."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(EXAMPLES / "models", home / "models")
    data = home / "datasets" / "data"
    data.mkdir(parents=True)
    (data / "dataset_info.json").write_text(json.dumps(INFO))
    towns = [f"{first}{second}ville" for first in ("north", "south", "east", "west") for second in ("bury", "ham", "ton", "by")]
    (data / "talks.jsonl").write_text("\n".join(json.dumps(talk(town)) for town in towns))
    return home


@pytest.fixture(scope="module")
def client(home: Path) -> Iterator[Client]:
    with running(Settings(home=home, port=0)) as started, started.client() as opened:
        yield opened


def a_job(*steps: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": {"model_name_or_path": "tiny-llama"},
        "data": {"dataset": "talks", "template": "qwen", "cutoff_len": 1024, "val_size": 2, "sft_packing": True},
        "training": {
            "max_steps": 4,
            "save_steps": 4,
            "logging_steps": 1,
            "per_device_train_batch_size": 1,
            "learning_rate": 1e-2,
        },
        "steps": list(steps),
    }


def succeeded(client: Client, document: dict[str, Any]) -> str:
    job = ended(client, client.submit(document)["id"])
    assert job["state"] == "succeeded", f"{job['reason']}: {job['sentence']}\n{client.logs(job['id'])[-3000:]}"
    return str(job["id"])


def told(client: Client, job_id: str, step: str) -> dict[str, dict[str, Any]]:
    """The last event of each kind."""
    return {event["kind"]: event["data"] for event in client.events(job_id) if event["data"].get("step") == step}


def cross_entropies(client: Client, job_id: str, step: str) -> dict[Any, float]:
    rows = client.metrics(job_id)
    return {row["checkpoint"]: row["measures"]["cross_entropy"]["value"] for row in rows if row["step"] == step}


def test_calls_are_packed_with_tokens_that_were_new_and_the_adapter_goes_on_in_four_bits(client: Client, home: Path) -> None:
    first = {"name": "learn", "model": {"resize_vocab": True}}
    second = {"name": "more", "model": {"adapter_name_or_path": "@learn", "quantization_bit": 4}}
    job_id = succeeded(client, a_job(first, second))

    learn, more = told(client, job_id, "learn"), told(client, job_id, "more")
    assert (learn["model_loaded"]["vocabulary"], learn["model_loaded"]["quantization"]) == (1088, None)
    assert (more["model_loaded"]["vocabulary"], more["model_loaded"]["quantization"]) == (1088, "bitsandbytes")
    assert more["model_loaded"]["trainable_parameters"] == learn["model_loaded"]["trainable_parameters"]
    assert (learn["data_packed"]["examples"], learn["data_packed"]["blocks"]) == (14, 7)
    assert 0 < learn["data_loaded"]["trained_tokens"] < learn["data_loaded"]["tokens"]
    learned = cross_entropies(client, job_id, "learn")
    assert learned["base"] > learned[4] > cross_entropies(client, job_id, "more")[4]

    # what was downloaded is an adapter as any other
    folder = home / "models" / "learned"
    folder.mkdir()
    for artifact in client.artifacts(job_id):
        if "learn/checkpoint-4/" in artifact["name"]:
            client.download(job_id, artifact["name"], folder / artifact["name"].rpartition("/")[2])
    again = a_job({"name": "again", "model": {"adapter_name_or_path": "learned"}, "measures": {"base": "step"}})
    (planned,) = client.submit(again, dry_run=True)["steps"]
    found = succeeded(client, again)
    assert told(client, found, "again")["model_loaded"]["trainable_parameters"] == planned["trainable_parameters"]
    assert cross_entropies(client, found, "again")["base"] == pytest.approx(learned[4], abs=1e-4)
