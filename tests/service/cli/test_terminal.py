"""The command line in a real terminal: tmux, narrow and wide, with colour and without, and through a pipe."""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.service.cli.terminal import IS_HERE, terminal
from tests.service.cli.world import NAME, ONE, OTHER, PROGRESS, stocked, whole_job
from tests.service.fake_service import Answer, FakeService

pytestmark = pytest.mark.skipif(not IS_HERE, reason="tmux is not installed")

COLOURS = {"colour": {}, "no colour": {"NO_COLOR": "1"}, "dumb": {"TERM": "dumb"}}
CODES = re.compile(r"\x1b\[[\d;]*m")

# What must be read in full, however narrow the terminal is: as words, since lines may end between any two of them.
SHOWN = {
    ("jobs",): (ONE, NAME, "pretrain 1/2 training 40/400 loss 3.214 12,300 tokens/s 1:05 left"),
    ("show", ONE): (ONE, NAME, "succeeded", "cross_entropy", "2.000 ± 0.020", "always the fast ones."),
    ("metrics", ONE): ("cross_entropy", "[bits/token]", "-4.000 ± 0.010", "perplexity"),
    ("metrics", ONE, "--series", "loss"): ("sft: loss", "0.0225 ┤"),
    ("compare", ONE, OTHER): (ONE, OTHER, "+0.100 ± ≤0.020", "[+0.061, +0.139]"),
    ("diff", ONE, OTHER): (ONE, OTHER, "steps.sft.training.learning_rate"),
    ("workers",): ("host-a", "NVIDIA H100 80GB HBM3", "12.3 of 85.0 GB", OTHER),
    ("checkpoints", ONE): ("sft 40",),
    ("data", "list"): ("talks.jsonl", "conversations"),
    ("data", "preview", "talks"): ("Add 1 and 2.",),
    ("doctor",): ("torch", "Nothing answers", "FINEBITS_URL"),
    ("--help",): ("Fine-tune language models", "doctor", "webhooks", "gives more for less drift"),
    ("watch", "--help"): ("Ctrl-C leaves it running",),
}
QUICK = [(("jobs",), 60, "colour"), (("compare", ONE, OTHER), 80, "no colour"), (("show", ONE), 200, "dumb")]
ALL = [(arguments, width, "colour") for arguments in SHOWN for width in (60, 80, 200)]
ALL += [(arguments, 80, colour) for arguments in SHOWN for colour in ("no colour", "dumb")]


def looks_right(url: str, folder: Path, arguments: tuple[str, ...], width: int, colour: str) -> None:
    """Nothing is cut, no line is broken but between words, and colours are there where they may be."""
    at = "http://127.0.0.1:9" if arguments == ("doctor",) else url
    with terminal(folder, at, arguments, width, **COLOURS[colour]) as opened:
        lines, code = opened.until_ended()
        coloured = opened.tmux("capture-pane", "-p", "-e", "-S", "-")
    assert code == 0 or arguments == ("doctor",)
    assert max(map(len, lines)) <= width
    told = " ".join(" ".join(lines).split())
    for words in SHOWN[arguments]:
        assert words in told or all(word in told.split() for word in words.split()), "\n".join(lines)
    assert "…" not in told
    if colour != "colour":
        assert not re.search(r"\x1b\[[\d;]*3[1-7]m", coloured)


@pytest.mark.parametrize(("arguments", "width", "colour"), QUICK)
def test_it_is_read_in_full(
    fake: tuple[FakeService, str], tmp_path: Path, arguments: tuple[str, ...], width: int, colour: str
) -> None:
    stocked(fake[0])
    looks_right(fake[1], tmp_path, arguments, width, colour)


@pytest.mark.long
@pytest.mark.parametrize(("arguments", "width", "colour"), [one for one in ALL if one not in QUICK])
def test_everything_is_read_in_full(
    fake: tuple[FakeService, str], tmp_path: Path, arguments: tuple[str, ...], width: int, colour: str
) -> None:
    stocked(fake[0])
    looks_right(fake[1], tmp_path, arguments, width, colour)


