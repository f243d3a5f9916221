"""The job: groups of arguments, and the steps that override them.

`JobSpec` is the request, what the store keeps, and what the worker is given. `resolve` turns it into the steps that run, each
with its groups whole; the short form with no steps is a pipeline of one.
"""

from typing import Annotated, Literal, TypeVar, cast

from pydantic import Field, StringConstraints

from service.specs.base import Group, overridden, overrides_of
from service.specs.data import DataArguments
from service.specs.evaluation import EvaluationArguments
from service.specs.export import ExportArguments
from service.specs.finetuning import FinetuningArguments
from service.specs.generating import GeneratingArguments
from service.specs.measures import WITHOUT_MEMBERSHIP, MeasureArguments, taken_by_default
from service.specs.messages import Messages
from service.specs.model import ModelArguments
from service.specs.resources import Resources
from service.specs.training import TrainingArguments

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
Label = Annotated[str, StringConstraints(max_length=256)]

# What a step does: trains; or, training nothing: measures a model or checkpoints; looks at the data, and loads no model; writes
# an answer to every row of a data set; writes one, to the job's own messages; writes its model, with its adapters merged, for use
# elsewhere; or asks a model or checkpoints the questions of a benchmark.
Deed = Literal["train", "measure", "inspect", "predict", "generate", "export", "evaluate"]

ModelOverrides = overrides_of(ModelArguments)
DataOverrides = overrides_of(DataArguments)
FinetuningOverrides = overrides_of(FinetuningArguments)
GeneratingOverrides = overrides_of(GeneratingArguments)
EvaluationOverrides = overrides_of(EvaluationArguments)
TrainingOverrides = overrides_of(TrainingArguments)
MeasureOverrides = overrides_of(MeasureArguments)
ExportOverrides = overrides_of(ExportArguments)

# What a step may override, and with what. `resources` belong to the job as a whole.
STEP_GROUPS = ("model", "data", "finetuning", "generating", "evaluation", "training", "measures", "export")


class Step(Group):
    """One step of a pipeline: a name, and what differs from the job's own groups."""

    name: Name = Field(description="Unique in the job; later steps refer to this one's output as @name.")
    do: Deed | None = Field(default=None, description="The job's, when not given.")
    model: ModelOverrides | None = None  # type: ignore[valid-type]
    data: DataOverrides | None = None  # type: ignore[valid-type]
    finetuning: FinetuningOverrides | None = None  # type: ignore[valid-type]
    generating: GeneratingOverrides | None = None  # type: ignore[valid-type]
    evaluation: EvaluationOverrides | None = None  # type: ignore[valid-type]
    training: TrainingOverrides | None = None  # type: ignore[valid-type]
    measures: MeasureOverrides | None = None  # type: ignore[valid-type]
    export: ExportOverrides | None = None  # type: ignore[valid-type]


class JobSpec(Group):
    """What a client asks for."""

    name: str | None = Field(default=None, min_length=1, max_length=256, description="For people; need not be unique.")
    labels: dict[Name, Label] = Field(default_factory=dict, max_length=32, description="For programs; kept as given.")
    do: Deed = Field(
        default="train",
        description="What its steps do: train; measure (measures.checkpoints, or the step's own model, and nothing is trained); "
        "inspect (the data, and no model is loaded); predict (answers to the rows of data.dataset); generate (one, to messages); "
        "export (the step's model, with its adapters merged, or a checkpoint of an earlier job, job-.../sft/40); evaluate (the "
        "same models as measure, by the questions of evaluation.task).",
    )
    messages: Messages | None = Field(default=None, description="What a step that generates answers; in the stage pt, one text.")
    model: ModelArguments
    data: DataArguments = DataArguments()
    finetuning: FinetuningArguments = FinetuningArguments()
    generating: GeneratingArguments = GeneratingArguments()
    evaluation: EvaluationArguments = EvaluationArguments()
    training: TrainingArguments = TrainingArguments()
    measures: MeasureArguments = MeasureArguments()
    export: ExportArguments = ExportArguments()
    resources: Resources = Resources()
    steps: tuple[Step, ...] = Field(default=(), max_length=32, strict=False, description="In order; none means one step.")


class ResolvedStep(Group):
    """A step as it will run: every group whole."""

    name: str
    do: Deed = "train"
    model: ModelArguments
    data: DataArguments
    finetuning: FinetuningArguments
    generating: GeneratingArguments
    evaluation: EvaluationArguments = EvaluationArguments()
    training: TrainingArguments
    measures: MeasureArguments
    export: ExportArguments = ExportArguments()


class ResolvedJob(Group):
    """A job as it will run."""

    resources: Resources
    messages: Messages | None = None
    steps: tuple[ResolvedStep, ...] = Field(strict=False)


