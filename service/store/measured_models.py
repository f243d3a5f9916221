"""Which checkpoints the numbers of a step that measures, or predicts, stand for."""

from typing import Any

from sqlalchemy.orm import Session

from service.specs.checkpoint_names import CheckpointName
from service.store import checkpoints, jobs, steps

Number = tuple[str, int]  # the step that measures, and a place in its list, from 1


def of_job(session: Session, job_id: str) -> dict[Number, dict[str, Any]]:
    """{job_id, step, checkpoint, model} of each; nothing for a job in which every step trains."""
    resolved = jobs.resolved_document(session, job_id)
    measuring = [step for step in resolved["steps"] if step.get("do", "train") in ("measure", "predict")]
    if not measuring:
        return {}
    made = _made(session, job_id)
    found: dict[Number, dict[str, Any]] = {}
    for step in measuring:
        # where no checkpoint is named, the step's own model is number 1, unless it is the base itself
        names = step["measures"]["checkpoints"] or [_own_model(step)]
        for number, name in enumerate(names, 1):
            found[step["name"], number] = _told(name, job_id, made)
    return found


def _own_model(step: dict[str, Any]) -> str:
    return str(step["model"]["model_name_or_path"])


def _made(session: Session, job_id: str) -> dict[str, int]:
    """The number of updates that each step of the job has ended with."""
    at = {checkpoint.path: checkpoint.global_step for checkpoint in checkpoints.of_job(session, job_id)}
    return {done.name: at[done.output] for done in steps.of_job(session, job_id) if done.output in at}


def _told(text: str, job_id: str, made: dict[str, int]) -> dict[str, Any]:
    name = CheckpointName.read(text)
    if name is None:
        return {"job_id": None, "step": None, "checkpoint": None, "model": text}
    number = name.at if isinstance(name.at, int) else made.get(name.step) if name.job_id is None else None
    return {"job_id": name.job_id or job_id, "step": name.step, "checkpoint": number, "model": None}
