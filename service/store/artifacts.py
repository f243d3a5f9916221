"""The files that a job made."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.store.clock import now
from service.store.errors import NotFound
from service.store.leases import Claim
from service.store.tables import Artifact, Job
from service.store.upsert import upsert


def record(session: Session, held: Claim, name: str, path: str, size: int, sha256: str) -> None:
    """Notes a file. Call it behind the fence."""
    row = {
        "job_id": held.job_id,
        "name": name,
        "attempt": held.attempt,
        "path": path,
        "size": size,
        "sha256": sha256,
        "created_at": session.scalar(select(now())),
    }
    upsert(session, Artifact, [row])


def of_job(session: Session, job_id: str) -> Sequence[Artifact]:
    return session.scalars(select(Artifact).where(Artifact.job_id == job_id).order_by(Artifact.name)).all()


def saved_by(session: Session, owner: str, name: str) -> str | None:
    """The latest of an owner's jobs that has made a file of that name."""
    wanted = select(Artifact.job_id).join(Job, Job.id == Artifact.job_id).where(Job.owner == owner, Artifact.name == name)
    return session.scalar(wanted.order_by(Artifact.created_at.desc()).limit(1))


def get(session: Session, job_id: str, name: str) -> Artifact:
    artifact = session.get(Artifact, (job_id, name))
    if artifact is None:
        raise NotFound("artifact", name)
    return artifact
