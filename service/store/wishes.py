"""What a client wishes of a job that is there already."""

from sqlalchemy import update
from sqlalchemy.orm import Session

from service.store import events
from service.store.clock import now
from service.store.errors import NotFound, StateConflict
from service.store.events import Kind
from service.store.jobs import forget_hold, locked, move
from service.store.states import State
from service.store.tables import Job


def cancel(session: Session, owner: str, job_id: str) -> Job:
    """Cancels a job that waits; of one that runs, asks: the wish comes back to its worker with the next heartbeat."""
    job = locked(session, Job.id == job_id, Job.owner == owner)
    if job is None:
        raise NotFound("job", job_id)
    if job.state in (State.QUEUED, State.PAUSED):
        move(session, job_id, State.CANCELLED)
        forget_hold(session, job)
        events.add(session, job_id, Kind.CANCELLED, "Cancelled before it ran on.")
    elif job.state == State.RUNNING:
        if job.cancel_requested_at is None:
            session.execute(update(Job).where(Job.id == job_id).values(cancel_requested_at=now()))
            events.add(session, job_id, Kind.CANCEL_REQUESTED, "The worker will stop at the step after its next heartbeat.")
    elif job.state != State.CANCELLED:
        raise StateConflict(job.state, "cancelled")
    session.refresh(job)
    return job
