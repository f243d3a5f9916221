"""What a client wishes of a job that is there already.

A job that waits obeys at once. Of one that runs the wish is noted, and comes back to its worker with the next heartbeat. The same
wish twice is one wish; a wish that the job's state does not allow raises StateConflict.
"""

from collections.abc import Collection
from typing import Any

from sqlalchemy import delete as sql_delete
from sqlalchemy import exists, select, update
from sqlalchemy.orm import Session

from service.specs.changes import JobChanges
from service.specs.refusals import Refusal, SpecRefused
from service.store import events, labels, removals, steps
from service.store.clock import now
from service.store.errors import InUse, NotFound, StaleVersion, StateConflict
from service.store.events import Kind
from service.store.jobs import forget_hold, locked, move, resolved
from service.store.owners import belongs
from service.store.references import gone, live_references
from service.store.states import ENDED, State
from service.store.tables import Checkpoint, Job, StepResult

MOST_LABELS = 32


def cancel(session: Session, owner: str, job_id: str) -> Job:
    """Ends a job. Stronger than a wish to pause it."""
    job = _get(session, owner, job_id)
    if job.state in (State.QUEUED, State.PAUSED):
        move(session, job_id, State.CANCELLED)
        forget_hold(session, job)
        events.add(session, job_id, Kind.CANCELLED, "Cancelled before it ran on.")
    elif job.state == State.RUNNING:
        if job.cancel_requested_at is None:
            _note(session, job_id, cancel_requested_at=now(), pause_requested_at=None)
            events.add(session, job_id, Kind.CANCEL_REQUESTED, "The worker will stop at the step after its next heartbeat.")
    elif job.state != State.CANCELLED:
        raise StateConflict(job.state, "cancelled")
    session.refresh(job)
    return job


def pause(session: Session, owner: str, job_id: str) -> Job:
    """Has a job wait for `resume`. One that runs saves a checkpoint first, and gives its worker free."""
    job = _get(session, owner, job_id)
    if job.state == State.QUEUED:
        move(session, job_id, State.PAUSED)
        forget_hold(session, job)
        events.add(session, job_id, Kind.PAUSED, "Paused before it ran on.")
    elif job.state == State.RUNNING:
        _require_not_cancelling(job, "paused")
        if job.pause_requested_at is None:
            _note(session, job_id, pause_requested_at=now())
            sentence = "The worker will save a checkpoint and stop at the step after its next heartbeat."
            events.add(session, job_id, Kind.PAUSE_REQUESTED, sentence)
    elif job.state != State.PAUSED:
        raise StateConflict(job.state, "paused")
    session.refresh(job)
    return job


def resume(session: Session, owner: str, job_id: str) -> Job:
    """Queues a paused job again, or takes back a wish to pause. One that waits or runs goes on as it does."""
    job = _get(session, owner, job_id)
    if job.state == State.PAUSED:
        move(session, job_id, State.QUEUED, bell_rung_at=now())
        events.add(session, job_id, Kind.RESUME_REQUESTED, "Queued again; it goes on from its last checkpoint.")
    elif job.state == State.RUNNING:
        _require_not_cancelling(job, "resumed")
        if job.pause_requested_at is not None:
            _note(session, job_id, pause_requested_at=None)
            events.add(
                session, job_id, Kind.PAUSE_WITHDRAWN, "The job is to go on; a worker that has begun to stop queues it again."
            )
    elif job.state != State.QUEUED:
        raise StateConflict(job.state, "resumed")
    session.refresh(job)
    return job


def retry(session: Session, owner: str, job_id: str) -> Job:
    """Queues a job that failed or was cancelled once more. What it has done and saved stays done; its counts begin anew."""
    job = _get(session, owner, job_id)
    if job.state not in (State.FAILED, State.CANCELLED):
        raise StateConflict(job.state, "retried", "Only a job that failed or was cancelled can be.")
    if session.scalar(select(Job.deadline <= now()).where(Job.id == job_id)):
        raise StateConflict(job.state, "retried", "Its deadline has passed; submit it anew with another.")
    _forget_steps_without_files(session, job_id)
    _require_what_it_names(session, job)
    move(
        session, job_id, State.QUEUED, reason=None, sentence=None, details=None, cancel_requested_at=None, lost=0, retries=0,
        ran_seconds=0.0, bell_rung_at=now(),
    )  # fmt: skip
    events.add(session, job_id, Kind.RETRIED, "Queued again at its client's wish; it goes on from its last checkpoint.")
    session.refresh(job)
    return job


