"""Checkpoints that are complete, so that a job can go on from them and a client can have them."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.store.clock import now
from service.store.leases import Claim
from service.store.tables import Artifact, Checkpoint
from service.store.upsert import upsert


def record(
    session: Session,
    held: Claim,
    step: str,
    global_step: int,
    path: str,
    epoch: float,
    train_loss: float | None,
    files: list[dict[str, Any]],
) -> None:
    """Notes a checkpoint and its files ({name, size, sha256}). Call it behind the fence."""
    at = session.scalar(select(now()))
    row = {
        "job_id": held.job_id,
        "step": step,
        "global_step": global_step,
        "attempt": held.attempt,
        "path": path,
        "epoch": epoch,
        "train_loss": train_loss,
        "size": sum(file["size"] for file in files),
        "manifest": {"files": files},
        "created_at": at,
        "removed_at": None,
    }
    upsert(session, Checkpoint, [row])
    artifacts = [
        {
            "job_id": held.job_id,
            "name": f"{step}/checkpoint-{global_step}/{file['name']}",
            "attempt": held.attempt,
            "path": f"{path}/{file['name']}",
            "size": file["size"],
            "sha256": file["sha256"],
            "created_at": at,
        }
        for file in files
    ]
    upsert(session, Artifact, artifacts)


def kept(session: Session, job_id: str, step: str | None = None) -> Sequence[Checkpoint]:
    """Those whose files are there, oldest first within each step."""
    return [checkpoint for checkpoint in of_job(session, job_id, step) if checkpoint.removed_at is None]


def of_job(session: Session, job_id: str, step: str | None = None) -> Sequence[Checkpoint]:
    """Oldest first within each step; those that were removed are among them."""
    wanted = select(Checkpoint).where(Checkpoint.job_id == job_id)
    if step is not None:
        wanted = wanted.where(Checkpoint.step == step)
    return session.scalars(wanted.order_by(Checkpoint.created_at, Checkpoint.global_step)).all()
