"""Lists that stand twice, because one side may not import the other: each pair must be equal."""

import re
import subprocess
from pathlib import Path
from typing import get_args

import pytest

from service.library import check
from service.specs import alerts, measures, rules
from service.specs.deeds import LOOKS_AT
from service.specs.finetuning import FinetuningArguments
from service.specs.job import Deed
from service.specs.reasons import RETRYABLE
from service.store import events, states
from worker import supervise
from worker.data.templates import TEMPLATES
from worker.models import attention, quantization
from worker.models.adapters import METHODS
from worker.pipeline import OTHERS, STAGES
from worker.probes.alerts import TESTS
from worker.probes.report import MEASURES

ROOT = Path(__file__).resolve().parents[1]


def test_the_catalogue_has_the_measures_that_are_computed_in_their_units() -> None:
    computed = {name: unit for name, (_, unit) in MEASURES.items()}
    catalogued = {measure.name: measure.unit for measure in measures.CATALOGUE if measure.name in computed}
    assert computed == catalogued


def test_every_alert_has_a_test_and_looks_at_measures_that_there_are() -> None:
    assert list(TESTS) == [alert.name for alert in alerts.ALERTS]
    assert {name for alert in alerts.ALERTS for name in alert.needs} <= set(measures.BY_NAME)


def test_a_job_may_name_the_templates_that_there_are() -> None:
    assert set(rules.TEMPLATES) == set(TEMPLATES)


def test_every_stage_has_a_function() -> None:
    annotation = FinetuningArguments.model_fields["stage"].annotation
    assert set(annotation.__args__) == set(STAGES)


def test_every_deed_but_training_has_a_function() -> None:
    assert set(get_args(Deed)) == {"train", *OTHERS}
    assert set(LOOKS_AT) == set(OTHERS)


def test_every_finetuning_type_has_a_method() -> None:
    annotation = FinetuningArguments.model_fields["finetuning_type"].annotation
    assert set(annotation.__args__) == set(METHODS)


def test_models_are_taken_at_submission_that_the_worker_takes() -> None:
    assert check.SHIFTED_FAMILIES == attention.FAMILIES
    assert set(check.QUANTIZED) == set(quantization.LIBRARIES)


def test_what_the_child_tells_is_an_event_that_clients_know() -> None:
    told = set()
    for file in (ROOT / "worker").rglob("*.py"):
        told |= set(re.findall(r'\.event\(\s*"(\w+)"', file.read_text(encoding="utf-8")))
    assert told
    assert told <= {kind.value for kind in events.Kind}
    assert set(supervise.WRITERS) == {"event", "progress", "points", "checkpoint", "measurement", "artifact", "piece", "step"}


def test_the_page_of_states_is_the_table_of_transitions() -> None:
    page = (ROOT / "docs" / "reference" / "states.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]*)\|$", page.split("## Wishes")[0], re.MULTILINE)
    table = {state: {target.strip(" `") for target in targets.split(",") if target.strip()} for state, targets in rows}
    assert table == {str(state): {str(target) for target in targets} for state, targets in states.TRANSITIONS.items()}


def test_the_page_of_states_names_what_is_tried_again() -> None:
    page = (ROOT / "docs" / "reference" / "states.md").read_text(encoding="utf-8")
    (row,) = re.findall(r"^\| ([^|]+) \| another attempt after a wait, `max_retries` times", page, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", row)) == {str(reason) for reason in RETRYABLE}


def test_the_readme_s_tree_is_the_tree() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = readme.split("### The tree")[1].split("```text\n")[1].split("```")[0]
    shown, folder = set(), ""
    for line in block.strip().splitlines():
        name = line.split()[0]
        if not line.startswith(" "):
            folder = name
            shown.add(name)
        else:
            shown.add(folder + name)
    assert shown == _tracked()


def _tracked() -> set[str]:
    """The top level, and what stands in service/ and worker/; folders end with a slash."""
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    names = set()
    for path in done.stdout.split():
        first, *rest = path.split("/")
        names.add(f"{first}/" if rest else first)
        if first in ("service", "worker") and rest[-1] != "__init__.py":
            names.add(f"{first}/{rest[0]}/" if len(rest) > 1 else f"{first}/{rest[0]}")
    return names - {".gitignore", "README.md"}
