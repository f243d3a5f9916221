"""A real terminal: tmux, of a size, with a server of its own. What is on its screen can be read, and typed."""

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
    """`finebits` runs in it; when it has ended the screen stays, with its exit code in the last line."""

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
    opened = Terminal(folder / "tmux", width)
    given = {
        "FINEBITS_URL": url,
        "PYTHONPATH": str(ROOT),
        "FINEBITS_HOME": str(folder / "home"),
        "LANG": "C.UTF-8",
        **environment,
    }
    settings = " ".join(f"{name}={shlex.quote(value)}" for name, value in given.items())
    finebits = f"env -u COLUMNS -u LINES -u NO_COLOR {settings} {sys.executable} -m service.cli {shlex.join(arguments)}"
    command = f'trap : INT; {finebits}; code=$?; echo; echo "exit code $code"; exec sleep 600'
    size = ("-x", str(width), "-y", str(height))
    opened.tmux("new-session", "-d", *size, f"sh -c {shlex.quote(command)}")
    try:
        yield opened
    finally:
        opened.tmux("kill-server")
