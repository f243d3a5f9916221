"""What a worker reads from its environment (prefix FINEBITS_)."""

import os
import socket
from functools import cached_property
from pathlib import Path

from pydantic import Field, field_validator

from service.places import Places
from service.store.retries import RETRY_SECONDS

# On one GPU: the smallest part of one that a job may ask for is a twentieth.
MOST_SHARERS = 20


def is_stand_in(device: str) -> bool:
    """Whether a processor stands for a GPU: a rehearsal of what several GPUs would do, on a host that has none."""
    return device.startswith("cpu:")


class WorkerSettings(Places):
    """A worker's settings, beside the places it shares with the service."""

    queues: str = Field(default="default", description="The queues it takes jobs from, with commas between them.")
    worker_name: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9_.-]{0,200}$",
        description="What this worker is called, of which there may be one; the host's name and the process's id when not given.",
    )
    concurrency: int = Field(default=1, ge=1, description="Jobs at once that use no GPU; each GPU takes one besides.")
    gpu_sharing: bool = Field(
        default=False, description="Whether jobs share a GPU whose resources.gpu_memory_fraction sum to at most 1."
    )
    reserve_after_seconds: float = Field(
        default=300.0, ge=0, description="How long a job that needs more GPUs than are free waits before a worker is kept for it."
    )
    devices: str | None = Field(
        default=None,
        description=(
            "The GPUs it may use, as CUDA_VISIBLE_DEVICES; all when not given. cpu:0,cpu:1 are processors that stand for two, on "
            "a host without."
        ),
    )
    threads: int | None = Field(default=None, ge=1, description="CPU threads of one job; a share of the cores when not given.")
    heartbeat_seconds: float = Field(default=5.0, gt=0, description="How often the lease is renewed and wishes are heard.")
    lease_seconds: float = Field(default=60.0, gt=0, description="How long a job stays with a worker that is not heard of.")
    flush_seconds: float = Field(default=0.5, gt=0, description="How long what a job says waits to be written together.")
    sweep_seconds: float = Field(default=10.0, gt=0, description="How often lost jobs and lost bells are looked for.")
    retry_seconds: float = Field(
        default=RETRY_SECONDS, gt=0, description="How long a job waits before its first retry; each next wait is twice as long."
    )
    min_free_bytes: int = Field(
        default=1_000_000_000, ge=0, description="Kept free on the disk of the artifacts: a job that would need them is held."
    )
    health_file: Path | None = Field(
        default=None, description="Touched after each sweep that reached the database and the broker: its age tells of health."
    )
    store_patience_seconds: float = Field(
        default=600.0, gt=0, description="How long an artifact store that is elsewhere may be away before a job fails of it."
    )
    log_seconds: float = Field(default=10.0, gt=0, description="How often a job's log is copied to such a store.")

    @field_validator("devices")
    @classmethod
    def _are_of_one_kind(cls, devices: str | None) -> str | None:
        kinds = {is_stand_in(device.strip()) for device in (devices or "").split(",") if device.strip()}
        if len(kinds) > 1:
            raise ValueError("GPUs and processors that stand for GPUs cannot be mixed")
        return devices

    @cached_property
    def name(self) -> str:
        """What the worker is registered as: no two live ones have the same."""
        return self.worker_name or f"{socket.gethostname()}-{os.getpid()}"

    @cached_property
    def queue_names(self) -> tuple[str, ...]:
        return tuple(name.strip() for name in self.queues.split(",") if name.strip())

    @cached_property
    def job_threads(self) -> int:
        """One core is left to the others: two threads on a busy two-core host make small steps ten times slower."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return self.threads or max(1, (cores - 1) // (self.concurrency + len(self.gpus)))

    @cached_property
    def most_jobs(self) -> int:
        """How many may run here at once."""
        return self.concurrency + len(self.gpus) * (MOST_SHARERS if self.gpu_sharing else 1)

    @cached_property
    def gpus(self) -> tuple[str, ...]:
        """The GPUs of this host, by number or UUID, without asking CUDA, which this process never touches."""
        named = self.devices if self.devices is not None else os.environ.get("CUDA_VISIBLE_DEVICES")
        if named is not None:
            return tuple(device.strip() for device in named.split(",") if device.strip() not in ("", "-1"))
        cards = Path("/proc/driver/nvidia/gpus")
        return tuple(str(index) for index, _ in enumerate(sorted(cards.iterdir()))) if cards.is_dir() else ()
