import json
import subprocess
import sys
from pathlib import Path

import pytest

from service.cli.lazy import Lazy, first_sentence
from service.cli.main import COMMANDS, DEFAULT_URL
from service.clients import requests
from tests.service.cli.conftest import Finebits
from tests.service.fake_service import Answer, FakeService, a_job, problem

SENTENCES = {name: sentence for panel in COMMANDS.values() for name, sentence in panel.items()}

# What takes longer to import than a command line may take to begin. pydantic is not among it: typer reads words by it.
HEAVY = {
    "torch",
    "numpy",
    "transformers",
    "worker",
    "fastapi",
    "starlette",
    "sqlalchemy",
    "alembic",
    "celery",
    "service.specs.job",
}

LOADED_BY = """
import sys
from typer.testing import CliRunner
from service.cli.main import app
done = CliRunner().invoke(app, sys.argv[1:])
print(done.exit_code, *sys.modules)
"""


def test_help_names_every_command_and_each_is_in_the_file_of_its_name(finebits: Finebits) -> None:
    shown = finebits("--help").stdout
    folder = Path(__file__).resolve().parents[3] / "service" / "cli"
    for name in SENTENCES:
        assert f"\n  {name} " in shown
        assert f"finebits {name}" in (folder / f"{name}.py").read_text()


@pytest.mark.parametrize("name", SENTENCES)
def test_help_says_of_a_command_what_it_says_of_itself(name: str) -> None:
    assert first_sentence(Lazy(name, "", "").real().help) == SENTENCES[name]


def test_the_address_of_the_service_is_the_client_s() -> None:
    assert DEFAULT_URL == requests.DEFAULT_URL


def loaded_by(*arguments: str) -> tuple[str, set[str]]:
    """The exit code of a command in a process of its own, and the packages and modules that it has imported."""
    done = subprocess.run([sys.executable, "-c", LOADED_BY, *arguments], capture_output=True, text=True, check=True)
    code, *modules = done.stdout.split()
    return code, {module.partition(".")[0] for module in modules} | set(modules)


@pytest.mark.parametrize("arguments", [("--help",), ("jobs", "--help"), ("compare", "--help")])
def test_help_loads_nothing_that_takes_long(arguments: tuple[str, ...]) -> None:
    code, modules = loaded_by(*arguments)
    assert (code, modules & (HEAVY | {"httpx2", "yaml", "asyncio", "service.client"})) == ("0", set())


def test_a_command_that_asks_the_service_loads_what_asks_and_no_more(fake: tuple[FakeService, str]) -> None:
    service, url = fake
    service.answers("GET", "/jobs", {"data": [a_job()], "has_more": False})
    code, modules = loaded_by("--url", url, "jobs")
    assert (code, modules & (HEAVY | {"asyncio"})) == ("0", set())


def test_a_checkpoint_s_name_is_read_without_the_language_of_jobs(fake: tuple[FakeService, str]) -> None:
    code, modules = loaded_by("--url", fake[1], "export", f"job-{1:024x}/sft/40")
    assert (code, modules & HEAVY) == ("3", set())


def test_jobs_are_a_table_of_the_newest(service: FakeService, finebits: Finebits) -> None:
    pages = [
        {"data": [a_job(id="job-c", name="a \x1b[31mname"), a_job(id="job-b", state="running")], "has_more": True},
        {"data": [a_job(id="job-a")], "has_more": False},
    ]
    service.answers("GET", "/jobs", *pages)
    shown = finebits("jobs", "--limit", "2").stdout
    assert shown.splitlines() == [
        "Jobs",
        "job    name         state    created              how it goes",
        "job-c  a �[31mname  queued   2026-11-24 10:00:00",
        "job-b               running  2026-11-24 10:00:00",
    ]
    assert [asked.query for asked in service.asked] == ["limit=2"]


def test_jobs_are_json_too_and_none_is_a_sentence(service: FakeService, finebits: Finebits) -> None:
    service.answers("GET", "/jobs", {"data": [a_job()], "has_more": False}, {"data": [], "has_more": False})
    assert json.loads(finebits("jobs", "--json").stdout) == [a_job()]
    assert finebits("jobs").stdout == "There are no jobs yet.\n"
    assert finebits("jobs", "--state", "failed").stdout == "No job is failed.\n"
    assert service.asked[-1].query == "limit=20&state=failed"


@pytest.mark.parametrize(("state", "sentence"), [("cancelled", "job-1 is cancelled."), ("running", "job-1 will stop soon;")])
def test_cancel_says_when_it_is_so(service: FakeService, finebits: Finebits, state: str, sentence: str) -> None:
    service.answers("POST", "/jobs/job-1/cancel", a_job(state=state))
    done = finebits("cancel", "job-1")
    assert done.exit_code == 0
    assert done.stdout.startswith(sentence)


def test_a_conflict_is_said(service: FakeService, finebits: Finebits) -> None:
    conflict = problem(409, title="Conflict", detail="The job is succeeded; it cannot be cancelled.")
    service.answers("POST", "/jobs/job-1/cancel", conflict)
    done = finebits("cancel", "job-1")
    assert done.exit_code == 3
    assert done.stderr == "Conflict: The job is succeeded; it cannot be cancelled.\n"


def test_logs_are_printed_as_they_are_without_what_a_terminal_obeys(service: FakeService, finebits: Finebits) -> None:
    service.answers("GET", "/jobs/job-1/logs", Answer(200, b"one\n\ttwo [bold]\x1b[2J\n", "text/plain"))
    assert finebits("logs", "job-1").stdout == "one\n\ttwo [bold]\N{REPLACEMENT CHARACTER}[2J\n"


def test_an_address_that_is_none_is_said(finebits: Finebits) -> None:
    done = finebits("--url", "localhost", "jobs")
    assert done.exit_code == 2
    assert "'localhost' is not an address of a service" in done.stderr


def test_the_version_is_the_package_s(finebits: Finebits) -> None:
    assert finebits("version").stdout == "finebits 0.1.0\n"


def test_migrate_brings_the_database_to_the_newest(finebits: Finebits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINEBITS_DATABASE_URL", f"sqlite:///{tmp_path}/new/finebits.db")
    first, second = finebits("migrate"), finebits("migrate")
    assert first.exit_code == second.exit_code == 0
    assert first.stdout.startswith("The database was at nothing and is at ")
    assert second.stdout.startswith("The database is at ")


def test_a_setting_that_does_not_fit_is_said(finebits: Finebits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINEBITS_PORT", "many")
    monkeypatch.setenv("FINEBITS_API_KEY", "short")
    done = finebits("migrate")
    assert done.exit_code == 2
    assert "FINEBITS_PORT: " in done.stderr
    assert "FINEBITS_API_KEY: " in done.stderr
    assert "Traceback" not in done.stderr