def test_states_have_their_colours_where_there_are_any(fake: tuple[FakeService, str], tmp_path: Path) -> None:
    stocked(fake[0])
    with terminal(tmp_path, fake[1], ["jobs"], 160) as opened:
        opened.until_ended()
        shown = opened.tmux("capture-pane", "-p", "-e", "-S", "-")
    assert "\x1b[32msucceeded" in shown
    assert "\x1b[36mrunning" in shown


def training(service: FakeService) -> None:
    """The job OTHER trains on, with a loss that falls at each look."""
    looks = iter(range(1, 10_000))

    def now(asked: object) -> Answer:
        n = next(looks)
        progress = PROGRESS | {"loss": 9 / n, "global_step": n}
        return Answer(body=whole_job(OTHER, 1e-3, state="running", progress=progress, finished_at=None))

    service.answers("GET", f"/jobs/{OTHER}", now)


@pytest.mark.parametrize(("width", "colour"), [(60, "colour"), pytest.param(160, "dumb", marks=pytest.mark.long)])
def test_watch_moves_and_ctrl_c_stops_nothing(fake: tuple[FakeService, str], tmp_path: Path, width: int, colour: str) -> None:
    service, url = fake
    stocked(service)
    training(service)
    with terminal(tmp_path, url, ["watch", OTHER], width, **COLOURS[colour]) as opened:
        if colour == "colour":
            lines = opened.until("█")  # the loss as a small plot, once there are two
            assert any("━" in line for line in lines)
        lines = opened.until("1:05 left")
        assert max(map(len, lines)) <= width
        opened.type("C-c")
        lines, code = opened.until_ended()
    assert code == 130
    assert any("The job goes on." in line for line in lines)
    assert f"  finebits watch {OTHER}" in lines
    assert all(asked.method == "GET" for asked in service.asked)


def test_ctrl_c_ends_logs_that_are_followed_and_nothing_else(fake: tuple[FakeService, str], tmp_path: Path) -> None:
    service, url = fake
    stocked(service)
    training(service)
    ended = threading.Event()

    def later(asked: object) -> Answer:
        ended.wait(60)
        return Answer(200, b"", "text/event-stream")

    piece = b'id: 1\nevent: log\ndata: {"attempt": 1, "text": "one line\\n"}\n\n'
    service.answers("GET", f"/jobs/{OTHER}/logs/stream", Answer(200, piece, "text/event-stream"), later)
    with terminal(tmp_path, url, ["logs", OTHER, "-f"], 60) as opened:
        opened.until("one line")
        opened.type("C-c")
        lines, code = opened.until_ended()
        ended.set()
    assert code == 130
    assert [line for line in lines if line not in ("", "^C")] == ["one line"]
    assert all(asked.method == "GET" for asked in service.asked)


@pytest.mark.parametrize(("width", "key"), [(60, "q"), pytest.param(160, "C-c", marks=pytest.mark.long)])
def test_top_shows_what_there_is_until_a_key_ends_it(fake: tuple[FakeService, str], tmp_path: Path, width: int, key: str) -> None:
    stocked(fake[0])
    with terminal(tmp_path, fake[1], ["top", "--every", "0.3"], width, height=200) as opened:
        lines = opened.until("q ends")
        told = " ".join(" ".join(lines).split())
        assert max(map(len, lines)) <= width
        for words in (NAME, "host-a", "NVIDIA H100 80GB HBM3", "tokens/s 1:05 left"):
            assert all(word in told.split() for word in words.split()), "\n".join(lines)
        opened.type(key)
        lines, code = opened.until_ended()
    assert code == 0
    assert not any("host-a" in line for line in lines)  # the screen is as it was before


@pytest.mark.long
def test_where_there_is_no_room_top_says_that_there_is_more(fake: tuple[FakeService, str], tmp_path: Path) -> None:
    stocked(fake[0])
    with terminal(tmp_path, fake[1], ["top"], 60, height=10) as opened:
        lines = opened.until("... and more")
        assert len(lines) <= 10
        opened.type("q")
        opened.until_ended()


def test_a_pipe_gets_plain_lines(fake: tuple[FakeService, str], tmp_path: Path) -> None:
    stocked(fake[0])
    command = [sys.executable, "-m", "service.cli", "--url", fake[1], "jobs"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"COLUMNS": "20"})
    assert "\x1b" not in done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines()[2:]] == [ONE, OTHER]
    assert NAME in done.stdout
