"""A real terminal: tmux, of a size, with a server of its own. What is on its screen can be read, and typed."""

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
IS_HERE = shutil.which("tmux") is not None


@dataclass
class Terminal:
    """What runs in it is read from its screen. Of `finebits` the screen stays, with its exit code in the last line."""

    socket: Path
    width: int

    def tmux(self, *words: str) -> str:
        command = ["tmux", "-S", str(self.socket), "-f", "/dev/null", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def shown(self) -> list[str]:
        """All lines since the command began, those that have left the screen too."""
        return [line.rstrip() for line in self.tmux("capture-pane", "-p", "-S", "-").rstrip().splitlines()]

    def type(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    def until(self, text: str, seconds: float = 60) -> list[str]:
        """The lines once one of them holds the text."""
        deadline = time.monotonic() + seconds
        lines = self.shown()
        while not any(text in line for line in lines):
            assert time.monotonic() < deadline, "\n".join(lines)
            time.sleep(0.05)
            lines = self.shown()
        return lines

    def until_ended(self, seconds: float = 60) -> tuple[list[str], int]:
        """What it has shown, and its exit code."""
        *lines, last = self.until("exit code ", seconds)
        return lines, int(last.removeprefix("exit code "))


@contextmanager
def terminal(
    folder: Path, url: str, arguments: Sequence[str], width: int, height: int = 40, **environment: str
) -> Iterator[Terminal]:
    """`finebits` with its arguments, until the block ends."""
    finebits = f"{_given(folder, url, environment)} {sys.executable} -m service.cli {shlex.join(arguments)}"
    command = f'trap : INT; {finebits}; code=$?; echo; echo "exit code $code"; exec sleep 600'
    with _opened(folder, f"sh -c {shlex.quote(command)}", width, height) as opened:
        yield opened


@contextmanager
def shell(folder: Path, url: str, command: str, width: int = 120, **environment: str) -> Iterator[Terminal]:
    """A shell that is typed into, with `finebits` on its path, until the block ends."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / "finebits").write_text(f'#!/bin/sh\nexec {sys.executable} -m tests.service.cli.patient "$@"\n')
    (folder / "bin" / "finebits").chmod(0o755)
    here = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "HOME": str(folder), "PS1": "$ "}
    with _opened(folder, f"{_given(folder, url, here | environment)} {command}", width, 40) as opened:
        yield opened


def _given(folder: Path, url: str, environment: dict[str, str]) -> str:
    """What `env` gives a program: the service's address, and nothing of the terminal that the tests are run in."""
    given = {
        "FINEBITS_URL": url,
        "PYTHONPATH": str(ROOT),
        "FINEBITS_HOME": str(folder / "home"),
        "LANG": "C.UTF-8",
        **environment,
    }
    return f"env -u COLUMNS -u LINES -u NO_COLOR {' '.join(f'{name}={shlex.quote(value)}' for name, value in given.items())}"


@contextmanager
def _opened(folder: Path, command: str, width: int, height: int) -> Iterator[Terminal]:
    opened = Terminal(folder / "tmux", width)
    opened.tmux("new-session", "-d", "-x", str(width), "-y", str(height), command)
    try:
        yield opened
    finally:
        opened.tmux("kill-server")
