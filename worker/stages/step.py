"""A step as a stage is given it: its arguments, and where on this host everything is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.specs.job import ResolvedStep
from worker.work import SavedCheckpoint


@dataclass(frozen=True)
class StepWork:
    """One step of one attempt."""

    step: ResolvedStep
    job_id: str
    folder: Path  # this attempt's own, for this step
    model: Path  # what model_name_or_path stands for
    job_model: Path  # what the job began with
    artifacts_root: Path
    datasets_root: Path
    use_cpu: bool
    saved: list[SavedCheckpoint]  # complete checkpoints of earlier attempts, oldest first
    measured: list[dict[str, Any]]  # what earlier attempts measured: global_step, split, documents

    @property
    def name(self) -> str:
        return self.step.name
