"""Texts that are written while their client reads: each is a job, with the pieces that it has written so far.

The reader is a request at the API and has a lease, as a worker has: one that is not heard of is gone, and its job goes as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from service.store import wishes
from service.store.clock import moment, now
from service.store.leases import Claim
from service.store.states import ENDED, State
from service.store.tables import GeneratedPiece, Generation, Job, StepResult
from service.store.upsert import upsert


@dataclass(frozen=True)
class Reading:
    """What there is to read: the job as it stands, the pieces behind those that are known, and the summary once it is done."""

    state: State
    has_begun: bool
    reason: str | None
    sentence: str | None
    pieces: Sequence[tuple[int, str]]
    summary: dict[str, Any] | None


def begin(session: Session, job_id: str, reader_seconds: float) -> None:
    """That somebody reads what a job that is made in this transaction will write."""
    session.execute(insert(Generation).values(job_id=job_id, reader_until=now() + reader_seconds))


def still_read(session: Session, job_id: str, reader_seconds: float) -> None:
    """The reader is there."""
    renewed = update(Generation).where(Generation.job_id == job_id).values(reader_until=now() + reader_seconds)
    session.execute(renewed.execution_options(synchronize_session=False))


def read(session: Session, job_id: str, behind: int = -1) -> Reading | None:
    """None where the job is there no more."""
    found = session.execute(select(Job.state, Job.attempt, Job.reason, Job.sentence).where(Job.id == job_id)).one_or_none()
    if found is None:
        return None
    wanted = select(GeneratedPiece.number, GeneratedPiece.text).where(
        GeneratedPiece.job_id == job_id, GeneratedPiece.number > behind
    )
    pieces = [(number, text) for number, text in session.execute(wanted.order_by(GeneratedPiece.number))]
    summary = session.scalar(select(StepResult.summary).where(StepResult.job_id == job_id))
    return Reading(State(found.state), found.attempt > 0, found.reason, found.sentence, pieces, summary)


def add(session: Session, held: Claim, number: int, text: str) -> None:
    """A piece, for whoever reads; nothing where nobody does. Call it behind the fence."""
    if session.scalar(select(Generation.job_id).where(Generation.job_id == held.job_id)) is not None:
        upsert(session, GeneratedPiece, [{"job_id": held.job_id, "number": number, "text": text}])


def leave(session: Session, owner: str, job_id: str) -> None:
    """Nobody reads any more. A job that waits or has ended goes, with what it wrote; one that runs is to stop, and goes then."""
    state = session.scalar(select(Job.state).where(Job.id == job_id, Job.owner == owner))
    if state is None:
        return
    if state not in ENDED:
        state = wishes.cancel(session, owner, job_id).state
    if state in ENDED:
        wishes.delete(session, owner, job_id)
        return
    over = update(Generation).where(Generation.job_id == job_id).values(reader_until=now())
    session.execute(over.execution_options(synchronize_session=False))


def forget(session: Session, limit: int = 20) -> list[str]:
    """Leaves those whose reader is gone, and answers which."""
    gone = (
        select(Generation.job_id, Job.owner)
        .join(Job, Job.id == Generation.job_id)
        .where(Generation.reader_until <= moment())
        .order_by(Generation.reader_until)
        .limit(limit)
        .with_for_update(of=Generation, skip_locked=True)
    )
    found = session.execute(gone).all()
    for job_id, owner in found:
        leave(session, owner, job_id)
    return [job_id for job_id, _ in found]
