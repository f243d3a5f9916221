"""--json is everywhere: each command is run with it, and what it prints is read."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.service.cli.commands import commands
from tests.service.cli.conftest import Finebits
from tests.service.cli.world import ONE, OTHER, stocked
from tests.service.fake_service import FakeService, problem

# What each is given beside --json. Those that run until they are ended are run by tests of their own, in test_up.py and so on.
GIVEN: dict[str, list[str]] = {
    "doctor": [],
    "completion": ["bash"],
    "version": [],
    "submit": ["job.json"],
    "watch": [ONE],
    "top": [],
    "jobs": [],
    "show": [ONE],
    "logs": [ONE],
    "pause": [ONE],
    "resume": [ONE],
    "cancel": [ONE],
    "retry": [ONE],
    "patch": [ONE, "--priority", "1"],
    "delete": [ONE, "--yes"],
    "metrics": [ONE],
    "checkpoints": [ONE],
    "compare": [ONE, OTHER],
    "diff": [ONE, OTHER],
    "download": [ONE, "d.txt"],
    "generate": [f"{ONE}/sft/40", "Hi"],
    "predict": [f"{ONE}/sft/40"],
    "evaluate": [f"{ONE}/sft/40", "--task", "primer"],
    "measure": [f"{ONE}/sft/40", "--dataset", "letters"],
    "export": [f"{ONE}/sft/40"],
    "data list": [],
    "data upload": ["talks.jsonl"],
    "data preview": ["talks"],
    "data validate": ["talks"],
    "data versions": ["talks"],
    "data delete": ["talks", "--yes"],
    "data download": ["talks", "--to", "fetched.jsonl"],
    "upload": ["talks.jsonl"],
    "inspect": ["talks", "--model", "tiny"],
    "workers": [],
    "drain": ["host-a"],
    "keys create": ["ada"],
    "keys list": [],
    "keys revoke": ["{key}"],
    "webhooks add": ["https://example.com"],
    "webhooks list": [],
    "webhooks remove": ["webhook-1"],
    "webhooks test": ["webhook-1"],
    "init": ["--file", "dotenv"],
    "migrate": [],
    "backup": ["copy"],
    "restore": ["copy"],
}
STAYING = {"up", "demo", "serve"}


@pytest.fixture(scope="module")
def all_of_them() -> dict[str, Any]:
    return commands()


def test_every_command_is_run_here_or_stays_until_it_is_ended(all_of_them: dict[str, Any]) -> None:
    assert GIVEN.keys() | STAYING == all_of_them.keys()


def test_every_command_has_the_option(all_of_them: dict[str, Any]) -> None:
    without = [name for name, command in all_of_them.items() if not any("--json" in one.opts for one in command.params)]
    assert without == []


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the commands are given."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FINEBITS_HOME", str(tmp_path / "home"))
    Path("job.json").write_text("{}")
    Path("talks.jsonl").write_text("{}\n")
    return tmp_path


def documents(printed: str) -> Iterator[Any]:
    """One, or one a line."""
    try:
        yield json.loads(printed)
    except json.JSONDecodeError:
        yield from map(json.loads, printed.splitlines())


# What takes a database of its own, in the order in which each finds what it needs.
LOCAL = ("migrate", "keys create", "keys list", "keys revoke", "backup", "restore")


@pytest.mark.parametrize("name", [name for name in GIVEN if name not in LOCAL])
def test_what_it_prints_is_json(service: FakeService, finebits: Finebits, here: Path, name: str) -> None:
    stocked(service)
    done = finebits(*name.split(), *GIVEN[name], "--json")
    assert done.exit_code in (0, *((1,) if name == "data validate" else ()), *((1, 6) if name == "doctor" else ())), done.output
    assert list(documents(done.stdout))


def test_what_is_local_prints_json_too(finebits: Finebits, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: dict[str, Any] = {}
    for name in LOCAL:
        if name == "restore":
            monkeypatch.setenv("FINEBITS_HOME", str(here / "another"))
        given = [argument.format(key=said.get("keys create", {}).get("id")) for argument in GIVEN[name]]
        done = finebits(*name.split(), *given, "--json")
        assert done.exit_code == 0, (name, done.output)
        said[name] = json.loads(done.stdout)
    assert said["keys create"]["owner"] == said["keys list"][0]["owner"] == "ada"
    assert said["restore"] == {"home": str(here / "another")}


@pytest.mark.parametrize("name", ["submit", "export", "predict", "evaluate", "measure"])
def test_followed_it_is_a_line_each_and_the_job_is_the_last(
    service: FakeService, finebits: Finebits, here: Path, name: str
) -> None:
    stocked(service)
    done = finebits(name, *GIVEN[name], "--watch", "--json")
    first, *_, last = map(json.loads, done.stdout.splitlines())
    assert (done.exit_code, first["job"]["id"], last["job"]["state"]) == (0, ONE, "succeeded")


def test_a_refusal_is_json_on_standard_error(service: FakeService, finebits: Finebits) -> None:
    errors = [{"pointer": "/training/lr", "detail": "There is no such argument."}]
    service.answers("GET", "/jobs/job-1", problem(422, title="Invalid", code="invalid", errors=errors))
    done = finebits("show", "job-1", "--json")
    assert (done.exit_code, done.stdout) == (3, "")
    assert json.loads(done.stderr) == {"error": "Invalid", "exit_code": 3, "status": 422, "code": "invalid", "errors": errors}
    away = finebits("--url", "http://127.0.0.1:9", "show", "job-1", "--json")
    assert (away.exit_code, json.loads(away.stderr)["exit_code"]) == (4, 4)