def change(session: Session, owner: str, job_id: str, changes: JobChanges, versions: Collection[int] | None = None) -> Job:
    """Gives a job another priority, name or labels; a label that is null goes. None of `versions` being its own, StaleVersion.

    Raises SpecRefused too. The priority of a job that has ended changes nothing any more, so that is a StateConflict.
    """
    job = _get(session, owner, job_id)
    if versions is not None and job.version not in versions:
        raise StaleVersion(job.version)
    values: dict[str, Any] = {}
    if changes.priority is not None and changes.priority != job.priority:
        if job.state in ENDED:
            raise StateConflict(job.state, "given another priority")
        values["priority"] = changes.priority
        values["resolved"] = job.resolved | {"resources": job.resolved["resources"] | {"priority": changes.priority}}
    if "name" in changes.model_fields_set and changes.name != job.name:
        values["name"] = changes.name
    merged = _merged(job.labels, changes.labels)
    if merged != job.labels:
        values["labels"] = merged
        labels.replace(session, job, merged)
    if values:
        _note(session, job_id, **values)
        told: dict[str, Any] = {name: values[name] for name in ("priority", "name", "labels") if name in values}
        events.add(session, job_id, Kind.CHANGED, f"Changed by its client: {', '.join(told)}.", told)
    session.refresh(job)
    return job


def delete(session: Session, owner: str, job_id: str) -> None:
    """Forgets a job that has ended, with all that it said and made; its files go after the commit. Raises InUse."""
    job = _get(session, owner, job_id)
    if job.state not in ENDED:
        raise StateConflict(job.state, "deleted", "Cancel it first.")
    if users := live_references(session, job_id):
        raise InUse(f"What {job_id} made", users)
    removals.ask(session, [job_id])
    session.execute(sql_delete(Job).where(Job.id == job_id).execution_options(synchronize_session=False))
    session.expunge(job)


def _get(session: Session, owner: str, job_id: str) -> Job:
    """The job, with its row locked."""
    job = locked(session, Job.id == job_id, belongs(Job.owner, owner))
    if job is None:
        raise NotFound("job", job_id)
    return job


def _require_not_cancelling(job: Job, wanted: str) -> None:
    if job.cancel_requested_at is not None:
        raise StateConflict(job.state, wanted, "It is being cancelled.")


def _note(session: Session, job_id: str, **values: Any) -> None:
    session.execute(update(Job).where(Job.id == job_id).values(**values).execution_options(synchronize_session=False))


def _forget_steps_without_files(session: Session, job_id: str) -> None:
    """A step whose output is kept no longer has to be done again, for a later step may begin with it."""
    is_gone = exists().where(
        Checkpoint.job_id == job_id, Checkpoint.path == StepResult.output, Checkpoint.removed_at.is_not(None)
    )
    session.execute(
        sql_delete(StepResult).where(StepResult.job_id == job_id, is_gone).execution_options(synchronize_session=False)
    )


def _require_what_it_names(session: Session, job: Job) -> None:
    """What a job names is kept while it has not ended, and no longer."""
    done = {step.name for step in steps.of_job(session, job.id)}
    missing = gone(session, [step for step in resolved(job).steps if step.name not in done])
    if missing:
        raise StateConflict(job.state, "retried", f"The checkpoint {missing[0]} is kept no longer; submit it anew with another.")


def _merged(labels: dict[str, Any], changes: dict[str, str | None] | None) -> dict[str, Any]:
    """As a merge patch (RFC 7396) has it."""
    merged = {name: value for name, value in {**labels, **(changes or {})}.items() if value is not None}
    if len(merged) > MOST_LABELS:
        raise SpecRefused([Refusal(("labels",), f"A job has at most {MOST_LABELS} labels, and this would make {len(merged)}.")])
    return merged
