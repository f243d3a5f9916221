"""Our training arguments under the names that today's transformers has for them."""

from pathlib import Path
from typing import Any

from transformers import TrainingArguments as TransformersArguments

from service.specs.training import TrainingArguments

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
    "bf16",
    "fp16",
)


def training_arguments(training: TrainingArguments, folder: Path, use_cpu: bool) -> TransformersArguments:
    """`logging_steps` stays ours: the trainer tells every update's loss, and `callbacks.Reporting` makes means of them."""
    values: dict[str, Any] = {name: getattr(training, name) for name in SAME}
    # a float below 1 is a share of all updates; warmup_ratio was refused together with warmup_steps
    values["warmup_steps"] = training.warmup_ratio or training.warmup_steps
    if training.optim == "adamw_torch":
        values["optim"] = "adamw_torch_fused"  # the same, in one kernel for each parameter
    values["train_sampling_strategy"] = "group_by_length" if training.group_by_length else "random"
    return TransformersArguments(
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
        **values,
    )
