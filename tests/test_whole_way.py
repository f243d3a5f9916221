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
from tests.fake_rewards import FakeRewards, by_letter, fake_rewards, scores

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SHORT = {"max_steps": 6, "save_steps": 3, "logging_steps": 2, "per_device_train_batch_size": 4}
# All but the one that asks a server of its own: tests/examples/test_ppo.py runs that one.
FILES = sorted(
    {path.name for path in EXAMPLES.iterdir() if path.suffix in (".json", ".yaml")} - {"ppo-api.yaml", "evaluate.json"}
)
# What each stage tells of its updates beside the loss.
REWARDS = {"rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"}
SERIES = {
    "pt": set[str](),
    "sft": set[str](),
    "rm": REWARDS,
    "dpo": REWARDS,
    "ppo": {"score", "reward", "kl", "kl_coef", "entropy", "clip_fraction", "policy_loss", "value_loss", "explained_variance"},
}


@pytest.fixture(scope="module")
def rewards() -> Iterator[FakeRewards]:
    with fake_rewards() as server:
        yield server


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, rewards: FakeRewards) -> Iterator[Embedded]:
    home = tmp_path_factory.mktemp("home")
    roots = {"models_root": EXAMPLES / "models", "datasets_root": EXAMPLES}
    settings = Settings(home=home, port=0, reward_hosts=rewards.host, generate_wait_seconds=240, **roots)
    with running(settings) as started:
        yield started


@pytest.fixture
def client(service: Embedded) -> Iterator[Client]:
    with service.client() as opened:
        yield opened


def ended(client: Client, job_id: str, seconds: float = 240) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        job = client.job(job_id)
        if job["state"] in ("succeeded", "failed", "cancelled"):
            return job
        time.sleep(0.1)
    raise AssertionError(f"not in {seconds} s: {job['state']}, {job['progress']}\n{client.logs(job_id)[-2000:]}")


def short(file: str) -> dict[str, Any]:
    """An example of fewer updates and rows."""
    text = (EXAMPLES / file).read_text(encoding="utf-8")
    document = json.loads(text) if file.endswith(".json") else yaml.safe_load(text)
    if "model" not in document:
        document.pop("num_train_epochs", None)
        return document | SHORT | {"max_samples": 80}
    for step in (document, *document.get("steps", [])):
        if "training" in step:
            step["training"] = {k: v for k, v in step["training"].items() if k not in ("num_train_epochs", "save_strategy")}
            step["training"] |= SHORT
        if "generating" in step:
            step["generating"]["max_new_tokens"] = 6
            step["finetuning"]["ppo_buffer_size"] = 1
    document["training"] = document.get("training", {}) | SHORT
    document["data"]["max_samples"] = 80
    return document


@pytest.mark.parametrize("file", FILES)
def test_every_example_succeeds(client: Client, file: str) -> None:
    job = ended(client, client.submit(short(file))["id"])
    assert job["state"] == "succeeded", f"{job['reason']}: {job['sentence']}\n{client.logs(job['id'])[-2000:]}"
    assert job["attempt"] == 1
    measured, saved = client.metrics(job["id"]), client.checkpoints(job["id"])
    assert {row["step"] for row in measured} == {step["name"] for step in job["steps"]}
    for step in job["steps"]:
        own = [point for point in saved if point["step"] == step["name"]]
        assert [point["global_step"] for point in own] == [3, 6]
        assert step["output"].endswith(f"/{step['name']}/checkpoint-6")
        rows = {row["checkpoint"]: row["measures"] for row in measured if row["step"] == step["name"]}
        assert set(rows) == {"base", 3, 6}
        assert rows[6]["kl_from_base"]["value"] > 0
        require_learned(step["stage"], rows)
        for name in {"loss", *SERIES[step["stage"]]}:
            assert client.series(job["id"], name, step["name"])["step"] == [2, 4, 6], name


