"""From a ppo step to what scores its responses."""

from collections.abc import Callable

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from worker.models.adapters import Model
from worker.models.tokenizers import refuse_other_tokens
from worker.rewards.api import RewardApi
from worker.rewards.scorer import Scorer
from worker.rewards.swapped import lay_swapped
from worker.rewards.whole import load_whole
from worker.stages.step import StepWork


def open_scorer(
    work: StepWork,
    model: Model,
    tokenizer: PreTrainedTokenizerBase,
    device: torch.device,
    check: Callable[[], None] = lambda: None,
) -> Scorer:
    """By the step's reward_model_type. `model` is the one that trains: a reward adapter is laid beside the one it trains.

    `check` is called while an API is waited for. Raises a JobFailure where the reward model cannot be used.
    """
    if work.step.finetuning.reward_model_type == "api":
        return RewardApi(work.step.finetuning.reward_model or "", work.reward_hosts, check, key=work.reward_api_key)
    reward = work.companions["reward"]
    if work.step.finetuning.reward_model_type == "lora":
        assert isinstance(model, PeftModel), "`lora_reward_needs_lora`"
        return lay_swapped(reward.start, model, device)
    refuse_other_tokens(reward.model, tokenizer, work.step, "the reward model")
    return load_whole(reward.start, reward.step, tokenizer, device)
