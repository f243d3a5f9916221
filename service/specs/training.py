"""How the optimiser runs: transformers' TrainingArguments that people set, under the names people know."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from service.specs.base import Group, split_commas

Scheduler = Literal["linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt"]

Tracker = Literal["tensorboard", "wandb", "mlflow"]


def _names(value: Any) -> Any:
    """As transformers has it: a name, a list of them, or "none"."""
    names = () if value is None else split_commas(value)
    return () if names == ("none",) else tuple(dict.fromkeys(names))


Trackers = Annotated[tuple[Tracker, ...], BeforeValidator(_names, json_schema_input_type=str | list[str] | None)]


Tags = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=64)], ...],
    BeforeValidator(split_commas, json_schema_input_type=str | list[str]),
]


class TrainingArguments(Group):
    """Arguments pertaining to the optimisation. Where today's transformers has renamed one, the worker maps it."""

    per_device_train_batch_size: int = Field(default=8, ge=1, description="Examples per device in a training step.")
    per_device_eval_batch_size: int = Field(default=8, ge=1, description="Documents per device in a measuring pass.")
    gradient_accumulation_steps: int = Field(default=1, ge=1, description="Batches whose gradients make one update.")
    learning_rate: float = Field(default=5e-5, gt=0, description="The peak learning rate.")
    lr_scheduler_type: Scheduler = Field(default="linear", description="How the learning rate moves after the warm-up.")
    warmup_steps: int = Field(default=0, ge=0, description="Updates over which the learning rate rises from zero.")
    warmup_ratio: float = Field(default=0.0, ge=0, lt=1, description="The same, as a share of all updates.")
    num_train_epochs: float = Field(default=3.0, gt=0, description="Passes over the training data.")
    max_steps: int = Field(default=-1, ge=-1, description="Updates in all; wins over num_train_epochs when positive.")
    optim: Literal["adamw_torch", "adafactor", "sgd"] = Field(default="adamw_torch", description="The optimiser.")
    weight_decay: float = Field(default=0.0, ge=0, description="Decoupled weight decay, on all but biases and norms.")
    adam_beta1: float = Field(default=0.9, ge=0, lt=1, description="Adam's decay of the first moment.")
    adam_beta2: float = Field(default=0.999, ge=0, lt=1, description="Adam's decay of the second moment.")
    adam_epsilon: float = Field(default=1e-8, gt=0, description="Adam's epsilon.")
    max_grad_norm: float = Field(default=1.0, ge=0, description="Gradients are clipped to this norm; 0 leaves them.")
    label_smoothing_factor: float = Field(default=0.0, ge=0, lt=1, description="Share of the target spread evenly.")
    neftune_noise_alpha: float | None = Field(default=None, gt=0, description="Noise on the embeddings (NEFTune).")
    group_by_length: bool = Field(default=False, description="Draw batches of examples of similar length.")
    dataloader_num_workers: int = Field(default=0, ge=0, description="Processes that prepare batches.")
    logging_steps: int = Field(default=10, ge=1, description="Updates between two points of the training series.")
    report_to: Trackers = Field(default=(), description="Where the training series go too: tensorboard, wandb, mlflow; none.")
    run_name: str | None = Field(
        default=None,
        min_length=1,
        max_length=128,
        description="What a tracker calls the run; the job and the step when not given.",
    )
    project: str = Field(
        default="finebits", min_length=1, max_length=128, description="The tracker's project, or MLflow's experiment, of the run."
    )
    run_tags: Tags = Field(default=(), max_length=64, description="Tags that a tracker gives the run.")
    wandb_entity: str | None = Field(
        default=None, min_length=1, max_length=128, description="The team or user of Weights & Biases whose project it is."
    )
    save_strategy: Literal["steps", "epoch"] = Field(default="steps", description="When a checkpoint is made.")
    save_steps: int = Field(default=500, ge=1, description="Updates between checkpoints; the last update always makes one.")
    save_total_limit: int | None = Field(
        default=None, ge=1, description="Keep this many checkpoints, the newest; all when not given."
    )
    keep_best: int | None = Field(
        default=None,
        ge=1,
        description="Keep this many checkpoints of the lowest cross-entropy, beside the newest save_total_limit (or the newest).",
    )
    seed: int = Field(default=42, ge=0, lt=2**32, description="Seeds initialisation, order and dropout.")
    data_seed: int | None = Field(default=None, ge=0, lt=2**32, description="Seeds the order of the data, when it is to differ.")
    fsdp: bool = Field(
        default=False,
        description="Each GPU holds a part of the weights, gradients and optimiser's state (FSDP), instead of all.",
    )
    bf16: bool = Field(default=False, description="Mixed precision with bfloat16.")
    fp16: bool = Field(default=False, description="Mixed precision with float16; needs a GPU.")
