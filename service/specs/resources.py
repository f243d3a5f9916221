"""Where a job runs, ahead of whom, how long, and how often it is tried."""

import re
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from service.specs.base import Group

# RFC 3339, section 5.6: a moment has its offset.
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")


def moment(text: str) -> float:
    """Seconds since 1970 of an RFC 3339 date and time. Raises ValueError."""
    if not _MOMENT.fullmatch(text):
        raise ValueError(text)
    return datetime.fromisoformat(text.upper()).timestamp()


def _is_moment(text: str) -> str:
    try:
        moment(text)
    except ValueError:
        sentence = "Input should be a date and time with its offset, such as 2027-01-31T18:00:00Z or 2027-01-31T18:00:00+01:00"
        raise PydanticCustomError("moment", sentence) from None
    return text


Moment = Annotated[str, AfterValidator(_is_moment), Field(json_schema_extra={"format": "date-time"})]


class Resources(Group):
    """What a job asks of the workers."""

    queue: str = Field(
        default="default",
        pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$",
        description="The queue, one for each class of GPU; a worker listens on those that its operator names.",
    )
    gpus: int | None = Field(
        default=None,
        ge=0,
        description=(
            "How many GPUs of one host; 0 trains on the CPU. Not given: one where the worker has one. Several share each update: "
            "it has per_device_train_batch_size rows of each, times gradient_accumulation_steps."
        ),
    )
    gpu_memory_fraction: float = Field(
        default=1.0,
        ge=0.05,
        le=1,
        description=(
            "How much of a GPU's memory the job keeps to. Jobs whose fractions sum to at most 1 share a GPU where the worker's "
            "operator allows it (FINEBITS_GPU_SHARING); elsewhere the job has the GPU alone."
        ),
    )
    priority: int = Field(default=0, ge=-100, le=100, description="Higher goes first.")
    max_lost: int = Field(
        default=3, ge=0, le=1000, description="How often the job may lose its worker before it fails with worker_lost."
    )
    max_retries: int = Field(
        default=3,
        ge=0,
        le=1000,
        description="How often the job is tried again after a failure that may pass, such as a full disk; later each time.",
    )
    on_out_of_memory: Literal["fail", "halve_batch"] = Field(
        default="fail",
        description=(
            "halve_batch: go on once with half the per_device_train_batch_size and twice the accumulation; in a step that trains "
            "nothing, with half as many texts at a time."
        ),
    )
    max_seconds: float | None = Field(
        default=None, gt=0, description="How long the job may run, all attempts together; it then ends with too_long."
    )
    deadline: Moment | None = Field(default=None, description="When the job ends with deadline_passed, running or not.")
    artifacts_ttl_seconds: float | None = Field(
        default=None,
        gt=0,
        description="How long after the job's end its checkpoints and artifacts are kept; else the operator's.",
    )
