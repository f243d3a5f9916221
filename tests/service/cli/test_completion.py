"""What shells are told: their protocols are spoken by hand, and the shells that are here are typed into, in a real terminal."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.service.cli.conftest import Finebits
from tests.service.cli.terminal import IS_HERE, shell
from tests.service.cli.world import ONE, OTHER, stocked
from tests.service.fake_service import FakeService


@pytest.mark.parametrize(
    ("shell", "words"),
    [
        ("bash", "complete -o default -F _finebits_completion finebits"),
        ("zsh", "compdef _finebits_completion finebits"),
        ("fish", "complete --command finebits"),
    ],
)
def test_each_shell_has_its_script(finebits: Finebits, shell: str, words: str) -> None:
    done = finebits("completion", shell)
    assert done.exit_code == 0
    assert words in done.stdout
    assert f"_FINEBITS_COMPLETE=complete_{shell}" in done.stdout


def asked(shell: str, line: str, url: str) -> list[str]:
    """What the command line answers a shell in which `line` has been typed, without what fish and zsh say of each."""
    typed = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))} if shell == "bash" else {"_TYPER_COMPLETE_ARGS": line}
    environment = os.environ | typed | {"_FINEBITS_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    command = [sys.executable, "-m", "tests.service.cli.patient"]
    done = subprocess.run(command, env=environment | {"FINEBITS_URL": url}, capture_output=True, text=True, check=True)
    return done.stdout.replace("'", '"').splitlines()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_commands_and_jobs_are_completed(fake: tuple[FakeService, str], shell: str) -> None:
    service, url = fake
    stocked(service)
    assert ONE in " ".join(asked(shell, "finebits watch job-0", url))
    if shell == "bash":
        assert asked(shell, "finebits che", url) == ["checkpoints"]


def test_a_service_that_is_away_spoils_no_line(fake: tuple[FakeService, str]) -> None:
    assert [line for line in asked("bash", "finebits watch job-0", "http://127.0.0.1:9") if line] == []


def test_bash_completes_by_the_script(fake: tuple[FakeService, str], finebits: Finebits, tmp_path: Path) -> None:
    stocked(fake[0])
    (tmp_path / "finebits").write_text(f'#!/bin/sh\nexec {sys.executable} -m tests.service.cli.patient "$@"\n')
    (tmp_path / "finebits").chmod(0o755)
    script = finebits("completion", "bash").stdout
    ask = 'COMP_WORDS=(finebits watch job-0); COMP_CWORD=2; _finebits_completion finebits; printf "%s\\n" "${COMPREPLY[@]}"'
    environment = os.environ | {"FINEBITS_URL": fake[1], "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", f"{script}\n{ask}"], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == ONE


# Each as a newcomer has it: nothing but the line that `finebits completion --help` says.
SHELLS = {
    "bash": ("bash --noprofile --norc -i", 'eval "$(finebits completion bash)"'),
    "zsh": ("zsh -f -i", 'eval "$(finebits completion zsh)"'),
    "fish": ("fish --private", "finebits completion fish | source"),
}


def in_it(name: str) -> Any:
    missing = pytest.mark.skipif(not IS_HERE or shutil.which(name) is None, reason=f"{name} or tmux is not installed")
    return pytest.param(name, marks=[missing] if name == "zsh" else [missing, pytest.mark.long])


@pytest.mark.parametrize("name", [in_it(name) for name in SHELLS])
def test_the_shell_itself_completes_a_command_and_a_job(fake: tuple[FakeService, str], tmp_path: Path, name: str) -> None:
    stocked(fake[0])
    command, line = SHELLS[name]
    with shell(tmp_path, fake[1], command, TERM="xterm-256color") as opened:
        opened.type(f"{line}; echo is re''ady", "Enter")
        opened.until("is ready")
        opened.type("finebits checkp", "Tab")
        opened.until("finebits checkpoints")
        opened.type("job-0", "Tab")
        opened.until(ONE[:-1])
        opened.type("Tab", "Tab")  # all shells show both then, fish without what they have in common
        said = " ".join(opened.until(OTHER[-6:]))
    assert ONE[-6:] in said
    assert "not found" not in said
    assert "Traceback" not in said
