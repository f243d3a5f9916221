"""Every job file is accepted, names what is there, and says the same in both forms."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.library import benchmarks
from service.specs.dataset_info import files_of, read_dataset_info
from service.specs.read import read_job
from service.specs.roots import inside

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FILES = sorted([*EXAMPLES.glob("*.json"), *EXAMPLES.glob("*.yaml")])


def document(file: Path) -> Any:
    text = file.read_text(encoding="utf-8")
    return json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)


def test_these_are_the_job_files() -> None:
    names = [
        "demo.yaml",
        "dpo-lora.json",
        "evaluate.json",
        "ppo-api.yaml",
        "pretrain-full.json",
        "pt-sft-dpo.yaml",
        "rm-lora.json",
        "sft-freeze.json",
        "sft-lora-flat.yaml",
        "sft-lora.json",
        "sft-rm-ppo.yaml",
    ]
    assert sorted(file.name for file in FILES) == names


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_job_file_is_accepted_and_names_what_is_there(file: Path) -> None:
    for step in read_job(document(file)).resolved.steps:
        if not step.model.model_name_or_path.startswith("@"):
            assert (inside(EXAMPLES / "models", step.model.model_name_or_path) / "config.json").exists()
        if step.do == "evaluate":
            assert benchmarks.of_step(EXAMPLES, step.evaluation).split == "test"
            continue
        folder = inside(EXAMPLES, step.data.dataset_dir)
        entries = read_dataset_info(folder)
        for name in step.data.dataset or ():
            assert all(found.exists() for found in files_of(folder, entries[name]))


def test_the_flat_file_is_the_nested_job() -> None:
    nested = read_job(document(EXAMPLES / "sft-lora.json")).resolved.model_dump()
    flat = read_job(document(EXAMPLES / "sft-lora-flat.yaml")).resolved.model_dump()
    (step,) = flat["steps"]
    for group, argument in (("data", "overwrite_cache"), ("data", "preprocessing_num_workers"), ("finetuning", "plot_loss")):
        step[group][argument] = nested["steps"][0][group][argument]  # only a flat file from elsewhere says these
    assert flat == nested
