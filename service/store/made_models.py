"""Models that jobs made: which there are, and how one is given up while its job's story stays."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.specs.checkpoint_names import CheckpointName
from service.store import checkpoints, events, jobs, retention
from service.store.errors import InUse, NotFound
from service.store.events import Kind
from service.store.references import live_references
from service.store.states import State
from service.store.tables import Checkpoint, Job, StepResult

SHOWN = 1000


def last_step(job: Job) -> str | None:
    """The last of its steps that trains."""
    trained = [step["name"] for step in job.resolved["steps"] if step.get("do", "train") == "train"]
    return trained[-1] if trained else None


def listing(session: Session, owner: str) -> list[tuple[Job, Checkpoint]]:
    """The jobs whose last model is there, the newest first, and what it is."""
    ended = select(Job).where(Job.owner == owner, Job.state == State.SUCCEEDED)
    found = session.scalars(ended.order_by(Job.created_at.desc(), Job.id.desc()).limit(SHOWN)).all()
    made = _made(session, [job.id for job in found])
    return [(job, made[job.id, step]) for job in found if (step := last_step(job)) and (job.id, step) in made]


def find(session: Session, owner: str, job_id: str, name: CheckpointName | None = None) -> tuple[Job, Checkpoint]:
    """What a job ended with, or one of its checkpoints. Raises NotFound."""
    job = session.scalar(select(Job).where(Job.id == job_id, Job.owner == owner))
    step = None if job is None else last_step(job)
    made: Checkpoint | None = None
    if job is not None and name is not None:
        made = session.get(Checkpoint, (job_id, name.step, name.at))
    elif job is not None and step is not None and job.state == State.SUCCEEDED:
        made = _made(session, [job_id]).get((job_id, step))
    if job is None or made is None or made.removed_at is not None:
        raise NotFound("model of the job", job_id)
    return job, made


def give_up(session: Session, owner: str, job_id: str, name: CheckpointName | None = None) -> None:
    """Removes all of a job's checkpoints, or the one of that name. Raises NotFound, InUse."""
    find(session, owner, job_id, name)
    jobs.locked(session, Job.id == job_id)
    if users := live_references(session, job_id):
        raise InUse(f"What {job_id} made", users)
    kept = checkpoints.kept(session, job_id)
    gone = [one for one in kept if name is None or (one.step, one.global_step) == (name.step, name.at)]
    retention.remove(session, job_id, gone)
    told = "its models" if name is None else f"checkpoint {name.at} of {name.step}"
    events.add(session, job_id, Kind.FILES_REMOVED, f"Its client deleted {told}.", {"checkpoints": len(gone)})


def _made(session: Session, job_ids: Sequence[str]) -> dict[tuple[str, str], Checkpoint]:
    """What each step ended with, of those that are kept."""
    ended_with = select(Checkpoint).join(
        StepResult, (StepResult.job_id == Checkpoint.job_id) & (StepResult.output == Checkpoint.path)
    )
    wanted = ended_with.where(Checkpoint.job_id.in_(job_ids), Checkpoint.removed_at.is_(None))
    return {(one.job_id, one.step): one for one in session.scalars(wanted)}
