"""Our training arguments under the names that today's transformers has for them."""

from pathlib import Path
from typing import Any

from transformers import TrainingArguments as TransformersArguments

from service.specs.training import TrainingArguments
from worker import ranks
from worker.stages.sharding import shard_no_more, shard_on_processors

# Taken as they are.
SAME = (
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
    "learning_rate",
    "lr_scheduler_type",
    "num_train_epochs",
    "max_steps",
    "optim",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "max_grad_norm",
    "label_smoothing_factor",
    "neftune_noise_alpha",
    "dataloader_num_workers",
    "save_strategy",
    "save_steps",
    "seed",
    "data_seed",
    "fsdp",
    "bf16",
    "fp16",
)


def training_arguments(
    training: TrainingArguments, folder: Path, use_cpu: bool, leaves_some_out: bool = False
) -> TransformersArguments:
    """`logging_steps` stays ours: the trainer tells every update's loss, and `callbacks.Reporting` makes means of them.

    `leaves_some_out`: whether there are parameters that train and that the loss does not depend on. Ranks ask for each.
    """
    values: dict[str, Any] = {name: getattr(training, name) for name in SAME}
    # a float below 1 is a share of all updates; warmup_ratio was refused together with warmup_steps
    values["warmup_steps"] = training.warmup_ratio or training.warmup_steps
    if training.optim == "adamw_torch":
        values["optim"] = "adamw_torch_fused"  # the same, in one kernel for each parameter
    values["train_sampling_strategy"] = "group_by_length" if training.group_by_length else "random"
    if not training.fsdp:
        shard_no_more()
    arguments = TransformersArguments(
        output_dir=str(folder),
        use_cpu=use_cpu,
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,  # a loss that is not finite must be seen, not averaged away
        include_num_input_tokens_seen="non_padding",
        eval_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=not use_cpu,
        ddp_find_unused_parameters=leaves_some_out,
        accelerator_config={"dispatch_batches": False},  # each rank reads its own part of a stream
        **values,
    )
    if training.fsdp and use_cpu and ranks.n_ranks() > 1:
        shard_on_processors(arguments)
    return arguments
