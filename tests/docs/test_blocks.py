"""No block on any page is left to itself: what can be run is run by a test, which is named here; the rest says that it is shown.

A block that is added fails here until a test runs it. What no page of its own has a test for is run at the end.
"""

import dataclasses
import json
import logging
import re
import time
from datetime import datetime
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import openai
import pytest

from service import log
from service.api.bodies import read_yaml
from service.specs.ledger import GROUPS
from service.specs.read import read_job
from service.webhooks import message
from tests.containers import ROOT
from tests.docs.blocks import blocks, pages, spans
from tests.specs.job_documents import a_job

RUN = ("sh", "python", "json", "yaml", "ini")
SHOWN = ("text", "{toctree}")

HERE = "tests/docs/test_blocks.py"
COMMANDS, PAGES, LOOKING = "tests/docs/test_commands.py", "tests/docs/test_pages.py", "tests/docs/test_looking.py"
ELSEWHERE, README = "tests/docs/test_elsewhere.py", "tests/docs/test_readme.py"

# By page and language: how many blocks there are, and the test that has all of them. JSON, YAML and settings are all read here.
TESTS: dict[tuple[str, str], tuple[int, str]] = {
    ("README.md", "sh"): (4, f"{README}::test_the_readmes_commands"),
    ("README.md", "python"): (1, f"{README}::test_the_readmes_measures_are_what_it_says"),
    ("CONTRIBUTING.md", "sh"): (1, f"{README}::test_what_make_is_asked_on_a_page_is_done"),
    ("CONTRIBUTING.md", "python"): (2, f"{HERE}::test_what_contributing_shows_stands_in_the_source"),
    ("docs/quickstart.md", "sh"): (4, f"{PAGES}::test_the_quickstart"),
    ("docs/explanation/measures.md", "python"): (1, f"{HERE}::test_the_values_on_the_page_of_measures"),
    ("docs/explanation/peer.md", "sh"): (1, f"{ELSEWHERE}::test_the_page_on_the_peer"),
    ("docs/explanation/survival.md", "sh"): (1, f"{ELSEWHERE}::test_the_page_on_survival"),
    ("docs/how-to/add-a-gpu-host.md", "sh"): (2, f"{COMMANDS}::test_the_page_on_another_host_gives_its_jobs_to_both"),
    ("docs/how-to/add-a-worker.md", "sh"): (4, f"{ELSEWHERE}::test_the_page_on_adding_a_worker"),
    ("docs/how-to/artifact-store.md", "sh"): (4, f"{ELSEWHERE}::test_the_page_on_the_artifact_store"),
    ("docs/how-to/ask-again.md", "sh"): (1, f"{PAGES}::test_the_page_on_asking_again"),
    ("docs/how-to/backup-and-restore.md", "sh"): (4, f"{COMMANDS}::test_the_page_on_backups_with_compose_brings_everything_back"),
    ("docs/how-to/choose-a-checkpoint.md", "sh"): (3, f"{PAGES}::test_the_page_on_choosing"),
    ("docs/how-to/command-line.md", "sh"): (6, f"{PAGES}::test_the_page_on_the_command_line"),
    ("docs/how-to/data-sets.md", "sh"): (2, f"{PAGES}::test_the_page_on_data_sets"),
    ("docs/how-to/deploy.md", "sh"): (5, f"{COMMANDS}::test_the_page_on_deploying"),
    ("docs/how-to/evaluate.md", "sh"): (2, f"{LOOKING}::test_the_page_on_evaluating"),
    ("docs/how-to/export.md", "sh"): (4, f"{ELSEWHERE}::test_the_page_on_exporting"),
    ("docs/how-to/from-openai.md", "python"): (2, f"{ELSEWHERE}::test_the_page_on_coming_from_openai"),
    ("docs/how-to/guard-a-run.md", "sh"): (1, f"{PAGES}::test_the_page_on_guards"),
    ("docs/how-to/inspect-data.md", "sh"): (3, f"{LOOKING}::test_the_page_on_looking_at_data"),
    ("docs/how-to/keys.md", "sh"): (3, f"{PAGES}::test_the_page_on_keys"),
    ("docs/how-to/measure-later.md", "sh"): (2, f"{LOOKING}::test_the_page_on_measuring_later"),
    ("docs/how-to/pipelines.md", "sh"): (2, f"{PAGES}::test_the_page_on_pipelines"),
    ("docs/how-to/predict.md", "sh"): (2, f"{PAGES}::test_the_page_on_predicting"),
    ("docs/how-to/preferences.md", "sh"): (1, f"{PAGES}::test_the_page_on_preferences"),
    ("docs/how-to/python-client.md", "python"): (10, "tests/docs/test_python_client.py::test_the_page_on_the_python_client"),
    ("docs/how-to/qlora-sft.md", "sh"): (2, f"{PAGES}::test_the_page_on_qlora"),
    ("docs/how-to/quantize.md", "sh"): (1, f"{ELSEWHERE}::test_extras_that_pages_install_are_there"),
    ("docs/how-to/read-a-certificate.md", "sh"): (1, f"{PAGES}::test_the_page_on_certificates_has_what_a_certificate_has"),
    ("docs/how-to/several-gpus.md", "sh"): (1, f"{PAGES}::test_the_page_on_several_gpus"),
    ("docs/how-to/steer-a-job.md", "sh"): (4, f"{PAGES}::test_the_page_on_steering"),
    ("docs/how-to/upgrade.md", "sh"): (3, f"{COMMANDS}::test_the_page_on_upgrading_gets_the_new_version_and_migrates"),
    ("docs/how-to/webhooks.md", "sh"): (2, "tests/test_observed.py::test_what_becomes_of_a_job_is_told_to_everyone_who_listens"),
    ("docs/how-to/webhooks.md", "python"): (1, f"{HERE}::test_the_receiver_on_the_page_reads_the_message_on_the_page"),
}

