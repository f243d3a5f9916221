"""How ppo's prompts make updates: the worker's arithmetic, which a dry run tells of too."""

import math

from service.specs.job import ResolvedStep


def n_texts(step: ResolvedStep, n_gpus: int) -> int:
    """What one update learns from: a buffer of batches, of which gradient_accumulation_steps of each GPU make one step of the
    optimiser.
    """
    training = step.training
    of_each = training.per_device_train_batch_size * training.gradient_accumulation_steps * step.finetuning.ppo_buffer_size
    return of_each * n_gpus


def n_updates(step: ResolvedStep, n_prompts: int, n_gpus: int) -> int:
    """Buffers reach over the ends of epochs; the last may reach over the end of all."""
    if step.training.max_steps > 0:
        return step.training.max_steps
    return math.ceil(step.training.num_train_epochs * n_prompts / n_texts(step, n_gpus))
