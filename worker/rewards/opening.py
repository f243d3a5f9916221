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
    reward = work.companions["reward"]
    return load_whole(reward.start, reward.step, tokenizer, device)
