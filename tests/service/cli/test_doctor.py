"""finebits doctor: what it looks at is tested in tests/service/checkup."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from service.checkup import gpus, running
from service.checkup.finding import Finding, fault, note, warning
from tests.service.cli.conftest import Finebits

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = sys.modules["pynvml"] = None
sys.meta_path.insert(0, type("Without", (), {"find_spec": staticmethod(lambda name, *rest: None)}))
import importlib.util
there = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "torch" else there(name, *rest)
from service.cli.main import app
app(prog_name="finebits")
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINEBITS_HOME", str(tmp_path / "home"))


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ([], 0),
        ([note("a", "It is so.")], 0),
        ([note("a", "It is so."), warning("b", "It will not.", "Do.")], 6),
        ([fault("b", "It does not.", "Do."), warning("b", "It will not.", "Do.")], 1),
    ],
)
def test_the_worst_finding_is_the_exit_code(
    finebits: Finebits, monkeypatch: pytest.MonkeyPatch, found: list[Finding], code: int
) -> None:
    monkeypatch.setattr(running, "running", lambda *given: iter(found))
    monkeypatch.setattr(gpus, "gpus", lambda: iter(()))
    monkeypatch.setenv("FINEBITS_MIN_FREE_BYTES", "1")
    done = finebits("doctor")
    assert done.exit_code == code, done.output
    assert ("Nothing is wrong." in done.stdout) == (code == 0)
    if code:
        assert "         → Do." in done.stdout


def test_a_setting_that_does_not_fit_is_a_finding_and_the_rest_is_looked_at(
    finebits: Finebits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINEBITS_PORT", "many")
    done = finebits("doctor", "--json")
    found = {finding["about"]: finding for finding in json.loads(done.stdout)}
    assert done.exit_code == 1
    assert found["FINEBITS_PORT"]["level"] == "fault"
    assert "service" in found


def test_a_check_that_breaks_is_a_finding_itself(finebits: Finebits, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise OSError("The bus is gone.\nFar away.")

    monkeypatch.setattr(gpus, "gpus", broken)
    done = finebits("doctor")
    assert done.exit_code == 1
    assert "fault    GPUs: It cannot be looked at: OSError: The bus is gone." in done.stdout


def test_it_runs_where_torch_is_not_installed_and_no_service_answers() -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, "--url", "http://127.0.0.1:9", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    found = {finding["about"]: finding for finding in json.loads(done.stdout)}
    assert found["torch"]["said"] == "It is not installed: no worker can run here."
    assert found["service"]["level"] == "warning"
    assert (done.returncode, done.stderr) in ((6, ""), (1, ""))
