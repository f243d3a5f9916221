"""Fine-tuning jobs, their events and checkpoints, and models, as OpenAI's clients know them. Times are seconds since 1970."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from service.api.openai.asking import METHODS
from service.api.openai.hyperparameters import shown
from service.api.openai.ids import ftckpt, ftevent, ftjob, model_name
from service.specs.lineage import lineages, origin
from service.specs.reasons import Reason
from service.store import jobs
from service.store.events import Kind
from service.store.made_models import last_step
from service.store.states import State
from service.store.tables import Checkpoint, Event, Job, Metric, StepResult

LEVELS = {
    Kind.FAILED: "error",
    Kind.ALERT: "warn",
    Kind.BATCH_HALVED: "warn",
    Kind.HELD: "warn",
    Kind.LEASE_LOST: "warn",
    Kind.NOTICE: "warn",
    Kind.RETRY_SCHEDULED: "warn",
}

OF_DATA = (Reason.BAD_ROW, Reason.BAD_DATA, Reason.MISSING_DATA)


def job_view(job: Job, model: str, loaded: Sequence[Event] = (), done: Sequence[StepResult] = ()) -> dict[str, Any]:
    """`model` is what the job began with, by its name here; `loaded` and `done` say how many tokens it trained on."""
    steps = job.resolved["steps"]
    name = last_step(job)
    step = next((one for one in steps if one["name"] == name), steps[-1])
    stage = step["finetuning"]["stage"]
    hyperparameters = shown(step)
    method = METHODS.get(stage, stage) if name else step.get("do", "train")
    eta = (job.progress or {}).get("eta_seconds") if job.state == State.RUNNING else None
    return {
        "object": "fine_tuning.job",
        "id": ftjob(job.id),
        "created_at": int(job.created_at),
        "finished_at": None if job.finished_at is None else int(job.finished_at),
        "estimated_finish": None if eta is None else int(job.changed_at + eta),
        "model": model,
        "fine_tuned_model": name_of(job) if name and job.state == State.SUCCEEDED else None,
        "organization_id": job.owner,
        "status": str(job.state),
        "error": _error(job),
        "training_file": ",".join(step["data"]["dataset"] or ()),
        "validation_file": ",".join(step["measures"]["dataset"] or ()) or None,
        "result_files": [],
        "trained_tokens": _trained_tokens(loaded, done) if job.state == State.SUCCEEDED else None,
        "hyperparameters": hyperparameters,
        "method": {"type": method, method: {"hyperparameters": hyperparameters}},
        "seed": step["training"]["seed"],
        "integrations": _integrations(step["training"]),
        "user_provided_suffix": job.name,
        "metadata": job.labels,
    }


def _integrations(training: dict[str, Any]) -> list[dict[str, Any]]:
    if "wandb" not in training.get("report_to", ()):
        return []
    run = {"project": "project", "entity": "wandb_entity", "name": "run_name", "tags": "run_tags"}
    return [{"type": "wandb", "wandb": {key: training.get(argument) for key, argument in run.items()}}]


def _error(job: Job) -> dict[str, Any] | None:
    if job.reason is None:
        return None
    return {"code": job.reason, "message": job.sentence, "param": "training_file" if job.reason in OF_DATA else None}


def _trained_tokens(loaded: Sequence[Event], done: Sequence[StepResult]) -> int | None:
    """Those of each step's data that are trained, as often as they were gone through."""
    tokens = {event.data.get("step"): event.data.get("trained_tokens") for event in loaded}
    known = [(tokens.get(step.name), step.summary.get("epochs")) for step in done]
    counted = [round(count * epochs) for count, epochs in known if count is not None and epochs is not None]
    return sum(counted) if counted else None


def event_view(event: Event) -> dict[str, Any]:
    return {
        "object": "fine_tuning.job.event",
        "id": ftevent(event.job_id, event.number),
        "created_at": int(event.at),
        "level": LEVELS.get(Kind(event.kind), "info") if event.kind in set(Kind) else "info",
        "message": event.message,
        "type": "metrics" if event.kind == Kind.MEASURED else "message",
        "data": {"kind": event.kind, "number": event.number, **event.data},
    }


def checkpoint_view(job: Job, checkpoint: Checkpoint, values: Mapping[str, float | None], split: str | None) -> dict[str, Any]:
    """`values` are the checkpoint's measures, taken on that split. OpenAI's losses are in nats; ours stay in bits."""
    bits = values.get("cross_entropy") if split in ("validation", "dataset") else None
    loss = None if bits is None else bits * math.log(2)
    accuracy = values.get("top_1_accuracy") if split in ("validation", "dataset") else None
    return {
        "object": "fine_tuning.job.checkpoint",
        "id": ftckpt(job.id, checkpoint.step, checkpoint.global_step),
        "created_at": int(checkpoint.created_at),
        "fine_tuned_model_checkpoint": name_of(job, checkpoint),
        "fine_tuning_job_id": ftjob(job.id),
        "step_number": checkpoint.global_step,
        "step_name": checkpoint.step,
        "metrics": {
            "step": checkpoint.global_step,
            "train_loss": checkpoint.train_loss,
            "train_mean_token_accuracy": None,
            "valid_loss": loss,
            "valid_mean_token_accuracy": accuracy,
            "full_valid_loss": loss,
            "full_valid_mean_token_accuracy": accuracy,
            "split": split,
            **values,
        },
    }


def split_of(found: Sequence[Metric], checkpoint: Checkpoint) -> str | None:
    """The text that a checkpoint's cross-entropy was taken on, where it has several the first."""
    place = (checkpoint.step, checkpoint.global_step)
    return next((one.split for one in found if (one.step, one.global_step) == place and one.measure == "cross_entropy"), None)


def model_view(job: Job, checkpoint: Checkpoint, is_last: bool = True) -> dict[str, Any]:
    """A model that a job made."""
    return {
        "id": name_of(job, None if is_last else checkpoint),
        "object": "model",
        "created": int(checkpoint.created_at),
        "owned_by": job.owner,
        "job": job.id,
        "checkpoint": f"{job.id}/{checkpoint.step}/{checkpoint.global_step}",
    }


def name_of(job: Job, checkpoint: Checkpoint | None = None) -> str:
    """What the job's last model is called, or one of its checkpoints."""
    known = lineages(jobs.resolved(job))
    step = checkpoint.step if checkpoint is not None else last_step(job) or ""
    base = origin(known[step].whole, known) if step in known else ""
    at = None if checkpoint is None else checkpoint.global_step
    return model_name(base, job.owner, job.name, job.id, step, at)
