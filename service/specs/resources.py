"""Where a job runs, ahead of whom, and how often it is tried."""

from pydantic import Field

from service.specs.base import Group


class Resources(Group):
    """What a job asks of the workers."""

    queue: str = Field(
        default="default",
        pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$",
        description="The queue, one for each class of GPU; a worker listens on those that its operator names.",
    )
    gpus: int | None = Field(
        default=None, ge=0, description="How many GPUs; 0 trains on the CPU. Not given: one where the worker has one."
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
