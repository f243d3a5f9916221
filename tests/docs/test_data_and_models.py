"""Every JSON example of the pages on data sets, models and stages, read as the service and the worker would."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from service.library.formats import conversation_of, labelled_of, pair_of, text_of
from service.specs.dataset_info import DatasetEntry, read_dataset_info
from service.specs.ledger import GROUPS
from service.specs.read import read_job
from tests.containers import ROOT
from tests.specs.job_documents import a_job
from worker.data.files import read_rows


def examples(page: str) -> list[dict[str, Any]]:
    text = (ROOT / "docs" / "how-to" / f"{page}.md").read_text(encoding="utf-8")
    return [json.loads(block) for block in re.findall(r"^```json\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)]


def is_job(example: dict[str, Any]) -> bool:
    return example.keys() <= {*GROUPS, "steps"}


def is_info(example: dict[str, Any]) -> bool:
    return not is_job(example) and all(isinstance(entry, dict) for entry in example.values())


PAGES = ("data-sets", "models", "preferences", "reward-models", "ppo", "pipelines")
JOBS = [pytest.param(example, id=f"{page}: {example}"[:90]) for page in PAGES for example in examples(page)]
DATA = examples("data-sets")
ROWS = [(info, row) for info, row in pairwise(DATA) if is_info(info) and not is_info(row) and not is_job(row)]


def test_there_are_examples_of_every_kind() -> None:
    assert [next(iter(info)) for info, _ in ROWS] == ["support", "talks", "messages", "books", "ranked", "judged"]
    assert sum(map(is_job, DATA)) == 5
    assert all(map(is_job, [*examples("models"), *examples("preferences")]))


@pytest.mark.parametrize("example", [job for job in JOBS if is_job(job.values[0])])
def test_a_job_of_the_pages_is_accepted(example: dict[str, Any]) -> None:
    read = read_job(a_job(**example))
    assert read.notices == ()
    for group, values in example.items():
        if group != "steps":
            kept = getattr(read.resolved.steps[0], group).model_fields_set
            assert set(values) - {"hf_hub_token", "ms_hub_token"} <= kept


@pytest.mark.parametrize(("info", "row"), ROWS, ids=lambda value: next(iter(value)))
def test_a_row_of_the_pages_is_read_by_its_entry(tmp_path: Path, info: dict[str, Any], row: dict[str, Any]) -> None:
    [(name, entry)] = info.items()
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))
    (tmp_path / entry["file_name"]).write_text(json.dumps(row))
    [found] = read_rows(tmp_path, name, read_dataset_info(tmp_path)[name])
    assert set(row) == set(found.values)
    if name == "books":
        assert text_of(found) == "Call me Ishmael."
    elif name == "ranked":
        assert [end.messages[-1].content for end in (pair_of(found).chosen, pair_of(found).rejected)] == ["At eight.", "No."]
    elif name == "judged":
        assert labelled_of(found).desirable
    else:
        conversation = conversation_of(found)
        assert [message.role for message in conversation.messages][-1] == "assistant"
        assert (conversation.system, bool(conversation.tools)) == (None if name == "talks" else "Be brief.", name == "talks")


def test_the_entry_on_a_hub_is_one() -> None:
    [entry] = [info["stories"] for info in DATA if is_info(info) and "stories" in info]
    assert DatasetEntry.model_validate(entry).is_remote
