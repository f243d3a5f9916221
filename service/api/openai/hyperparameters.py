"""OpenAI's hyperparameters in ours, and back: what "auto" comes to, and the number that a job shows for it.

n_epochs                  training.num_train_epochs                                             auto: 3
batch_size                per_device_train_batch_size x gradient_accumulation_steps             auto: see `auto_batch_size`
learning_rate_multiplier  training.learning_rate, as a multiple of the method's BASE_RATE       auto: 1
beta                      finetuning.dpo_beta                                                   auto: 0.1
"""

from typing import Any

EPOCHS, BETA = 3.0, 0.1

# Rows that are held in a GPU's memory at once; a larger batch is made of several such.
MOST_PER_DEVICE = 8

# What a multiplier of 1 is, by stage: the rates of LLaMA-Factory's example files (examples/train_lora/*.yaml and, where all
# weights train, examples/train_full/llama3_full_sft.yaml).
BASE_RATES = {"sft": 1e-4, "pt": 1e-4, "rm": 1e-4, "dpo": 5e-6, "ppo": 1e-5}
WHOLE_RATE = 1e-5


def base_rate(stage: str, finetuning_type: str) -> float:
    rate = BASE_RATES.get(stage, WHOLE_RATE)
    return rate if finetuning_type == "lora" else min(rate, WHOLE_RATE)


def auto_batch_size(rows: int | None) -> int:
    """8, or an eighth of the rows where that is less: an epoch has at least eight updates, as far as there are rows for them."""
    return MOST_PER_DEVICE if rows is None else max(1, min(MOST_PER_DEVICE, rows // 8))


def batch_arguments(batch_size: int) -> dict[str, int]:
    """As many rows at once as go into the batch a whole number of times."""
    at_once = next(n for n in range(min(batch_size, MOST_PER_DEVICE), 0, -1) if batch_size % n == 0)
    return {"per_device_train_batch_size": at_once, "gradient_accumulation_steps": batch_size // at_once}


def shown(step: dict[str, Any]) -> dict[str, Any]:
    """Of a resolved step, as its document has it."""
    training, finetuning = step["training"], step["finetuning"]
    multiplier = training["learning_rate"] / base_rate(finetuning["stage"], finetuning["finetuning_type"])
    epochs = training["num_train_epochs"]
    said = {
        "n_epochs": int(epochs) if epochs == int(epochs) else epochs,
        "batch_size": training["per_device_train_batch_size"] * training["gradient_accumulation_steps"],
        "learning_rate_multiplier": float(f"{multiplier:.12g}"),
    }
    return said | {"beta": finetuning["dpo_beta"]} if finetuning["stage"] == "dpo" else said
