"""Checkpoints of earlier jobs that a job names: which there are, and what a worker must know to load them."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.specs.beginnings import earlier_named
from service.specs.checkpoint_names import CheckpointName, named_in
from service.specs.job import ResolvedJob
from service.store import checkpoints, jobs, steps
from service.store.tables import Checkpoint, Job


class NoCheckpoint(ValueError):
    """There is none of that name; the message says why."""


def found(session: Session, owner: str, name: CheckpointName) -> list[CheckpointName]:
    """The checkpoints, by their numbers, that a name of another job's stands for. Raises NoCheckpoint.

    Another owner's job is as good as none: whether it is there is not said.
    """
    job = session.scalar(select(Job).where(Job.id == name.job_id, Job.owner == owner))
    if job is None:
        raise NoCheckpoint(f"There is no job {name.job_id}.")
    made_by = [step["name"] for step in job.resolved["steps"] if step.get("do", "train") == "train"]
    if name.step not in made_by:
        raise NoCheckpoint(f"The job {job.id} has no step {name.step!r} that trains; it has {', '.join(made_by) or 'none'}.")
    saved = sorted(checkpoints.of_job(session, job.id, name.step), key=lambda checkpoint: checkpoint.global_step)
    numbers = [checkpoint.global_step for checkpoint in saved if checkpoint.removed_at is None]
    if name.at == "*":
        wanted = numbers
    elif name.at is None:
        wanted = [_ended_with(session, job, name.step, saved)]
    else:
        wanted = [name.at]
    removed = {checkpoint.global_step for checkpoint in saved if checkpoint.removed_at is not None}
    if gone := [number for number in wanted if number in removed]:
        raise NoCheckpoint(f"Checkpoint {gone[0]} of {job.id}/{name.step} is kept no longer; there are {_told(numbers)}.")
    if not wanted or set(wanted) - set(numbers):
        number = "" if name.at == "*" else f" {wanted[0]}"
        raise NoCheckpoint(f"There is no checkpoint{number} of {job.id}/{name.step}; there are {_told(numbers)}.")
    return [CheckpointName(name.job_id, name.step, number) for number in wanted]


def earlier_jobs(session: Session, job_id: str, resolved: ResolvedJob) -> dict[str, dict[str, Any]]:
    """What a worker must know of each other job whose checkpoints this one measures or begins with, of the same owner: its
    steps, what they made, and the checkpoints that are kept.
    """
    names = [name for step in resolved.steps for name in named_in(step.measures.checkpoints)]
    names += [name for step in resolved.steps for _, name in earlier_named(step)]
    ids = dict.fromkeys(name.job_id for name in names if name.job_id is not None)
    owner = select(Job.owner).where(Job.id == job_id).scalar_subquery()
    there = session.scalars(select(Job).where(Job.id.in_(list(ids)), Job.owner == owner)).all() if ids else ()
    return {
        job.id: {
            "job": jobs.resolved(job).model_dump(mode="json"),
            "outputs": {step.name: step.output for step in steps.of_job(session, job.id)},
            "checkpoints": by_step(checkpoints.kept(session, job.id)),
        }
        for job in there
    }


def by_step(kept: Iterable[Checkpoint]) -> dict[str, list[dict[str, Any]]]:
    """As a worker is told of checkpoints."""
    saved: dict[str, list[dict[str, Any]]] = {}
    for checkpoint in kept:
        saved.setdefault(checkpoint.step, []).append(
            {
                "global_step": checkpoint.global_step,
                "path": checkpoint.path,
                "epoch": checkpoint.epoch,
                "files": checkpoint.manifest["files"],
            }
        )
    return saved


def _ended_with(session: Session, job: Job, step: str, saved: Sequence[Checkpoint]) -> int:
    output = next((done.output for done in steps.of_job(session, job.id) if done.name == step), None)
    if output is None:
        raise NoCheckpoint(f"The step {step!r} of {job.id} is not done, so it has ended with nothing yet: name a checkpoint.")
    return next(checkpoint.global_step for checkpoint in saved if checkpoint.path == output)


def _told(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers)) or "none"
