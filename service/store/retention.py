"""Which checkpoints and artifacts are kept: the newest, the best, and all of them only for their time to live."""

import heapq
from collections.abc import Sequence

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from service.store import artifacts, checkpoints, events, metrics, removals
from service.store.clock import moment, now
from service.store.events import Kind
from service.store.leases import Claim
from service.store.references import is_measured, is_needed
from service.store.states import ENDED
from service.store.tables import Artifact, Checkpoint, Job

BEST_BY = "cross_entropy"  # the lower the better, and the earlier of equals


def thin(session: Session, held: Claim, step: str, newest: int | None, best: int | None) -> list[int]:
    """Gives up a step's checkpoints beyond the newest and the best, and answers which. Call it behind the fence.

    The newest always stays: the job goes on from it, and "@name" stands for it once the step is done. So does one that another
    job is to measure.
    """
    if newest is None and best is None:
        return []
    saved = sorted(checkpoints.kept(session, held.job_id, step), key=lambda checkpoint: checkpoint.global_step)
    stay = {checkpoint.global_step for checkpoint in saved[-(newest or 1) :]}
    stay |= set(_best(session, held.job_id, step, [checkpoint.global_step for checkpoint in saved], best or 0))
    given_up = [checkpoint for checkpoint in saved if checkpoint.global_step not in stay]
    gone = [one for one in given_up if not is_measured(session, f"{held.job_id}/{step}/{one.global_step}")]
    if gone:
        remove(session, held.job_id, gone)
        told = ", ".join(str(checkpoint.global_step) for checkpoint in gone)
        data = {"step": step, "global_steps": [checkpoint.global_step for checkpoint in gone]}
        events.add(session, held.job_id, Kind.FILES_REMOVED, f"Checkpoint {told} of {step} is kept no longer.", data)
    return [checkpoint.global_step for checkpoint in gone]


def expire(session: Session, limit: int = 20) -> list[str]:
    """Gives up what ended jobs made whose time to live is over, and answers which jobs'. Logs, events and measures stay.

    What a job that has not ended refers to stays as well, and is looked at again by the next sweep.
    """
    over = (
        select(Job.id)
        .where(Job.expires_at <= moment(), Job.state.in_(ENDED), ~is_needed(Job))
        .order_by(Job.expires_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    locked = session.scalars(over).all()
    # again, with the rows locked: a job may have come meanwhile, whose reference was not to be seen when the statement began
    expired = list(session.scalars(select(Job.id).where(Job.id.in_(locked), ~is_needed(Job)).order_by(Job.expires_at)))
    for job_id in expired:
        _expire_job(session, job_id)
    return expired


def _expire_job(session: Session, job_id: str) -> None:
    saved = checkpoints.kept(session, job_id)
    remove(session, job_id, saved)
    removals.ask(session, [artifact.path for artifact in artifacts.of_job(session, job_id)])
    session.execute(delete(Artifact).where(Artifact.job_id == job_id))
    session.execute(update(Job).where(Job.id == job_id).values(expires_at=None))
    sentence = f"What the job made is kept no longer: {len(saved)} checkpoints, and its other files."
    events.add(session, job_id, Kind.FILES_REMOVED, sentence, {"checkpoints": len(saved)})


def _best(session: Session, job_id: str, step: str, among: Sequence[int], number: int) -> list[int]:
    rows = metrics.of_job(session, job_id, step=step, measure=BEST_BY) if number else []
    bits = {
        row.global_step: row.value for row in rows if row.global_step in among and row.value is not None and row.split != "anchor"
    }
    return heapq.nsmallest(number, bits, key=lambda global_step: (bits[global_step], global_step))


def remove(session: Session, job_id: str, saved: Sequence[Checkpoint]) -> None:
    """Gives up those checkpoints: their rows say so from now on, and their files go after the commit."""
    for checkpoint in saved:
        checkpoint.removed_at = session.scalar(select(now()))
        # of its folder, and no other whose name begins alike
        inside = Artifact.path.startswith(f"{checkpoint.path}/", autoescape=True)
        session.execute(delete(Artifact).where(Artifact.job_id == job_id, inside))
    session.flush()
    removals.ask(session, [checkpoint.path for checkpoint in saved])