def test_the_example_that_evaluates_says_how_many_questions_it_answered_rightly(client: Client) -> None:
    job = ended(client, client.submit(json.loads((EXAMPLES / "evaluate.json").read_text(encoding="utf-8")))["id"])
    assert job["state"] == "succeeded", f"{job['reason']}: {job['sentence']}\n{client.logs(job['id'])[-2000:]}"
    (row,) = client.metrics(job["id"])
    accuracy = row["measures"]["accuracy"]
    low, high = accuracy["interval"]
    assert 0 <= low <= accuracy["value"] <= high <= 1
    names = {artifact["name"] for artifact in client.artifacts(job["id"])}
    assert {name.rpartition("/")[2] for name in names} >= {"results.json", "questions.jsonl"}


def require_learned(stage: str, rows: dict[str | int, Any]) -> None:
    """Texts, answers, or pairs of them. A few updates of dpo and ppo show no more than that the model moved."""
    learned = {"pt": "cross_entropy", "sft": "cross_entropy", "rm": "preference_cross_entropy"}
    if stage in learned:
        before, after = rows["base"][learned[stage]], rows[6][learned[stage]]
        assert after["value"] < before["value"]
        assert after["versus_base"]["value"] < 0
    low, high = rows[6]["perplexity"]["interval"]
    assert low < rows[6]["perplexity"]["value"] < high


def test_a_step_that_failed_is_done_again_alone_and_those_after_it_are_not_begun_before(
    client: Client, rewards: FakeRewards
) -> None:
    document = short("sft-rm-ppo.yaml") | {"measures": {"names": ""}}
    last, again = document["steps"][2], {"name": "again", "model": {"model_name_or_path": "@ppo"}}
    last["finetuning"] |= {"reward_model": rewards.url, "reward_model_type": "api", "ppo_epochs": 1}
    document["steps"].append(again)
    rewards.answers = [lambda asked: scores([])]
    failed = ended(client, client.submit(document)["id"])
    assert (failed["state"], failed["reason"]) == ("failed", "reward_api_wrong"), failed["sentence"]
    made = [step["output"] for step in failed["steps"]]
    assert [bool(output) for output in made] == [True, True, False, False]
    assert begun(client, failed["id"]) == ["sft", "rm", "ppo"]
    before = client.checkpoints(failed["id"])

    rewards.answers = [by_letter]
    client.retry(failed["id"])
    job = ended(client, failed["id"])
    assert (job["state"], job["attempt"]) == ("succeeded", 2), job["sentence"]
    assert begun(client, job["id"]) == ["sft", "rm", "ppo", "ppo", "again"]
    assert [step["output"] for step in job["steps"]][:2] == made[:2]
    assert [step["finished_at"] for step in job["steps"]][:2] == [step["finished_at"] for step in failed["steps"]][:2]
    after = client.checkpoints(job["id"])
    assert [point for point in after if point["step"] in ("sft", "rm")] == before
    assert {point["attempt"] for point in after if point["step"] in ("ppo", "again")} == {2}


def begun(client: Client, job_id: str) -> list[str]:
    return [event["data"]["step"] for event in client.events(job_id) if event["kind"] == "step_started"]


def test_a_data_set_sent_in_pieces_is_trained_on_by_name_and_what_was_made_can_be_had_whole_or_in_part(
    service: Embedded, client: Client, tmp_path: Path
) -> None:
    document = short("sft-lora.json")
    document["data"]["dataset"] = sent_in_pieces(service, client, tmp_path / "mine.jsonl", n_rows=40)
    job = ended(client, client.submit(document)["id"])
    (loaded,) = [event["data"] for event in client.events(job["id"]) if event["kind"] == "data_loaded"]
    assert loaded["rows"] == 36, "40 less the tenth that is held out"
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


