import os
import pty
import signal
import subprocess
import sys
import time
from functools import partial

import pytest

from service.cli import following
from service.cli.following import clock, heading, numbers
from service.client import Job, Progress
from tests.service.cli.conftest import Finebits
from tests.service.cli.world import PROGRESS
from tests.service.fake_service import FakeService, a_job, an_event


def script(service: FakeService, *states: dict[str, object]) -> None:
    service.answers("GET", "/jobs/job-1", *(a_job(**state) for state in states))
    page = {"data": [an_event(1, message="[red]Queued\x1b[2J.")], "has_more": False, "next_after": 1}
    service.answers("GET", "/jobs/job-1/events", page, {"data": [], "has_more": False, "next_after": None})


@pytest.mark.parametrize(
    ("end", "exit_code", "last"),
    [
        ({"state": "succeeded"}, 0, "job-1 succeeded"),
        ({"state": "failed", "reason": "no_gpu", "sentence": "There is none."}, 1, "job-1 failed (no_gpu: There is none.)"),
        ({"state": "cancelled"}, 5, "job-1 cancelled"),
    ],
)
def test_the_job_s_end_is_the_exit_code(
    service: FakeService, finebits: Finebits, end: dict[str, object], exit_code: int, last: str
) -> None:
    script(service, end)
    done = finebits("watch", "job-1")
    assert done.exit_code == exit_code
    assert done.stdout.splitlines()[-1] == last


def test_without_a_terminal_it_prints_lines_that_nothing_obeys(
    service: FakeService, finebits: Finebits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "LINE_SECONDS", 0)
    script(service, {}, {"state": "running", "progress": PROGRESS}, {"state": "succeeded", "progress": PROGRESS})
    done = finebits("watch", "job-1")
    assert done.stdout.splitlines() == [
        "10:00:01  [red]Queued�[2J.",
        "waiting for a worker",
        "pretrain 1/2 training: 40/400  loss 3.214  12,300 tokens/s  1:05 left",
        "job-1 succeeded",
    ]


def test_lines_come_no_faster_than_people_read(service: FakeService, finebits: Finebits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "LINE_SECONDS", 3600)
    moves = [{"state": "running", "progress": {**PROGRESS, "global_step": step}} for step in range(2)]
    script(service, *moves, {"state": "succeeded"})
    assert finebits("watch", "job-1").stdout.count("tokens/s") == 1


def test_a_job_that_is_not_there_is_a_refusal_and_no_failed_job(finebits: Finebits) -> None:
    done = finebits("watch", "job-9")
    assert done.exit_code == 3
    assert "There is no /jobs/job-9." in done.stderr


def test_on_a_terminal_a_bar_moves_and_ctrl_c_leaves_the_job_alone(fake: tuple[FakeService, str]) -> None:
    service, url = fake
    script(service, {"state": "running", "progress": PROGRESS})
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "service.cli", "--url", url, "watch", "job-1"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "30"}
    # Ctrl-C would be ignored where these tests are run in the background of a shell without job control
    listens = {"preexec_fn": partial(signal.signal, signal.SIGINT, signal.SIG_DFL)}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, **listens) as process:
        os.close(theirs)
        shown = read_until(ours, "1:05 left")
        process.send_signal(signal.SIGINT)
        shown += read_until(ours, "finebits cancel job-1")
        assert process.wait(120) == 130
    os.close(ours)
    assert "pretrain 1/2 training" in shown
    assert "40/400  loss 3.214  12,300 tokens/s" in shown
    assert "[red]Queued�[2J." in shown
    assert "The job goes on." in shown
    assert all(asked.method == "GET" for asked in service.asked)


def read_until(terminal: int, text: str, seconds: float = 120) -> str:
    shown, deadline = "", time.monotonic() + seconds
    while text not in shown:
        assert time.monotonic() < deadline, shown
        shown += os.read(terminal, 4096).decode(errors="replace")
    return shown


def test_numbers_that_are_not_known_yet_are_left_out() -> None:
    assert numbers(Progress()) == ""
    assert numbers({"max_steps": 10, "global_step": 0, "loss": 0.0}) == "0/10  loss 0.000"
    assert heading(Job(state="running", progress=None)) == "running"
    assert heading(Job(state="running", progress={"step": "sft", "position": 1, "steps": 1})) == "sft"
    assert heading(Job(state="paused", progress={"step": "sft"})) == "paused"


def test_a_clock() -> None:
    assert [clock(seconds) for seconds in (0, 59.6, 65, 3600)] == ["0:00", "1:00", "1:05", "1:00:00"]