EVERY = [block for page in pages() for block in blocks(page)]


def test_every_block_says_what_it_is() -> None:
    assert [(block.page, block.text[:40]) for block in EVERY if block.language not in RUN + SHOWN] == []


def test_every_block_that_can_be_run_has_a_test_that_runs_it() -> None:
    runnable = sorted((block.page, block.language) for block in EVERY if block.language in ("sh", "python"))
    assert {where: len(list(same)) for where, same in groupby(runnable)} == {where: n for where, (n, _) in TESTS.items()}


@pytest.mark.parametrize("where", TESTS, ids=" ".join)
def test_the_test_is_there_and_reads_the_page(where: tuple[str, str]) -> None:
    file, _, name = TESTS[where][1].partition("::")
    source = (ROOT / file).read_text(encoding="utf-8")
    assert f"\ndef {name}(" in source
    assert Path(where[0]).stem.replace("README", "readme").lower() in source.lower()


def read(block: Any) -> Any:
    return json.loads(block.text) if block.language == "json" else read_yaml(block.text.encode())


def is_job(document: Any) -> bool:
    return isinstance(document, dict) and document.keys() <= {*GROUPS, "steps", "do", "name"} and document.keys() != {"name"}


DOCUMENTS = [block for block in EVERY if block.language in ("json", "yaml")]
# The others: rows, entries of dataset_info.json, a bucket's documents, a message; each is read by the test that is named.
NO_JOBS = {
    "docs/how-to/artifact-store.md": "tests/docs/test_artifact_store.py",
    "docs/how-to/data-sets.md": "tests/docs/test_data_and_models.py",
    "docs/how-to/monitoring.md": "tests/docs/test_blocks.py",
    "docs/how-to/webhooks.md": "tests/docs/test_blocks.py",
    "docs/quickstart.md": "tests/docs/test_quickstart.py",
}


@pytest.mark.parametrize("block", [b for b in DOCUMENTS if is_job(read(b))], ids=lambda block: f"{block.page} {block.text[:30]}")
def test_a_job_on_a_page_is_accepted(block: Any) -> None:
    document = read(dataclasses.replace(block, text=block.text.replace("job-...", "job-0123456789abcdef01234567")))
    if document.get("do") is None:
        document = a_job(**document)
    read_job(document)


