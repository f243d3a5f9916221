"""What a child is told of its job: all it needs, so that it never asks the database."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from service.specs.job import ResolvedJob
from service.specs.tokens import Field, key

# Of a secret that is looked for in what is said; a shorter one, which no hub gives, would be found in every other sentence.
LEAST_CHARACTERS = 6


@dataclass(frozen=True)
class SavedCheckpoint:
    """A complete checkpoint of a step, by the update it was made at."""

    global_step: int
    path: str  # under the artifact root
    epoch: float
    files: list[dict[str, Any]]  # name in the checkpoint's folder, size, sha256


@dataclass(frozen=True)
class Work:
    """One attempt at a job, as plain values that cross a pipe."""

    job_id: str
    attempt: int
    job: dict[str, Any]  # the resolved job
    artifacts_root: str
    models_root: str
    datasets_root: str
    exports_root: str
    cache_root: str
    hub: bool  # whether hubs may be reached
    modelscope: bool  # whether ModelScope is asked first
    device: str | None  # CUDA_VISIBLE_DEVICES of the child, with commas between several; None: no GPU
    threads: int
    lease_seconds: float
    hub_push: bool = False  # whether jobs may push to one
    ranks: int = 1  # processes that train together, one for each of its GPUs or of what stands for them
    stand_ins: bool = False  # whether processors stand for its GPUs
    reward_hosts: str = ""  # of reward APIs that may be asked, as the operator writes them
    request_id: str | None = None  # of the request that made the job
    trace: str | None = None  # the traceparent that the attempt goes on with
    traces_url: str = ""  # where traces are sent
    mlflow_url: str = ""  # the servers of trackers, as far as there are
    wandb_url: str = ""
    gpu_memory_fraction: float = 1.0  # of each GPU, that the child keeps to
    # for hubs, as specs/tokens.py names them; None: kept with a key that this worker does not have
    tokens: dict[str, str] | None = field(default_factory=dict, repr=False)
    grace_seconds: float = 120.0  # how long it may take to stop
    artifacts_url: str = ""  # a store that is elsewhere; artifacts_root is scratch then
    s3_endpoint: str = ""
    store_patience_seconds: float = 600.0  # how long that store may be away
    outputs: dict[str, str] = field(default_factory=dict)  # of the steps that are done
    checkpoints: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # by step, oldest first
    removed: list[str] = field(default_factory=list)  # paths of checkpoints that are kept no longer
    # of each earlier job whose checkpoints are measured, by its id: job (resolved), outputs and checkpoints, as they are here
    earlier: dict[str, dict[str, Any]] = field(default_factory=dict)
    # of each uploaded file that the job names, by its id: path under the artifact root, size, sha256, and how its rows read
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    measurements: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # by step: global_step, split, documents
    checkpoint_bytes: dict[str, int] = field(default_factory=dict)  # of one checkpoint, by step, as far as it is known
    kept_free_bytes: int = 0  # on the disk of the artifacts

    @property
    def resolved(self) -> ResolvedJob:
        return ResolvedJob.model_validate_json(json.dumps(self.job))

    @property
    def folder(self) -> Path:
        """This attempt's own folder: what a worker that lost its lease still scribbles, it scribbles here."""
        return Path(self.artifacts_root, self.job_id, str(self.attempt))

    def saved(self, step: str) -> list[SavedCheckpoint]:
        return [SavedCheckpoint(**checkpoint) for checkpoint in self.checkpoints.get(step, [])]

    @property
    def secrets(self) -> tuple[str, ...]:
        """What may be said nowhere. The longest first: one may be a part of another. What is shorter than a word is a word."""
        long_enough = [token for token in (self.tokens or {}).values() if len(token) >= LEAST_CHARACTERS]
        return tuple(sorted(long_enough, key=len, reverse=True))

    def token(self, step: str, of_hub: Field) -> str | None:
        """A step's own, for a hub."""
        return (self.tokens or {}).get(key(step, of_hub))

    def to_document(self) -> dict[str, Any]:
        return asdict(self)
