"""The job of the quickstart is one that the service takes, once its model and its data set are there."""

import json
import re
import shutil
from pathlib import Path

from service.library.check import Roots, check
from service.specs.read import read_job

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")


def test_the_quickstarts_job_is_accepted(tmp_path: Path) -> None:
    entry, job = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL))
    models, datasets = tmp_path / "models", tmp_path / "datasets"
    shutil.copytree(ROOT / "examples" / "models" / "tiny-llama", models / job["model"]["model_name_or_path"])
    datasets.mkdir()
    (datasets / "dataset_info.json").write_text(json.dumps(entry))
    row = json.loads(re.findall(r"`(\{.instruction.*?\})`", PAGE)[0])
    (datasets / "support.jsonl").write_text("\n".join([json.dumps(row)] * 20))
    read = read_job(job, lambda spec, resolved: check(Roots(models, datasets), spec, resolved))
    assert read.resolved.steps[0].finetuning.stage == "sft"
