"""A service that is worth asking: two owners with keys of every scope, jobs in every state, and what they made."""

import base64
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from service.app import create_app
from service.settings import Settings
from service.specs.reasons import Reason
from service.specs.scopes import Scope
from service.store import keys, leases, schema, workers
from service.store.leases import Claim
from service.store.session import Database
from service.store.states import State
from service.store.tables import Generation, Job
from tests.service import shelves
from tests.service.api import made
from tests.service.api.door import Bell, Door
from tests.specs.job_documents import a_job

EXAMPLES = Path(__file__).parents[2] / "examples"

# Who asks: the owner of each key, and what it is for.
KEYS = {
    "ann": ("ann", (Scope.READ, Scope.SUBMIT)),
    "bob": ("bob", (Scope.READ, Scope.SUBMIT)),
    "reader": ("ann", (Scope.READ,)),
    "submitter": ("bob", (Scope.SUBMIT,)),
    "root": ("root", (Scope.ADMIN,)),
}

# What is written into everything that is whose it is, and may be in no answer to the other.
MARKS = {"ann": "mark-of-ann-7c1f", "bob": "mark-of-bob-e09d"}

WORKER = "worker-1"


@dataclass(frozen=True)
class World:
    """An application with its real middleware over a real database, and the keys that open it, by who asks."""

    app: Any
    keys: dict[str, str]
    jobs: dict[str, list[str]]  # by owner


@contextmanager
def a_world(folder: Path) -> Iterator[World]:
    settings = _settings(folder)
    database = Database(f"sqlite:///{folder}/fuzz.db")
    schema.upgrade(database)
    bell = Bell()
    app = create_app(settings, database, bell)
    app.state.deliverer = None  # nothing is posted to addresses that were drawn at random
    try:
        _register(database)
        given = {name: _key(database, *what) for name, what in KEYS.items()}
        jobs = {owner: _lived(app, database, given[owner], owner) for owner in MARKS}
        bell.on_ring = _working_off(database, settings.artifacts_root)
        yield World(app, given, jobs)
    finally:
        database.close()


def _settings(folder: Path) -> Settings:
    roots = shelves.stocked(folder)
    shutil.copytree(EXAMPLES / "models" / "tiny-llama", roots.models / "tiny-llama")
    shutil.copytree(EXAMPLES / "evaluation", roots.datasets / "evaluation")
    _add_datasets(EXAMPLES / "data", roots.datasets / "data")
    return Settings(
        home=folder,
        models_root=roots.models,
        datasets_root=roots.datasets,
        artifacts_root=folder / "artifacts",
        require_key=True,
        secret_key=base64.urlsafe_b64encode(bytes(range(32))).decode(),
        reward_hosts="rewards.example:8000",
        generate_wait_seconds=0,
        max_file_bytes=10_000_000,
    )


def _add_datasets(source: Path, target: Path) -> None:
    """The examples' beside those that are there."""
    both = {}
    for folder in (target, source):
        both |= json.loads((folder / "dataset_info.json").read_text())
    shutil.copytree(source, target, dirs_exist_ok=True)
    (target / "dataset_info.json").write_text(json.dumps(both))


def _register(database: Database) -> None:
    """A worker that is heard of for as long as this takes, without a GPU."""
    report = workers.Report(
        workers.Identity(WORKER, "one"),
        "host",
        1,
        "machine",
        1.0,
        "0",
        [1],
        ["default"],
        [workers.SlotReport()],
        lease_seconds=1e6,
    )
    with database.transaction() as session:
        workers.register(session, report)


def _key(database: Database, owner: str, scopes: tuple[Scope, ...]) -> str:
    with database.transaction() as session:
        return keys.create(session, owner, scopes, f"{MARKS.get(owner, owner)}")[1]


def _lived(app: Any, database: Database, key: str, owner: str) -> list[str]:
    """Jobs of an owner that have come to different ends, with what they left; data sets, a file and a webhook."""
    mark, root = MARKS[owner], app.state.settings.artifacts_root
    door = Door(app)  # without its lifespan, which is the fuzzer's to begin
    door.headers = {"authorization": f"Bearer {key}"}
    ids = []
    for end in ("succeeded", "failed", "running", "pause", "cancel", "queued"):
        ids.append(door.submit({**a_job(), "name": mark, "labels": {"whose": mark}}))
        if end in ("succeeded", "failed", "running"):
            _work(database, root, _claim(database, ids[-1]), end, mark)
        elif end != "queued":
            assert door.post(f"/jobs/{ids[-1]}/{end}").status_code == 200
    rows = json.dumps([{"instruction": "a", "output": mark}]).encode()
    assert door.put(f"/datasets/own-{owner}", params={"file_name": "a.json"}, content=rows).status_code == 201
    chat = json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": mark}]}) + "\n"
    file = {"file": (f"{mark}.jsonl", chat.encode())}
    assert door.post("/v1/files", data={"purpose": "fine-tune"}, files=file).status_code == 200
    assert door.post("/webhooks", json={"url": "https://example.com/h", "description": mark}).status_code == 201
    return ids


def _claim(database: Database, job_id: str) -> Claim:
    with database.transaction() as session:
        held = leases.claim(session, ("default",), WORKER, 1e6, only=job_id)
    assert held is not None
    return held


def _work(database: Database, root: Path, held: Claim, end: str, mark: str) -> None:
    """As a worker leaves it: measures, a series, a checkpoint, a file, a log."""
    step = "sft"
    made.measure(database, held, step, -1, cross_entropy=4.0)
    made.measure(database, held, step, 2, cross_entropy=2.5)
    made.points(database, held, step, {1: 3.0, 2: 2.0})
    made.checkpoint(database, held, step, 2, {"model.safetensors": b"weights"})
    made.artifact(database, held, root, f"{mark}.txt", mark.encode() * 5)
    (root / held.job_id / str(held.attempt) / "log.txt").write_text(f"{mark}\nanother line\n")
    if end == "succeeded":
        made.finish_step(database, held, step)
        made.succeed(database, held)
    elif end == "failed":
        with database.transaction() as session:
            leases.fail(session, held, Reason.BAD_ROW, mark)


def _working_off(database: Database, root: Path) -> Any:
    """Every second job that comes is done at once, and every text that somebody waits for."""
    rings = iter(range(1, 10**9))
    awaited = select(Job.id).join(Generation, Generation.job_id == Job.id).where(Job.state == State.QUEUED)

    def ring(queue: str) -> None:
        with database.transaction() as session:
            waited_for = session.scalar(awaited)
            if waited_for is None and next(rings) % 2:
                return
            held = leases.claim(session, (queue,), WORKER, 1e6, only=waited_for)
            if held is not None:
                leases.succeed(session, held)

    return ring
