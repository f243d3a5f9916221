"""The pages whose commands are run on one service: their jobs are accepted, too, and what they count and calculate is right."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.client import Client
from service.embedded import Embedded, running
from service.settings import Settings
from service.specs import alerts, measures
from service.specs.read import read_job
from tests.containers import ROOT
from tests.docs.pages import commands
from tests.docs.test_data_and_models import examples
from tests.service.cli.test_serve import KEY, serving
from tests.specs.job_documents import a_job

JOBS = {page: job for page in ("choose-a-checkpoint", "guard-a-run", "qlora-sft") for job in examples(page)}


@pytest.mark.parametrize("page", JOBS)
def test_the_job_of_a_page_is_accepted(page: str) -> None:
    given = JOBS[page]
    read = read_job(given if "model" in given else a_job(**given))
    assert read.notices == ()


def explanation(name: str) -> str:
    return " ".join((ROOT / "docs" / "explanation" / f"{name}.md").read_text(encoding="utf-8").split())


def test_the_page_on_guards_names_alerts_that_there_are() -> None:
    page = (ROOT / "docs" / "how-to" / "guard-a-run.md").read_text(encoding="utf-8")
    known = {alert.name for alert in alerts.ALERTS}
    named = set(re.findall(r"`(\w+)`", page.split("| what is feared")[1].split("\n\n")[0])) & known
    assert named >= {"entropy_collapse", "loops", "forgetting", "memorization", "over_fit", "over_confidence", "numeric"}


def test_the_verdicts_on_the_notebook_are_counted_rightly() -> None:
    found = Counter(measure.notebook.verdict for measure in measures.REGISTRY if measure.notebook)
    page = explanation("the-notebook")
    for verdict, number in found.items():
        assert re.search(rf"{number} (is|are) (a )?{verdict}", page), verdict
    assert sum(found.values()) == 43


# -- their commands, on a whole service -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def service() -> Iterator[Embedded]:
    with tempfile.TemporaryDirectory(prefix="fb-p-", ignore_cleanup_errors=True) as folder:
        settings = Settings(home=Path(folder), models_root=ROOT / "examples" / "models", datasets_root=ROOT / "examples", port=0)
        with running(settings) as started:
            yield started


@pytest.fixture(scope="module")
def trained(service: Embedded) -> tuple[str, str]:
    """Two jobs of four updates, with checkpoints 2 and 4."""
    training = {"max_steps": 4, "save_steps": 2, "per_device_train_batch_size": 4}
    data = {"dataset": "instructions", "template": "alpaca", "cutoff_len": 64, "max_samples": 40, "val_size": 8}
    ids = []
    with service.client() as client:
        for rate in (1e-3, 2e-3):
            document = {
                "model": {"model_name_or_path": "tiny-llama"},
                "data": data,
                "training": training | {"learning_rate": rate},
            }
            ids.append(client.submit(document)["id"])
        assert [client.wait(job_id)["state"] for job_id in ids] == ["succeeded", "succeeded"]
    return ids[0], ids[1]


def run(service: Embedded, folder: Path, blocks: list[str], **variables: str) -> str:
    """What a page's commands print, one after another in one shell, with this checkout's command line as `finebits`."""
    (folder / "bin").mkdir()
    (folder / "bin" / "finebits").write_text(f'#!/bin/sh\nexec {sys.executable} -m service.cli "$@"\n')
    (folder / "bin" / "finebits").chmod(0o755)
    if not (folder / "examples").exists():
        (folder / "examples").symlink_to(ROOT / "examples")
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    places = {"FINEBITS_HOME": str(service.settings.home), "FINEBITS_URL": service.url, "PYTHONPATH": str(ROOT), "PATH": path}
    script = "\n".join(blocks).replace("http://127.0.0.1:8765", service.url).replace(".venv/bin/finebits", "finebits")
    command = ["bash", "-euo", "pipefail", "-c", script]
    environment = os.environ | places | variables
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280, input="y\n")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.long
def test_the_page_on_the_command_line(service: Embedded, trained: tuple[str, str], tmp_path: Path) -> None:
    said = run(service, tmp_path, commands("command-line"), OTHER=trained[1])
    for words in ("version: Finebits", "succeeded", "sft: loss", "0 queued", "other texts", "learning_rate"):
        assert words in said
    assert json.loads((tmp_path / "ended.json").read_text())["job"]["state"] == "succeeded"
    assert json.loads((tmp_path / "measured.json").read_text())[0]["checkpoint"] == "base"
    assert "complete -o default" in run_completion(tmp_path)


def run_completion(folder: Path) -> str:
    command = ["bash", "-c", f"{commands('command-line')[-1]}\ncomplete -p finebits"]
    environment = os.environ | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.long
def test_the_page_on_choosing(service: Embedded, trained: tuple[str, str], tmp_path: Path) -> None:
    said = run(service, tmp_path, commands("choose-a-checkpoint"), JOB=trained[0])
    assert "Checkpoints by cross_entropy" in said
    assert (service.settings.exports_root / "chosen" / "model.safetensors").exists()


@pytest.mark.long
def test_the_page_on_guards(service: Embedded, trained: tuple[str, str], tmp_path: Path) -> None:
    assert "entropy [bits/token]" in run(service, tmp_path, commands("guard-a-run"), JOB=trained[0])


@pytest.mark.long
def test_the_page_on_certificates_has_what_a_certificate_has(service: Embedded, trained: tuple[str, str], tmp_path: Path) -> None:
    run(service, tmp_path, commands("read-a-certificate"), JOB=trained[0])
    found: dict[str, Any] = json.loads((tmp_path / "certificate.json").read_text())
    page = (ROOT / "docs" / "how-to" / "read-a-certificate.md").read_text(encoding="utf-8")
    assert [name for name in found if f"`{name}`" not in page and name != "unit"] == []


@pytest.mark.long
def test_the_page_on_qlora(service: Embedded, tmp_path: Path) -> None:
    (tmp_path / "qlora.json").write_text(json.dumps(JOBS["qlora-sft"]))
    plan, rest = commands("qlora-sft")
    assert "of them train" in run(service, tmp_path, [plan])
    with service.client() as client:
        job = next(client.jobs(state="succeeded"))
    assert job["name"] == "qlora on instructions"
    (tmp_path / "again").mkdir()
    assert "succeeded" in run(service, tmp_path / "again", [rest], JOB=job["id"])


@pytest.mark.long
def test_the_page_on_predicting(service: Embedded, trained: tuple[str, str], tmp_path: Path) -> None:
    look, stream = (
        block.replace("job-.../sft/40", f"{trained[0]}/sft/4").replace("/40/", "/4/") for block in commands("predict")
    )
    said = run(service, tmp_path, [look, stream], JOB=trained[0])
    assert "bits a token" in said
    assert "event: done" in said


@pytest.mark.long
def test_the_page_on_steering(service: Embedded, tmp_path: Path) -> None:
    document = a_job(model={"model_name_or_path": "tiny-llama"}, training={"max_steps": 100_000, "save_steps": 100_000})
    document["data"] = {"dataset": "instructions", "template": "alpaca", "cutoff_len": 64, "val_size": 8}
    with service.client() as client:
        job = client.submit(document)["id"]
        (pausing, ending, patching, deleting) = (block.replace("JOB", job) for block in commands("steer-a-job"))
        pause, resume = pausing.strip().splitlines()
        cancel, retry = ending.strip().splitlines()
        for name, command, state in (
            ("pause", pause, "paused"),
            ("resume", resume, "running"),
            ("cancel", cancel, "cancelled"),
            ("retry", retry, "running"),
        ):
            (tmp_path / name).mkdir()
            run(service, tmp_path / name, [command])
            assert any(sighting.job["state"] == state for sighting in client.watch(job)), name
        (tmp_path / "rest").mkdir()
        assert "priority 10" in run(service, tmp_path / "rest", [patching])
        client.cancel(job)
        client.wait(job)
        (tmp_path / "end").mkdir()
        assert "is deleted" in run(service, tmp_path / "end", [deleting])


@pytest.mark.long
def test_the_page_on_data_sets(service: Embedded, tmp_path: Path) -> None:
    row = {"instruction": "Add 1 and 2.", "output": "3"}
    (tmp_path / "talks.jsonl").write_text(json.dumps(row) + "\n")
    said = run(service, tmp_path, commands("data-sets"))
    assert "upload-offset: 0" in said.lower()
    with service.client() as client:
        assert [version["rows"] for version in client.versions("talks")] == [1]


@pytest.mark.long
def test_the_page_on_pipelines(service: Embedded, tmp_path: Path) -> None:
    steps = " ".join(f"--set steps.{number}.training.max_steps=4" for number in range(3))  # all of them take minutes
    blocks = [re.sub(r"(submit \S+\.yaml)", rf"\1 {steps}", block) for block in commands("pipelines")]
    said = run(service, tmp_path, blocks)
    assert said.count("succeeded") == 2
    for words in ("preference_cross_entropy", "ppo: score", "ppo: kl"):
        assert words in said


@pytest.mark.long
def test_the_page_on_preferences(service: Embedded, tmp_path: Path) -> None:
    (block,) = commands("preferences")
    said = run(service, tmp_path, [block.replace("dpo-lora.json", "dpo-lora.json --set training.max_steps=12")])
    for words in ("of them train", "succeeded", "dpo: rewards/accuracies", "cross_entropy", "Checkpoints by cross_entropy"):
        assert words in said


@pytest.mark.long
def test_the_page_on_asking_again(service: Embedded, tmp_path: Path) -> None:
    (ask,) = commands("ask-again")
    first, again = run(service, tmp_path, [ask, "echo", ask]).split("\n")
    assert json.loads(first)["id"] == json.loads(again)["id"]


@pytest.mark.long
def test_the_quickstart(service: Embedded, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    blocks = [block for block in re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE) if "make" not in block]
    shorter = json.loads((ROOT / "examples" / "sft-lora.json").read_text())
    shorter["training"] |= {"max_steps": 4}  # the whole of it is trained by tests/examples
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "sft-lora.json").write_text(json.dumps(shorter))
    said = run(service, tmp_path, blocks)
    for words in ('"id"', "succeeded", "cross_entropy", "sft 4"):
        assert words in said


@pytest.mark.long
def test_the_page_on_keys(tmp_path: Path) -> None:
    """On an API of its own: with a key there is no open door any more."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "finebits").write_text(f'#!/bin/sh\nexec {sys.executable} -m service.cli "$@"\n')
    (tmp_path / "bin" / "finebits").chmod(0o755)
    made, *asked = commands("keys")
    create, revoke = made.split("finebits revoke")[0].rpartition("finebits keys revoke")[::2]
    with serving(tmp_path / "home") as served:
        paths = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "KEY": KEY}
        environment = os.environ | paths | {"FINEBITS_HOME": str(tmp_path / "home")}

        def said(block: str) -> str:
            script = block.replace("http://127.0.0.1:8765", f"http://127.0.0.1:{served.port}")
            command = ["bash", "-euo", "pipefail", "-c", script]
            return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

        listed = said(create)
        key_id = re.findall(r"\bkey-\w+", listed)[0]
        assert "is revoked" in said(f"finebits keys revoke {revoke}".replace("key-abcdefgh", key_id))
        assert json.loads(said(asked[0]))["owner"] == "ann"
        assert json.loads(said(asked[1]))["quota"]["running"] == 4


@pytest.mark.long
def test_the_page_on_several_gpus(tmp_path: Path) -> None:
    (command,) = commands("several-gpus")
    environment = os.environ | {"FINEBITS_HOME": str(tmp_path), "FINEBITS_PORT": "0", "PYTHONPATH": str(ROOT)}
    script = command.replace("finebits up", f"exec {sys.executable} -m service.cli up")
    with subprocess.Popen(["bash", "-c", script], env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            url = next(line.split()[-1] for line in process.stdout if "Finebits is at" in line)
            with Client(url) as client:
                assert [slot["kind"] for slot in client.workers()[0]["slots"]] == ["gpu", "gpu", "cpu"]
        finally:
            process.terminate()
