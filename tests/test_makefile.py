"""The Makefile in a folder of its own, with a Python that only notes what it is asked to do."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

PYTHON = """#!/bin/sh
case "$1 $2" in
  "--version ") echo "Python 3.10.1" ;;
  *version_info*) exit {old} ;;
  *ensurepip*) exit {bare} ;;
  "-m venv")
    mkdir -p "$3/bin"
    for name in pip python ruff mypy sphinx-build pre-commit finebits; do
      printf '#!/bin/sh\\necho "%s $*" >> asked\\nenv | grep ^FINEBITS_ >> environment\\ntrue\\n' $name > "$3/bin/$name"
      chmod +x "$3/bin/$name"
    done ;;
esac
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "constraints.txt").touch()
    write_python(tmp_path)
    return tmp_path


def write_python(folder: Path, old: int = 0, bare: int = 0) -> None:
    (folder / "python").write_text(PYTHON.format(old=old, bare=bare))
    (folder / "python").chmod(0o755)


def make(folder: Path, *targets: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("FINEBITS_", "MAKE", "MFLAGS"))}
    command = ["make", "--no-print-directory", f"PYTHON={folder}/python", *targets]
    return subprocess.run(command, cwd=folder, env={**plain, **environment}, capture_output=True, text=True)


def asked(folder: Path) -> list[str]:
    """What the environment's programs were asked to do since the last look."""
    file = folder / "asked"
    lines = [line.replace("--disable-pip-version-check ", "") for line in file.read_text().splitlines()] if file.exists() else []
    file.unlink(missing_ok=True)
    return lines


def test_plain_make_lists_every_target_and_does_nothing(folder: Path) -> None:
    done = make(folder)
    names = [line.split()[1] for line in done.stdout.splitlines()]
    assert names == [
        "help",
        "setup",
        "demo",
        "test",
        "long",
        "chaos",
        "fuzz",
        "audit",
        "attack",
        "coverage",
        "lint",
        "docs",
        "links",
        "pre-commit",
        "up",
        "env",
        "migrate",
        "bench",
        "clean",
    ]
    assert all(len(line.split()) > 3 for line in done.stdout.splitlines())
    assert not (folder / ".venv").exists()


RUNTIME = ["pip install -c constraints.txt torch==2.13.0", "pip install -c constraints.txt -e .[worker,embedded]"]
DEV = ["pip install -c constraints.txt -e .[dev]"]


def test_setup_installs_once_and_again_when_what_is_needed_changes(folder: Path) -> None:
    assert make(folder, "setup").returncode == 0
    assert asked(folder) == [*RUNTIME, *DEV]
    assert make(folder, "setup").returncode == 0
    assert asked(folder) == []
    os.utime(folder / "pyproject.toml", (2**31, 2**31))
    make(folder, "setup")
    assert asked(folder) == [*RUNTIME, *DEV]


def test_demo_and_up_install_only_what_runs_the_service(folder: Path) -> None:
    assert make(folder, "demo").returncode == 0
    assert asked(folder) == [*RUNTIME, "finebits demo"]
    make(folder, "up")
    make(folder, "migrate")
    assert asked(folder) == ["finebits up", "finebits migrate"]
    make(folder, "test")
    make(folder, "lint")
    assert asked(folder) == [
        *DEV,
        "python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder",
        "ruff check",
        "ruff format --check",
        "mypy ",
    ]


def test_up_shows_the_examples_unless_the_environment_names_others(folder: Path) -> None:
    make(folder, "up")
    (folder / "environment").unlink()  # of the installation too
    make(folder, "up", FINEBITS_MODELS_ROOT="/my models")
    said = (folder / "environment").read_text()
    assert "FINEBITS_MODELS_ROOT=/my models\n" in said
    assert f"FINEBITS_DATASETS_ROOT={folder}/examples\n" in said


def test_an_old_python_is_said(folder: Path) -> None:
    write_python(folder, old=1)
    done = make(folder, "setup")
    assert done.returncode != 0
    assert f"Finebits needs Python 3.11 or newer; {folder}/python says: Python 3.10.1." in done.stderr
    assert not (folder / ".venv").exists()


def test_a_python_without_ensurepip_is_said_with_what_to_install(folder: Path) -> None:
    write_python(folder, bare=1)
    done = make(folder, "demo")
    assert done.returncode != 0
    assert "apt-get install python3-venv" in done.stderr
    assert not (folder / ".venv").exists()


def test_a_benchmark_that_fails_stops_the_rest(folder: Path) -> None:
    (folder / "benchmarks").mkdir()
    for name in ("a", "b"):
        (folder / "benchmarks" / f"{name}.py").touch()
    assert make(folder, "bench").returncode == 0
    assert asked(folder)[-2:] == ["python benchmarks/a.py", "python benchmarks/b.py"]
    program = folder / ".venv" / "bin" / "python"
    program.write_text(program.read_text().replace("\ntrue\n", "\nfalse\n"))
    assert make(folder, "bench").returncode != 0
    assert asked(folder) == ["python benchmarks/a.py"]


def test_fuzz_and_audit_hand_options_on_and_fail_as_what_they_run_does(folder: Path) -> None:
    make(folder, "setup")
    asked(folder)
    assert make(folder, "fuzz", OPTIONS="--seed 7").returncode == 0
    assert make(folder, "audit", OPTIONS="--bill bill.json").returncode == 0
    assert asked(folder) == ["python -m tests.fuzz --seed 7", "python -m tests.audit --bill bill.json"]
    program = folder / ".venv" / "bin" / "python"
    program.write_text(program.read_text().replace("\ntrue\n", "\nfalse\n"))
    assert make(folder, "fuzz").returncode != 0
    assert make(folder, "audit").returncode != 0


def test_clean_leaves_the_data(folder: Path) -> None:
    make(folder, "setup")
    (folder / "finebits-data").mkdir()
    assert make(folder, "clean").returncode == 0
    assert not (folder / ".venv").exists()
    assert (folder / "finebits-data").exists()