def test_what_is_no_job_is_read_by_a_test_of_its_page() -> None:
    assert {block.page for block in DOCUMENTS if not is_job(read(block))} == NO_JOBS.keys()
    for page, file in NO_JOBS.items():
        assert Path(page).stem.lower() in (ROOT / file).read_text(encoding="utf-8").lower()


@cache
def known_variables() -> set[str]:
    """All that the pages of settings and of the command line, and the files of docker compose know."""
    reference = ROOT / "docs" / "reference"
    files = [reference / "settings.md", reference / "cli.md", ROOT / "Makefile", *ROOT.glob("docker-compose*.yml")]
    return set(re.findall(r"\b(?:FINEBITS|AWS|COMPOSE|USE)_[A-Z0-9_]+", "".join(file.read_text("utf-8") for file in files)))


def test_every_setting_on_a_page_is_one() -> None:
    named = re.compile(r"\b(?:FINEBITS|AWS|USE)_[A-Z0-9_]*[A-Z0-9]\b")
    theirs = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"}  # those of Amazon's libraries
    said = [(page, name) for page in pages() for text in _texts(page) for name in named.findall(text)]
    assert len(said) > 100
    assert [one for one in said if one[1] not in known_variables() | theirs] == []
    lines = [(page, line) for page in pages() for block in blocks(page, "ini") for line in block.text.splitlines()]
    assert [one for one in lines if not re.fullmatch(r"[A-Z0-9_]+=\S.*", one[1])] == []


def _texts(page: str) -> list[str]:
    return [*spans(page), *(block.text for block in blocks(page) if block.language in ("ini", "sh", "text"))]


# -- what has no page of its own among the tests ----------------------------------------------------------------------------


def test_what_contributing_shows_stands_in_the_source() -> None:
    source = "".join((ROOT / file).read_text("utf-8") for file in ("service/specs/rules.py", "worker/information/shannon.py"))
    for block in blocks("CONTRIBUTING.md", "python"):
        assert block.text in source


def test_the_values_on_the_page_of_measures() -> None:
    [block] = blocks("docs/explanation/measures.md", "python")
    head, _, calls = block.text.partition("\n\n")
    names: dict[str, Any] = {}
    exec(head, names)
    values = [(eval(line.partition("#")[0], names), line.partition("# ")[2]) for line in calls.strip().splitlines()]
    *numbers, (function, _) = values
    assert len(numbers) == 2
    for value, told in numbers:
        digits = re.match(r"\d\.\d+", told)
        assert digits is not None
        assert str(value).startswith(digits[0])
    assert function is names["relative_entropy"]


def test_the_receiver_on_the_page_reads_the_message_on_the_page() -> None:
    [shown] = [read(block) for block in blocks("docs/how-to/webhooks.md", "json")]
    secret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
    told = {key: value for key, value in shown["data"].items() if key != "id"}
    body = message.body_of(shown["id"], shown["type"], shown["created_at"], told)
    assert json.loads(body) == shown
    headers = message.headers_of(shown["id"], time.time(), body, [secret])
    [block] = blocks("docs/how-to/webhooks.md", "python")
    names: dict[str, Any] = {"body": body, "headers": headers}
    exec(block.text.replace("whsec_...", secret), names)
    assert names["event"].data.id == shown["data"]["id"]
    with pytest.raises(openai.InvalidWebhookSignatureError):
        exec(block.text.replace("whsec_...", secret), {"body": body + b" ", "headers": headers})


def test_the_line_of_the_log_on_the_page_of_monitoring_is_a_line() -> None:
    [shown] = [read(block) for block in blocks("docs/how-to/monitoring.md", "json")]
    record = logging.LogRecord(shown["logger"], logging.INFO, "", 0, shown["message"], (), None)
    record.created = datetime.fromisoformat(shown["time"]).timestamp()
    with log.about(**{name: shown[name] for name in ("job", "attempt", "request_id")}):
        assert json.loads(log.Json().format(record)) == shown
