import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from service import dotenv
from service.cli.main import app
from tests.containers import read_compose, read_dotenv

ROOT = Path(__file__).resolve().parents[2]
SECRETS = ("FINEBITS_API_KEY", "FINEBITS_POSTGRES_PASSWORD", "FINEBITS_BROKER_PASSWORD", "FINEBITS_SECRET_KEY")


def written(folder: Path, name: str = ".env") -> dict[str, str]:
    dotenv.write(folder / name, dotenv.folders(folder / "data", None, None))
    return read_dotenv(folder / name)


def init(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["init", *map(str, arguments)])


def test_secrets_are_long_fresh_and_safe_in_a_url(tmp_path: Path) -> None:
    first, second = written(tmp_path), written(tmp_path, ".env.other")
    made = [values[name] for values in (first, second) for name in SECRETS]
    assert len(set(made)) == 2 * len(SECRETS)
    assert all(re.fullmatch(r"[\w-]{43}=?", secret, re.ASCII) for secret in made)


def test_only_its_owner_can_read_it_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        written(tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "data" / "artifacts").stat().st_mode) == 0o750


def test_compose_has_all_that_it_insists_on(tmp_path: Path) -> None:
    services = read_compose(written(tmp_path))["services"]
    assert services["api"]["volumes"][0]["source"] == str(tmp_path / "data" / "artifacts")
    assert services["api"]["volumes"][2]["source"] == str(ROOT / "examples")


def test_containers_run_as_who_writes_it_and_never_as_root(tmp_path: Path) -> None:
    uid = int(written(tmp_path)["FINEBITS_UID"])
    assert uid == (os.getuid() or dotenv.NOT_ROOT)
    assert (tmp_path / "data" / "artifacts").stat().st_uid == uid


@pytest.mark.parametrize(("n_gpus", "profile"), [(0, "cpu"), (1, "gpu"), (4, "gpu")])
def test_the_worker_is_for_what_this_host_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_gpus: int, profile: str) -> None:
    monkeypatch.setattr(dotenv, "CARDS", tmp_path / "gpus")
    for number in range(n_gpus):
        (tmp_path / "gpus" / f"0000:{number:02}:00.0").mkdir(parents=True)
    values = written(tmp_path)
    assert (values["COMPOSE_PROFILES"], values["FINEBITS_CONCURRENCY"]) == (profile, "1"), "GPUs take theirs besides."


def test_a_file_that_is_there_is_not_touched(tmp_path: Path) -> None:
    written(tmp_path)
    before = (tmp_path / ".env").read_text()
    done = init("--file", tmp_path / ".env", "--data", tmp_path / "data")
    assert done.exit_code == 1
    assert "is there already, and nothing was changed" in done.stderr
    assert "--force" in done.stderr
    assert (tmp_path / ".env").read_text() == before


def test_force_keeps_the_file_before_and_says_what_it_is_needed_for(tmp_path: Path) -> None:
    first = written(tmp_path)
    for number in (1, 2):
        done = init("--file", tmp_path / ".env", "--data", tmp_path / "data", "--force")
        assert done.exit_code == 0
        assert f"The file before is {tmp_path}/.env.before-{number}" in done.stdout
    assert read_dotenv(tmp_path / ".env.before-1") == first
    assert read_dotenv(tmp_path / ".env")["FINEBITS_API_KEY"] != first["FINEBITS_API_KEY"]
    assert stat.S_IMODE((tmp_path / ".env.before-2").stat().st_mode) == 0o600


def test_a_folder_that_is_not_there_is_said_before_anything_is_written(tmp_path: Path) -> None:
    done = init("--file", tmp_path / ".env", "--data", tmp_path / "data", "--models", tmp_path / "nowhere")
    assert done.exit_code == 1
    assert f"There is no folder {tmp_path}/nowhere" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_it_needs_nothing_but_python(tmp_path: Path) -> None:
    """-S leaves out site-packages, -I the environment: whatever is installed is out of reach."""
    asked = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv[1:] = {['--file', str(tmp_path / '.env')]!r}"
    asked += f" + ['--data', {str(tmp_path / 'data')!r}]; from service import dotenv; dotenv.main()"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", asked], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "docker compose up -d --build" in done.stdout
    assert not any(secret in done.stdout for secret in read_dotenv(tmp_path / ".env").values() if len(secret) == 43)
