"""The pages on measuring later, on evaluating and on looking at data: their commands are run on a whole service."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.client import Client
from service.embedded import Embedded, running
from service.settings import Settings
from service.specs.read import read_job
from tests.containers import ROOT
from tests.docs.pages import commands
from tests.docs.test_data_and_models import examples
from tests.specs.job_documents import a_job

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def service() -> Iterator[Embedded]:
    with tempfile.TemporaryDirectory(prefix="fb-l-", ignore_cleanup_errors=True) as folder:
        settings = Settings(home=Path(folder), models_root=ROOT / "examples" / "models", datasets_root=ROOT / "examples", port=0)
        with running(settings) as started:
            yield started


def said(service: Embedded, tmp_path: Path, block: str, **variables: str) -> str:
    """What the commands print, with this checkout's command line as `finebits`, and the service's address for the page's."""
    finebits = tmp_path / "finebits"
    finebits.write_text(f'#!/bin/sh\nexec {sys.executable} -m service.cli "$@"\n')
    finebits.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "FINEBITS_URL": service.url,
        **variables,
    }
    script = block.replace("http://127.0.0.1:8765", service.url)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ended(client: Client, job_id: str) -> dict[str, Any]:
    *_, last = client.watch(job_id, every=0.1)
    assert last.job["state"] == "succeeded", last.job["sentence"]
    return dict(last.job)


def test_the_page_on_looking_at_data(service: Embedded, tmp_path: Path) -> None:
    look, post, as_json = commands("inspect-data")
    shown = said(service, tmp_path, look)
    assert "540 rows, 60 held out" in shown
    assert "trained_share" in shown
    with service.client() as client:
        job = ended(client, json.loads(said(service, tmp_path, post))["id"])
        (row,) = client.metrics(job["id"])
        assert (row["checkpoint"], row["split"]) == ("base", "train")
        (share,) = client.metrics(job["id"], measure="trained_share")
        assert 0 < (share["measures"]["trained_share"]["value"] or 0) < 1
        found = json.loads(said(service, tmp_path, as_json))
    page = (ROOT / "docs" / "how-to" / "inspect-data.md").read_text(encoding="utf-8")
    measures = {name.partition(":")[0] for name in found["measures"]}
    named = {name for name in measures if f"`{name}" in page}
    assert measures - named == {"empirical_entropy", "code_redundancy"}
    assert [piece["trained"] for piece in found["examples"][0]["pieces"]] == [False, True]


def test_the_page_on_measuring_later(service: Embedded, tmp_path: Path) -> None:
    measure, look = commands("measure-later")
    training = {"max_steps": 4, "save_steps": 2, "per_device_train_batch_size": 4}
    data = {"dataset": "instructions", "template": "alpaca", "cutoff_len": 64, "max_samples": 40, "val_size": 8}
    with service.client() as client:
        trained = client.submit({"model": {"model_name_or_path": "tiny-llama"}, "data": data, "training": training})
        ended(client, trained["id"])
        shown = said(service, tmp_path, measure, JOB=trained["id"])
        measured = next(job["id"] for job in client.jobs())
        assert measured in shown
        answer = json.loads(said(service, tmp_path, look, MEASURED=measured))
        (row,) = answer["data"]
        assert row["of"] == {"job_id": trained["id"], "step": "sft", "checkpoint": 2, "model": None}
        assert [row["checkpoint"] for row in client.metrics(measured)] == ["base", 1, 2]


def test_the_page_on_evaluating(service: Embedded, tmp_path: Path) -> None:
    submit, look = commands("evaluate")
    assert "24 questions are answered rightly" in said(service, tmp_path, submit)
    with service.client() as client:
        (evaluated,) = [job["id"] for job in client.jobs() if job["name"] == "a benchmark of our own"]
        ended(client, evaluated)
        assert {file["name"] for file in client.artifacts(evaluated)} == {"evaluate/results.json", "evaluate/questions.jsonl"}
    (row,) = json.loads(said(service, tmp_path, look, JOB=evaluated))["data"]
    assert (row["checkpoint"], row["split"]) == ("base", "test")
    assert {"accuracy", "accuracy:STEM", "accuracy:arguments"} <= set(row["measures"])
    page = (ROOT / "docs" / "how-to" / "evaluate.md").read_text(encoding="utf-8")
    (found,) = json.loads(said(service, tmp_path, look.replace("?measure=accuracy", ""), JOB=evaluated))["data"]
    assert {name for name in found["measures"] if f"`{name.partition(':')[0]}" not in page} == set()


def test_the_jobs_of_the_pages_are_accepted() -> None:
    whole, pipeline = examples("measure-later")
    (step,) = read_job(whole).resolved.steps
    assert step.do == "measure"
    assert [one.do for one in read_job(a_job(**pipeline)).resolved.steps] == ["train", "measure"]
    whole, pipeline = examples("evaluate")
    (step,) = read_job(whole).resolved.steps
    assert (step.do, step.evaluation.task) == ("evaluate", "primer")
    assert [one.do for one in read_job(a_job(**pipeline)).resolved.steps] == ["train", "evaluate"]
