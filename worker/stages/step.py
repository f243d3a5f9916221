"""A step as a stage is given it: its arguments, and where on this host everything is."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service.specs.job import ResolvedStep
from service.specs.measures import taken_on
from service.specs.messages import Messages
from worker.data.load import Places, Wanted
from worker.models.start import Start
from worker.work import SavedCheckpoint


@dataclass(frozen=True)
class BesideIt:
    """A model that the step asks beside the one that it trains: in its parts, and as a step of its own."""

    model: Path  # where its tokenizer lies
    start: Start
    step: ResolvedStep


@dataclass(frozen=True)
class ToMeasure:
    """A model that a step measures beside its base, or asks, and how it is called. `start` fetches what is not here."""

    name: str
    of: dict[str, Any]  # job_id, step and checkpoint, as far as it is one
    step: ResolvedStep  # that made it, and so how it is loaded
    start: Callable[[], tuple[Start, Path]]  # and where its tokenizer lies


@dataclass(frozen=True)
class StepWork:
    """One step of one attempt."""

    step: ResolvedStep
    job_id: str
    folder: Path  # this attempt's own, for this step
    model: Path  # what model_name_or_path stands for: the tokenizer lies there, whether it is a whole model or an adapter
    start: Start  # the step's model in its parts
    job_step: ResolvedStep  # the job's first, and what that began with
    job_model: Path
    job_start: Start
    artifacts_root: Path
    places: Places  # of the data
    use_cpu: bool
    saved: list[SavedCheckpoint]  # complete checkpoints of earlier attempts, oldest first
    measured: list[dict[str, Any]]  # what earlier attempts measured: global_step, split, documents
    checkpoint_bytes: int = 0  # what one of the step's checkpoints will take, as far as it is known
    kept_free_bytes: int = 0  # on the disk of the artifacts
    companions: dict[str, BesideIt] = field(default_factory=dict)  # by role: the models that the step names beside its own
    reward_hosts: tuple[str, ...] = ()  # host:port of the reward APIs that the operator allows
    hub_push: bool = False  # whether the operator lets jobs push to hubs
    hub_token: str | None = field(default=None, repr=False)
    reward_api_key: str | None = field(default=None, repr=False)
    to_measure: tuple[ToMeasure, ...] = ()  # of a step that measures, in order; the first is number 1
    exports_root: Path = Path()  # where exports are published
    base_name: str = ""  # what the model that a step exports goes back to, as jobs call it
    made_by: tuple[tuple[str, ResolvedStep], ...] = ()  # of a step that exports: the steps that trained its model
    to_ask: ToMeasure | None = None  # of a step that predicts or generates
    messages: Messages = ()  # of a step that generates

    @property
    def name(self) -> str:
        return self.step.name

    @property
    def wanted(self) -> Wanted:
        """What decides which examples there are."""
        step = self.step
        fine, training = step.finetuning, step.training
        # a step that measures reads the rows that were trained on where they are looked at, and no model sees them else
        reads_training = step.do != "measure" or bool(taken_on(step.measures.names) & {"membership", "data"})
        return Wanted(
            fine.stage, step.data, step.measures, training.seed, training.data_seed, fine.dpo_loss, reads_training=reads_training
        )

    @property
    def begins_like_the_job(self) -> bool:
        """Whether the step's model, before any training, is the one that the job began with."""
        same_context = self.step.model.rope_scaling is None or self.step.data.cutoff_len == self.job_step.data.cutoff_len
        return self.start == self.job_start and self.step.model == self.job_step.model and same_context
