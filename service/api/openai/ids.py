"""What OpenAI's clients call things: ids with prefixes of theirs, and names of models that were fine-tuned."""

import re
from dataclasses import dataclass

from service.specs.checkpoint_names import CheckpointName

_HEX = r"[0-9a-f]{24}"
_STEP = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}"
_JOB = re.compile(rf"ftjob-({_HEX})")
_EVENT = re.compile(rf"ftevent-({_HEX})-([0-9]{{1,9}})")
_CHECKPOINT = re.compile(rf"ftckpt-({_HEX})-({_STEP})-([0-9]{{1,9}})")
_MODEL = re.compile(rf"ft:.*:({_HEX})(?::ckpt-({_STEP})-([0-9]{{1,9}}))?", re.DOTALL)


def job_id_of(text: str) -> str | None:
    """Ours of an ftjob-...; None where it is none."""
    found = _JOB.fullmatch(text)
    return None if found is None else f"job-{found[1]}"


def ftjob(job_id: str) -> str:
    return f"ftjob-{_hex(job_id)}"


def ftevent(job_id: str, number: int) -> str:
    return f"ftevent-{_hex(job_id)}-{number}"


def event_number(text: str, job_id: str) -> int | None:
    """Of an event of that job."""
    found = _EVENT.fullmatch(text)
    return int(found[2]) if found is not None and found[1] == _hex(job_id) else None


def ftckpt(job_id: str, step: str, global_step: int) -> str:
    return f"ftckpt-{_hex(job_id)}-{step}-{global_step}"


def checkpoint_place(text: str, job_id: str) -> tuple[str, int] | None:
    """(step, updates) of a checkpoint of that job."""
    found = _CHECKPOINT.fullmatch(text)
    return (found[2], int(found[3])) if found is not None and found[1] == _hex(job_id) else None


@dataclass(frozen=True)
class ModelName:
    """What a job made, by its name: the job's last model, or one of its checkpoints."""

    job_id: str
    checkpoint: CheckpointName | None = None

    @classmethod
    def read(cls, text: str) -> "ModelName | None":
        """None where it is no name of a fine-tuned model. The job's id, which stands last, is all that is looked at."""
        found = _MODEL.fullmatch(text)
        if found is None:
            return None
        job_id = f"job-{found[1]}"
        return cls(job_id, None if found[2] is None else CheckpointName(job_id, found[2], int(found[3])))


def model_name(base: str, owner: str, suffix: str | None, job_id: str, step: str = "", at: int | None = None) -> str:
    """ft:base:owner:suffix:id, and of one checkpoint :ckpt-step-40 behind it."""
    whole = f"ft:{base}:{owner}:{re.sub(r'[^A-Za-z0-9_.-]+', '-', suffix or '')[:64]}:{_hex(job_id)}"
    return whole if at is None else f"{whole}:ckpt-{step}-{at}"


def _hex(job_id: str) -> str:
    return job_id.removeprefix("job-")
