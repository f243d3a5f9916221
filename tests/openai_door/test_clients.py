"""The unmodified package of OpenAI against the real service with a real worker."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.embedded import Embedded, running
from service.settings import Settings

DRIVE = Path(__file__).with_name("drive.py")
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
OLDER = ("1.109.1", "2.54.0")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Embedded]:
    settings = Settings(home=tmp_path / "home", port=0, models_root=EXAMPLES / "models")
    with running(settings) as started:
        yield started


def drive(python: Path | str, service: Embedded, *options: str) -> str:
    done = subprocess.run([str(python), str(DRIVE), service.url, *options], capture_output=True, text=True, check=False)
    logs = "\n".join(path.read_text()[-2000:] for path in sorted(service.logs.iterdir()))
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{logs}"
    return done.stdout


@pytest.mark.slow
def test_a_program_written_for_openai_needs_another_base_url_and_nothing_else(service: Embedded) -> None:
    assert "all of it" in drive(sys.executable, service)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_every_method_can_be_had_through_the_client(service: Embedded) -> None:
    drive(sys.executable, service, "every-method")


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("version", OLDER)
def test_older_clients_do_the_same(service: Embedded, tmp_path: Path, version: str) -> None:
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    subprocess.run([str(venv / "bin" / "pip"), "install", "-q", f"openai=={version}"], check=True)
    assert version in drive(venv / "bin" / "python", service)
