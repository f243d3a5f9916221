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
    priority: int = Field(default=0, ge=-100, le=100, description="Higher goes first.")
    max_lost: int = Field(
        default=3, ge=0, le=1000, description="How often the job may lose its worker before it fails with worker_lost."
    )
