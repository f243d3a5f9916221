import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from service.client import Client

ROOT = Path(__file__).resolve().parents[3]

# `finebits up` with stand-ins for the API and the worker
PROGRAM = """
import sys
from functools import partial
from service.cli import serving
from service.cli.main import app
from service.embedded import running
from tests.service import stand_ins
serving.running = partial(running, api=stand_ins.API, worker=getattr(stand_ins, sys.argv.pop(1)))
app(prog_name="finebits")
"""


@contextmanager
def up(home: Path, *options: str, worker: str = "WORKER", **environment: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", PROGRAM, worker, "up", "--home", str(home), "--port", "0", *options]
    ours = {name: value for name, value in os.environ.items() if not name.startswith("FINEBITS_")}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env={**ours, **environment}
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: "subprocess.Popen[str]", last: str) -> str:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if last in line:
            break
    return "".join(lines)


def wait_for_story(home: Path, words: str) -> None:
    """Until the stand-in for the worker has written them."""
    deadline, file = time.monotonic() + 60, home / "worker.txt"
    while not file.exists() or words not in file.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_everything_is_and_a_signal_ends_it_well(tmp_path: Path, ending: signal.Signals) -> None:
    home = tmp_path / "home"
    with up(home, "--models", str(ROOT / "service"), FINEBITS_DATASETS_ROOT=str(ROOT / "tests")) as process:
        said = read_until(process, "Ctrl-C stops it")
        address = re.search(r"Finebits is at (http://127\.0\.0\.1:\d+)\n", said)
        assert address is not None
        with Client(address[1]) as client:
            assert client.is_ready()
        for folder in (home, home / "logs", ROOT / "service", ROOT / "tests"):
            assert f" {folder}\n" in said
        assert "is open to all who can reach it here, since FINEBITS_API_KEY is not set" in said
        wait_for_story(home, "redis")
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 4
        process.send_signal(ending)
        said, errors = process.communicate(timeout=120)
        assert (process.returncode, errors) == (0, "")
    assert said.endswith("Finebits has stopped.\n")
    assert (home / "worker.txt").read_text().endswith("checkpoint written\n")
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children[:4])


def test_a_second_ctrl_c_cuts_the_stopping_short(tmp_path: Path) -> None:
    patient = {"FINEBITS_API_KEY": "sixteen-characters", "FINEBITS_GRACE_SECONDS": "3600"}
    with up(tmp_path, worker="STUBBORN_WORKER", **patient) as process:
        assert "open to all" not in read_until(process, "Ctrl-C stops it")
        wait_for_story(tmp_path, "redis")
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        read_until(process, "cuts it short")
        wait_for_story(tmp_path, "told to end")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
        assert process.returncode == 0
    psutil.wait_procs(children, timeout=60)
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)


def test_with_json_it_says_so_in_objects(tmp_path: Path) -> None:
    with up(tmp_path, "--json") as process:
        running = json.loads(read_until(process, "running"))
        with Client(running["url"]) as client:
            assert client.is_ready()
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=120)
    assert (running["home"], process.returncode) == (str(tmp_path), 0)
    assert [json.loads(line) for line in said.splitlines()] == [{"state": "stopping"}, {"state": "stopped"}]


def test_a_worker_that_dies_ends_it_with_the_end_of_its_log(tmp_path: Path) -> None:
    with up(tmp_path, worker="DYING_WORKER") as process:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 1
    assert "The worker ended with exit code 7" in errors
    assert "no such model" in errors
    assert "Traceback" not in errors