def sent_in_pieces(service: Embedded, client: Client, file: Path, n_rows: int) -> str:
    """The name and the version of what was sent."""
    rows = json.loads((EXAMPLES / "data" / "instructions.json").read_text(encoding="utf-8"))[:n_rows]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    upload = client.begin_upload("mine", file)
    headers = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    first = httpx2.patch(service.url + upload["url"], content=file.read_bytes()[:1000], headers=headers)
    assert (first.status_code, first.headers["Upload-Offset"]) == (204, "1000")
    return f"mine@{client.send(upload, file)['version']}"


def test_what_was_trained_predicts_and_is_asked_and_a_client_that_goes_has_it_stop(client: Client, tmp_path: Path) -> None:
    document = short("sft-lora.json")
    predict = {"name": "predict", "do": "predict", "model": {"model_name_or_path": "@sft"}, "generating": {"max_new_tokens": 4}}
    job = ended(client, client.submit(document | {"steps": [{"name": "sft"}, predict]})["id"])
    assert job["state"] == "succeeded", f"{job['reason']}: {job['sentence']}\n{client.logs(job['id'])[-2000:]}"
    file = client.download(job["id"], "predict/generated_predictions.jsonl", tmp_path)
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    (measured,) = [row for row in client.metrics(job["id"]) if row["step"] == "predict"]
    assert measured["measures"]["predict_rouge-l"]["n_documents"] == len(rows) > 1
    assert measured["of"]["checkpoint"] == 6

    (event, _), *pieces, (ending, told) = client.generate(job["id"], 6, prompt="Say a word.", max_new_tokens=12)
    assert (event, ending) == ("started", "done"), told
    assert "".join(data["text"] for _, data in pieces) == told["text"]
    assert told["log_probability"] < 0 < told["tokens"] <= 12

    reading = client.generate(job["id"], 6, prompt="Say a word.", max_new_tokens=1000, repetition_penalty=9.0)
    job_id = next(reading)[1]["job_id"]
    next(reading)
    reading.close()
    deadline = time.monotonic() + 120
    while [one["id"] for one in client.jobs() if one["id"] == job_id]:
        assert time.monotonic() < deadline, client.job(job_id)
        time.sleep(0.1)


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
    assert ended(client, job_id)["state"] == "cancelled"


def test_the_command_line_submits_and_watches_to_the_end(service: Embedded, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(short("sft-lora-flat.yaml")), encoding="utf-8")
    command = [sys.executable, "-m", "service.cli", "--url", service.url, "submit", str(file), "--watch"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All steps are done." in done.stdout


@pytest.mark.long
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
    assert kept == client.checkpoints(job["id"], rank_by="cross_entropy")[0]["global_step"]
    assert kept <= best, "the first that is as good as the best, within a standard error"
    measured = {row["checkpoint"]: row for row in rows if row["step"] == "later"}
    assert [row["of"] and row["of"]["checkpoint"] for row in measured.values()] == [None, kept, 12]
    assert measured[1]["of"]["job_id"] == job["id"]
    assert measured[1]["measures"]["cross_entropy"]["value"] == pytest.approx(bits[kept], rel=1e-5)
    assert measured[2]["measures"]["cross_entropy"]["value"] == pytest.approx(bits[12], rel=1e-5)


def test_the_last_checkpoint_of_the_demo_is_near_the_entropy_rate_of_its_source(client: Client) -> None:
    """The demo's own numbers, over a third of its pretraining: the floor holds, and is neared."""
    source = runpy.run_path(str(EXAMPLES / "source.py"))
    document = yaml.safe_load((EXAMPLES / "demo.yaml").read_text(encoding="utf-8"))
    document["steps"] = document["steps"][:1]
    document["steps"][0]["training"] |= {"num_train_epochs": 2, "save_steps": 43}
    job = ended(client, client.submit(document)["id"])
    assert job["state"] == "succeeded", job["sentence"]
    bits = [row["measures"]["cross_entropy"]["value"] for row in client.metrics(job["id"]) if row["checkpoint"] != "base"]
    floor = source["entropy_of_text"](240) / 240
    assert bits == sorted(bits, reverse=True)
    assert floor < bits[-1] < 1.12 * floor
