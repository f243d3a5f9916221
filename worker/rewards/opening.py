"""From a ppo step to what scores its responses."""

import torch
from transformers import PreTrainedTokenizerBase

from worker.models.adapters import Model
from worker.rewards.scorer import Scorer
from worker.rewards.whole import load_whole
from worker.stages.step import StepWork


def open_scorer(work: StepWork, model: Model, tokenizer: PreTrainedTokenizerBase, device: torch.device) -> Scorer:
    """By the step's reward_model_type. `model` is the one that trains: a reward adapter is laid beside the one it trains.

    Raises a JobFailure where the reward model cannot be used, before anything is generated.
    """
    assert work.reward is not None, "a ppo step has a reward model: `ppo_has_a_reward`"
    return load_whole(work.reward, work.step, tokenizer, device)
