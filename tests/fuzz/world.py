"""A service that is worth asking: two owners with keys of every scope, jobs in every state, and what they made."""

import base64
import hashlib
import json
import shutil
from collections import defaultdict
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
# Made here: what stands in the source the fuzzer finds, and sends.
MARKS = {owner: hashlib.sha256(owner.encode()).hexdigest()[:16] for owner in ("ann", "bob")}

WORKER = "worker-1"


@dataclass(frozen=True)
class World:
    """An application with its real middleware over a real database, and the keys that open it, by who asks."""

    app: Any
    database: Database
    names: dict[str, list[Any]]  # what there is, by the first part of a path and the name of its parameter
    bodies: dict[str, list[Any]]  # that are accepted, by operation, where the document has no examples of them
    queries: dict[str, dict[str, Any]]  # that they need

    def key_for(self, asked_by: str) -> str:
        """A new one: who may revoke keys has perhaps revoked the last."""
        return _key(self.database, *KEYS[asked_by])


@contextmanager
def a_world(folder: Path, database_url: str | None = None) -> Iterator[World]:
    settings = _settings(folder)
    database = Database(database_url or f"sqlite:///{folder}/fuzz.db")
    schema.upgrade(database)
    bell = Bell()
    app = create_app(settings, database, bell)
    app.state.deliverer = None  # nothing is posted to addresses that were drawn at random
    try:
        _register(database)
        names: dict[str, list[Any]] = defaultdict(list)
        for owner in MARKS:
            for name, made in _lived(app, database, _key(database, *KEYS[owner]), owner):
                names[name].append(made)
        names |= {"workers name": [WORKER], "get_owner owner": [*MARKS], "change_owner owner": ["carol"]}
        names["datasets name"].append("letters")
        bell.on_ring = _working_off(database)
        yield World(app, database, names, _bodies(), QUERIES)
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
        rate_limit=0,
        failed_sign_ins_per_minute=0,
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


def _lived(app: Any, database: Database, key: str, owner: str) -> Iterator[tuple[str, Any]]:
    """Jobs of an owner that have come to different ends, with what they left; data sets, files, uploads and a webhook. Gives the
    names of all of it.
    """
    mark, root = MARKS[owner], app.state.settings.artifacts_root
    door = Door(app)  # without its lifespan, which is the fuzzer's to begin
    door.headers = {"authorization": f"Bearer {key}"}
    for end in ("succeeded", "failed", "running", "pause", "cancel", "queued"):
        job_id = door.submit({**a_job(), "name": mark, "labels": {"whose": mark}})
        yield "jobs job_id", job_id
        yield "v1 fine_tuning_job_id", f"ft{job_id}"
        if end in ("succeeded", "failed", "running"):
            _work(database, root, _claim(database, job_id), end, mark)
        elif end != "queued":
            assert door.post(f"/jobs/{job_id}/{end}").status_code == 200
    yield "jobs name", "notes.txt"
    yield "jobs global_step", 2
    yield from (("v1 name", model["id"]) for model in door.get("/v1/models").json()["data"])
    yield "datasets name", _made(door.put(f"/datasets/own-{owner}", params=QUERIES["put_dataset"], content=_rows(mark)))["name"]
    sending = {"file_name": "a.json", "size": 100}
    yield "datasets upload_id", _made(door.post(f"/datasets/own-{owner}/uploads", json=sending))["id"]
    file = {"file": ("a.jsonl", _chat(mark))}
    yield "v1 file_id", _made(door.post("/v1/files", data={"purpose": "fine-tune"}, files=file))["id"]
    upload = {"bytes": 100, "filename": f"{mark}.jsonl", "mime_type": "text/jsonl", "purpose": "fine-tune"}
    yield "v1 upload_id", _made(door.post("/v1/uploads", json=upload))["id"]
    hook = _made(door.post("/webhooks", json={"url": "https://example.com/h", "description": mark}))
    yield "webhooks webhook_id", hook["id"]
    yield "webhooks delivery_id", _made(door.post(f"/webhooks/{hook['id']}/test"))["id"]


def _made(response: Any) -> dict[str, Any]:
    assert response.is_success, response.text
    made: dict[str, Any] = response.json()
    return made


def _rows(mark: str) -> str:
    return json.dumps([{"instruction": "a", "output": mark}])


def _chat(mark: str) -> str:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": mark}]
    return json.dumps({"messages": messages}) + "\n"


QUERIES = {"put_dataset": {"file_name": "a.json"}}


def _bodies() -> dict[str, list[Any]]:
    model = {"model": "tiny", "training_file": "letters", "method": {"type": "supervised"}}
    return {
        "create_fine_tuning_job": [model, {**model, "seed": 3, "suffix": "x"}],
        "put_dataset": [_rows("b"), "[]", _rows("c") + "]"],
        "create_file": [{"file": _chat("b"), "purpose": purpose} for purpose in ("user_data", "batch")],
        "add_upload_part": [{"data": _chat("b")}],
        "create_sending": [{"file_name": "a.json", "size": 10}],
        "continue_sending": ["[", "[]"],
        "create_upload": [{"bytes": 10, "filename": "a", "mime_type": "text/plain", "purpose": "batch"}],
    }


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
    made.artifact(database, held, root, "notes.txt", mark.encode() * 5)
    (root / held.job_id / str(held.attempt) / "log.txt").write_text(f"{mark}\nanother line\n")
    if end == "succeeded":
        made.finish_step(database, held, step)
        made.succeed(database, held)
    elif end == "failed":
        with database.transaction() as session:
            leases.fail(session, held, Reason.BAD_ROW, mark)


def _working_off(database: Database) -> Any:
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
