"""The exit codes that scripts trust."""

import subprocess
import sys
from pathlib import Path

import pytest

from service.cli.exit_codes import OF_STATE, ExitCode
from service.client import ENDED
from tests.service.cli.conftest import Finebits
from tests.service.cli.world import ONE, stocked, whole_job
from tests.service.fake_service import Answer, FakeService, problem

CODES = {"WELL": 0, "FAILED": 1, "USAGE": 2, "REFUSED": 3, "UNREACHABLE": 4, "CANCELLED": 5, "WARNED": 6, "INTERRUPTED": 130}


def test_they_are_what_they_were() -> None:
    assert {code.name: code.value for code in ExitCode} == CODES
    assert all(code.meaning.endswith(".") for code in ExitCode)


def test_every_end_of_a_job_has_one_and_only_success_is_zero() -> None:
    assert OF_STATE.keys() == ENDED
    assert [state for state, code in OF_STATE.items() if code == 0] == ["succeeded"]
    assert len(set(OF_STATE.values())) == len(OF_STATE)


@pytest.mark.parametrize(("state", "code"), [("succeeded", 0), ("failed", 1), ("cancelled", 5)])
@pytest.mark.parametrize(
    "command",
    [
        ("watch", ONE),
        ("export", f"{ONE}/sft/40", "--watch"),
        ("predict", f"{ONE}/sft/40", "-w"),
        ("evaluate", f"{ONE}/sft/40", "--task", "primer", "-w"),
        ("measure", f"{ONE}/sft/40", "--dataset", "letters", "-w"),
        ("inspect", "talks", "--model", "tiny"),
    ],
    ids=lambda command: command[0],
)
def test_a_job_that_is_followed_gives_its_own(
    service: FakeService, finebits: Finebits, command: tuple[str, ...], state: str, code: int
) -> None:
    stocked(service)
    job = whole_job(ONE, 1e-3, state=state)
    service.answers("GET", f"/jobs/{ONE}", job)
    found = {"coverage": {"tokens": 1, "trained_tokens": 1}, "lower_bounds": [], "measures": {}, "duplicates": [], "leaks": []}
    service.answers("GET", f"/jobs/{ONE}/artifacts/inspection.json", _file({**found, "rows": 1, "held_out_rows": 0}))
    assert finebits(*command).exit_code == code


def _file(document: object) -> Answer:
    import hashlib
    import json

    raw = json.dumps(document).encode()
    return Answer(200, raw, headers={"etag": f'"{hashlib.sha256(raw).hexdigest()}"'})


@pytest.mark.parametrize(
    ("status", "code"), [(401, 3), (403, 3), (404, 3), (409, 3), (422, 3), (500, 3), (502, 4), (503, 4), (504, 4)]
)
def test_what_the_service_answers_is_refused_or_may_go_well_later(
    service: FakeService, finebits: Finebits, status: int, code: int
) -> None:
    service.answers("GET", "/jobs/job-1", problem(status, title="No", detail="Not so."))
    assert finebits("show", "job-1").exit_code == code


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nothing",),
        ("watch",),
        ("jobs", "--limit", "many"),
        ("submit", "/nowhere.json"),
        ("export", "sft"),
        ("compare", ONE),
        ("generate", f"{ONE}/sft", "Hi"),
        ("completion", "tcsh"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_meant_is_not_asked(service: FakeService, finebits: Finebits, arguments: tuple[str, ...]) -> None:
    assert finebits(*arguments).exit_code == 2
    assert service.asked == []


def test_a_file_that_arrives_damaged_has_failed(service: FakeService, finebits: Finebits) -> None:
    stocked(service)
    service.answers("GET", f"/jobs/{ONE}/artifacts/d.txt", Answer(200, b"x", headers={"etag": '"0"'}))
    assert finebits("download", ONE, "d.txt", "--to", "/tmp").exit_code == 1


def test_what_cannot_be_written_is_a_sentence(service: FakeService, finebits: Finebits, tmp_path: Path) -> None:
    stocked(service)
    (tmp_path / "no-folder").touch()
    done = finebits("download", ONE, "d.txt", "--to", tmp_path / "no-folder" / "d.txt")
    assert done.exit_code == 1
    assert "cannot be read or written: Not a directory." in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_full_disk_under_the_output_is_a_sentence(fake: tuple[FakeService, str]) -> None:
    stocked(fake[0])
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "service.cli", "--url", fake[1], "jobs"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "What is printed cannot be read or written: No space left on device.\n")
