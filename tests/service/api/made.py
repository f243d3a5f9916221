"""What a worker would have written: attempts, measures, checkpoints, files."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from service.store import artifacts, checkpoints, leases, metrics, steps
from service.store.leases import Claim
from service.store.session import Database


def claim(database: Database) -> Claim:
    """An attempt at the one job that waits."""
    with database.transaction() as session:
        held = leases.claim(session, ("default",), "worker-1", 60)
    assert held is not None
    return held


@contextmanager
def behind_the_fence(database: Database, held: Claim) -> Iterator[Session]:
    """As the supervisor writes: the renewal first, which says that there is more."""
    with database.transaction() as session:
        leases.renew(session, held, 60, more=True)
        yield session


def measure(database: Database, held: Claim, step: str, global_step: int, split: str = "validation", **values: float) -> None:
    with behind_the_fence(database, held) as session:
        metrics.record_measurement(session, held, step, global_step, split, {})
        metrics.record(session, held, step, split, [a_metric(global_step, name, value) for name, value in values.items()])


def a_metric(global_step: int, name: str, value: float) -> dict[str, Any]:
    return {
        "global_step": global_step,
        "measure": name,
        "value": value,
        "unit": "bits/token",
        "standard_error": 0.1,
        "interval": [value - 0.2, value + 0.2],
        "interval_reason": None,
        "n_documents": 5,
        "n_tokens": 50,
        "estimator": "documents",
        "versus_base": None if global_step == metrics.BASE else {"difference": -1.0},
        "versus_best": None,
        "versus_leader": None,
    }


def points(database: Database, held: Claim, step: str, values: dict[int, float], name: str = "loss") -> None:
    with behind_the_fence(database, held) as session:
        for at, value in values.items():
            metrics.record_points(session, held, step, at, {name: value})


def checkpoint(database: Database, held: Claim, step: str, global_step: int, files: dict[str, bytes]) -> None:
    described = [{"name": name, "size": len(body), "sha256": hashlib.sha256(body).hexdigest()} for name, body in files.items()]
    path = f"{held.job_id}/{held.attempt}/{step}/checkpoint-{global_step}"
    with behind_the_fence(database, held) as session:
        checkpoints.record(session, held, step, global_step, path, epoch=0.5, train_loss=1.25, files=described)


def artifact(database: Database, held: Claim, root: Path, name: str, body: bytes, path: str | None = None) -> str:
    """A file and its record; gives back its SHA-256."""
    path = path or f"{held.job_id}/{held.attempt}/{name}"
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(body)
    sha256 = hashlib.sha256(body).hexdigest()
    with behind_the_fence(database, held) as session:
        artifacts.record(session, held, name, path, len(body), sha256)
    return sha256


def finish_step(database: Database, held: Claim, name: str, output: str | None = None) -> None:
    with database.transaction() as session:
        leases.renew(session, held, 60, {"step": name})
        steps.finish(session, held, 0, name, output or f"{held.job_id}/{held.attempt}/{name}", {})


def succeed(database: Database, held: Claim) -> None:
    with database.transaction() as session:
        leases.succeed(session, held)