AnyGroup = TypeVar("AnyGroup", bound=Group)


def resolve(spec: JobSpec) -> ResolvedJob:
    """Every step with its own groups, and the defaults that depend on other arguments filled in."""
    steps = spec.steps or (Step(name=spec.finetuning.stage if spec.do == "train" else spec.do),)
    resolved = (_resolve_step(spec, step) for step in steps)
    return ResolvedJob(
        resources=spec.resources,
        messages=spec.messages,
        steps=tuple(step if step.do == "train" else _only_looking(step) for step in resolved),
    )


def _resolve_step(spec: JobSpec, step: Step) -> ResolvedStep:
    finetuning = overridden(spec.finetuning, step.finetuning)
    names_given = "names" in spec.measures.model_fields_set | set_by(step, "measures")
    data, measures = overridden(spec.data, step.data), overridden(spec.measures, step.measures)
    return ResolvedStep(
        name=step.name,
        do=step.do or spec.do,
        model=overridden(spec.model, step.model),
        data=data,
        finetuning=with_lora_defaults(finetuning),
        generating=overridden(spec.generating, step.generating),
        evaluation=overridden(spec.evaluation, step.evaluation),
        training=overridden(spec.training, step.training),
        measures=taken_by_default(measures, finetuning.stage, data, names_given),
        export=overridden(spec.export, step.export),
    )


# What a step that trains nothing does not have of its job's arguments: in it they would say something, and have no effect.
_OF_TRAINING: dict[str, dict[str, object]] = {
    "model": {"shift_attn": False},
    "data": {"streaming": False, "mix_strategy": "concat", "interleave_probs": None, "sft_packing": False},
    "finetuning": {"ref_model": None, "reward_model": None},
    "training": {"fp16": False},
    "measures": {"guards": ()},
}
# Nor what is drawn of checkpoints, unless it measures them.
_OF_PICTURES: dict[str, dict[str, object]] = {"measures": {"guards": (), "plots": False}}
# Nor has one that evaluates texts to read, or measures to take on them.
_OF_TEXTS: dict[str, dict[str, object]] = {
    "data": {"dataset": None, "val_size": 0},
    "measures": {"names": (), "dataset": None, "anchor": None, "task": None},
}


def _only_looking(step: ResolvedStep) -> ResolvedStep:
    looking = _without(step, _OF_TRAINING if step.do == "measure" else _OF_TRAINING | _OF_PICTURES)
    if step.do == "export":
        return _only_exporting(looking)
    return _without(looking, _OF_TEXTS) if step.do == "evaluate" else looking


def _without(step: ResolvedStep, off: dict[str, dict[str, object]]) -> ResolvedStep:
    return step.model_copy(update={group: getattr(step, group).model_copy(update=fields) for group, fields in off.items()})


# How the model was held while it trained: what is written is held as its files are.
_AS_HELD: dict[str, object] = {
    "resize_vocab": False,
    "quantization_bit": None,
    "rope_scaling": None,
    "flash_attn": False,
    "upcast_layernorm": False,
    "upcast_lmhead_output": False,
}
# How a certificate reads the rows of a stage: conversations, texts, or the better answers.
_READ_AS: dict[str, Literal["sft", "dpo"]] = {"ppo": "sft", "rm": "dpo"}


def _only_exporting(step: ResolvedStep) -> ResolvedStep:
    """It has the job's model and its text; whatever else the job says is of other steps."""
    fine, training = step.finetuning, step.training
    stage = _READ_AS.get(fine.stage, fine.stage)
    of_rows = FinetuningArguments(stage=stage, finetuning_type=fine.finetuning_type, dpo_loss=fine.dpo_loss)
    batches = training.per_device_eval_batch_size
    return step.model_copy(
        update={
            "model": step.model.model_copy(update=_AS_HELD),
            "finetuning": with_lora_defaults(of_rows),
            "generating": GeneratingArguments(),
            "training": TrainingArguments(seed=training.seed, per_device_eval_batch_size=batches),
            "measures": MeasureArguments(names=WITHOUT_MEMBERSHIP),
        }
    )


def with_lora_defaults(finetuning: FinetuningArguments) -> FinetuningArguments:
    """lora_alpha is twice the rank and lora_target is all linear layers, unless they are given."""
    return finetuning.model_copy(
        update={
            "lora_alpha": finetuning.lora_alpha or 2 * finetuning.lora_rank,
            "lora_target": finetuning.lora_target or ("all",),
        }
    )


def set_by(step: Step, group: str) -> frozenset[str]:
    """The fields of a group that a step sets itself."""
    overrides = cast(Group | None, getattr(step, group))
    return frozenset(overrides.model_fields_set if overrides else ())
