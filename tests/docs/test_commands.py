"""Every command of the pages in docs/how-to is run here, and what the page says of it is looked at."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.client import Client
from tests.containers import ROOT, Stack, read_dotenv
from tests.docs.pages import Hosts, commands, hosts

pytestmark = pytest.mark.slow

QUICK = {
    "model": {"model_name_or_path": "tiny-llama"},
    "data": {"dataset": "instructions", "template": "alpaca", "cutoff_len": 64, "max_samples": 40, "val_size": 8},
    "training": {"max_steps": 2, "per_device_train_batch_size": 2},
    "resources": {"gpus": 0},
}


@pytest.fixture
def made() -> Iterator[Hosts]:
    with tempfile.TemporaryDirectory(prefix="fb-d-", ignore_cleanup_errors=True) as folder, hosts(Path(folder)) as opened:
        yield opened


def started(made: Hosts, name: str = "finebits") -> tuple[Path, Stack]:
    """A checkout with its services running, as the page on deploying leaves them."""
    checkout = made.checkout(name)
    write_env, up, *_ = commands("deploy")
    made.run(checkout, write_env + up)
    made.stacks[checkout].wait_until_healthy("api")
    return checkout, made.stacks[checkout]


def client_of(stack: Stack) -> Client:
    return Client(stack.url, stack.dotenv["FINEBITS_API_KEY"])


def done(stack: Stack, job_id: str) -> dict[str, Any]:
    with client_of(stack) as client:
        for sighting in client.watch(job_id):
            job: dict[str, Any] = dict(sighting.job)
    assert job["state"] == "succeeded", job["sentence"]
    return job


def submit(stack: Stack) -> str:
    with client_of(stack) as client:
        return str(client.submit(QUICK)["id"])


def weights_of(stack: Stack, job_id: str) -> bytes:
    (file,) = Path(stack.dotenv["FINEBITS_ARTIFACTS"], job_id).glob("1/sft/checkpoint-2/adapter_model.safetensors")
    return file.read_bytes()


def test_every_page_has_its_commands_run_here() -> None:
    pages = {path.stem for path in (ROOT / "docs" / "how-to").glob("*.md")}
    assert {"deploy", "backup-and-restore", "upgrade", "add-a-gpu-host"} <= pages
    numbers = [len(commands(page)) for page in ("deploy", "backup-and-restore", "upgrade", "add-a-gpu-host")]
    assert numbers == [5, 4, 3, 2]


def test_the_page_on_deploying(made: Hosts) -> None:
    checkout = made.checkout("finebits")
    write_env, up, post, look, down = commands("deploy")
    assert "docker compose up -d --build" in made.run(checkout, write_env)
    assert stat.S_IMODE((checkout / ".env").stat().st_mode) == 0o600
    made.run(checkout, up)
    stack = made.stacks[checkout]
    stack.wait_until_healthy("api")
    said = made.run(checkout, post)
    job_id = said.split('"id":"')[1].split('"')[0]
    said = made.run(checkout, look)
    assert job_id in said
    assert {"postgres", "broker", "migrate", "api", "worker-cpu"} <= set(said.split())
    assert "GET /readyz" in said
    made.run(checkout, down)
    assert all(process.poll() is not None for process in stack.processes.values())


@pytest.mark.long
def test_the_page_on_backups_with_compose_brings_everything_back(made: Hosts) -> None:
    checkout, stack = started(made)
    save, restore, *_ = commands("backup-and-restore")
    kept = submit(stack)
    done(stack, kept)
    weights = weights_of(stack, kept)
    made.run(checkout, save)
    assert stat.S_IMODE((checkout / "backup").stat().st_mode) == 0o700

    # what came later is lost, and so is everything else: the database, the broker's memory, the artifacts, .env
    lost = submit(stack)
    done(stack, lost)
    stack.stop()
    for volume in (stack.place("postgres", "/var/lib/postgresql"), stack.place("broker", "/data"), checkout / "finebits-data"):
        shutil.rmtree(volume)
    (checkout / ".env").unlink()

    made.run(checkout, restore)
    stack = made.stacks[checkout]
    stack.wait_until_healthy("api")
    with client_of(stack) as client:
        assert [job["id"] for job in client.jobs()] == [kept]
        assert client.job(kept)["state"] == "succeeded"
        assert len(client.metrics(kept)) >= 2
        name = next(
            artifact["name"] for artifact in client.artifacts(kept) if artifact["name"].endswith("adapter_model.safetensors")
        )
        assert client.download(kept, name, checkout / "downloaded").read_bytes() == weights
    done(stack, submit(stack))


@pytest.mark.long
def test_the_page_on_upgrading_gets_the_new_version_and_migrates(made: Hosts) -> None:
    checkout, stack = started(made)
    get, stop, start = commands("upgrade")
    job_id = submit(stack)
    done(stack, job_id)
    (made.folder / "origin" / "news.txt").write_text("new")
    made.commit(made.folder / "origin", "a new version")
    made.run(checkout, get)
    assert (checkout / "news.txt").exists()

    made.run(checkout, stop)
    assert stack.processes["api"].poll() is not None
    assert stack.processes["worker-cpu"].poll() == 0
    assert (checkout / "backup" / "before-the-upgrade.dump").read_bytes().startswith(b"PGDMP")
    # the database as the version before the first migration left it: the upgrade must bring it to the newest
    made.run(
        checkout,
        'docker compose exec -T postgres psql -U finebits -q -c "DROP SCHEMA public CASCADE; CREATE SCHEMA public" finebits',
    )

    said = made.run(checkout, start)
    assert "The database was at nothing and is at " in said
    assert "finebits 0.1.0" in said
    stack.wait_until_healthy("api")


@pytest.mark.long
def test_the_page_on_another_host_gives_its_jobs_to_both(made: Hosts) -> None:
    first, stack = started(made)
    second = made.checkout("second")
    open_up, join = commands("add-a-gpu-host")
    made.run(first, open_up)
    stack = made.stacks[first]
    stack.wait_until_healthy("api")
    assert stack.dotenv["FINEBITS_CLUSTER_ADDRESS"] == "10.0.0.1"
    stack.stop("worker-cpu")  # so that whoever takes the job is the other

    made.run(second, join)
    assert list(made.stacks[second].processes) == ["worker"]
    assert "COMPOSE_FILE" not in read_dotenv(second / ".env")
    made.stacks[second].wait_until_healthy("worker")
    job_id = submit(stack)
    done(stack, job_id)
    assert len(weights_of(stack, job_id)) > 1000


def test_the_page_on_backups_of_the_embedded_default_copies_while_it_is_written(made: Hosts, tmp_path: Path) -> None:
    import sqlite3

    from service.specs.read import read_job
    from service.store import jobs, schema
    from service.store.session import Database

    *_, save, restore = commands("backup-and-restore")
    home = tmp_path / "finebits-data"
    database = Database(f"sqlite:///{home}/finebits.db")
    schema.upgrade(database)
    (home / "artifacts" / "job-1").mkdir(parents=True)
    (home / "artifacts" / "job-1" / "weights").write_bytes(b"0123")
    document = QUICK | {"resources": {}}
    with database.transaction() as session:
        job_id = jobs.create(session, "local", document, read_job(document)).id
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    with database.transaction() as session:
        jobs.create(session, "local", document, read_job(document))
        session.flush()  # a job that is being written, and is not there yet
        run(tmp_path, save)
    database.close()
    assert stat.S_IMODE((tmp_path / "backup-of-up").stat().st_mode) == 0o700

    run(tmp_path, restore)
    with sqlite3.connect(tmp_path / "finebits-restored" / "finebits.db") as restored:
        assert restored.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert restored.execute("SELECT id, state FROM jobs").fetchall() == [(job_id, "queued")]
    restored.close()
    assert (tmp_path / "finebits-restored" / "artifacts" / "job-1" / "weights").read_bytes() == b"0123"


def run(folder: Path, block: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FINEBITS_")}
    environment["PYTHONPATH"] = str(ROOT)
    subprocess.run(["bash", "-euo", "pipefail", "-c", block], cwd=folder, env=environment, check=True, timeout=240)
