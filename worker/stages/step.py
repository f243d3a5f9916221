"""A step as a stage is given it: its arguments, and where on this host everything is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.specs.job import ResolvedStep
from worker.data.load import Places, Wanted
from worker.work import SavedCheckpoint


@dataclass(frozen=True)
class StepWork:
    """One step of one attempt."""

    step: ResolvedStep
    folder: Path  # this attempt's own, for this step
    model: Path  # what model_name_or_path stands for
    job_model: Path  # what the job began with
    artifacts_root: Path
    places: Places  # of the data
    use_cpu: bool
    saved: list[SavedCheckpoint]  # complete checkpoints of earlier attempts, oldest first
    measured: list[dict[str, Any]]  # what earlier attempts measured: global_step, split, documents
    checkpoint_bytes: int = 0  # what one of the step's checkpoints will take, as far as it is known
    kept_free_bytes: int = 0  # on the disk of the artifacts

    @property
    def name(self) -> str:
        return self.step.name

    @property
    def wanted(self) -> Wanted:
        """What decides which examples there are."""
        step = self.step
        return Wanted(step.finetuning.stage, step.data, step.measures, step.training.seed, step.training.data_seed)
