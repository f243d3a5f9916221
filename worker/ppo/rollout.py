"""Responses: what a policy writes to its prompts, drawn as the generating arguments say."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from service.specs.generating import GeneratingArguments
from service.specs.reasons import Reason
from worker.failures import JobFailure
from worker.models.adapters import Model
from worker.ppo.prompts import Prompt, room
from worker.probes.token import evaluating


@dataclass(frozen=True)
class Sampling:
    """How responses are drawn and where they end: at the first of `stop_ids`, which belongs to them, or when room runs out."""

    generating: GeneratingArguments
    stop_ids: list[int]
    pad_id: int


@torch.no_grad()
def respond(model: Model, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[int]]:
    """A response to each, from torch's own generator; one token at least."""
    ids_BP, mask_BP = _padded_left(prompts, sampling.pad_id, next(model.parameters()).device)
    rooms = [room(prompt, sampling.generating) for prompt in prompts]
    generate: Any = model.generate
    with evaluating(model):
        output_BN = generate(
            input_ids=ids_BP,
            attention_mask=mask_BP,
            generation_config=_configuration(sampling, max(rooms)),
            logits_processor=LogitsProcessorList([_RequireNumbers()]),
        )
    written = output_BN[:, ids_BP.shape[1] :].tolist()
    return [_until_the_end(tokens[:most], sampling.stop_ids) for tokens, most in zip(written, rooms, strict=True)]


def _configuration(sampling: Sampling, max_new_tokens: int) -> GenerationConfig:
    """Everything is named, since what is not would be the model's own generation_config.json's. Greedy leaves out the warpers."""
    given = sampling.generating
    warped: dict[str, Any] = {"temperature": given.temperature, "top_p": given.top_p, "top_k": given.top_k}
    if not given.do_sample:
        warped = {"temperature": 1.0, "top_p": 1.0, "top_k": 50}
    return GenerationConfig(
        do_sample=given.do_sample,
        num_beams=1,
        max_new_tokens=max_new_tokens,
        min_length=0,
        repetition_penalty=given.repetition_penalty,
        length_penalty=1.0,
        eos_token_id=sampling.stop_ids,
        pad_token_id=sampling.pad_id,
        use_cache=True,
        **warped,
    )


def _padded_left(prompts: Sequence[Prompt], pad_id: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Every prompt ends where its response begins."""
    width = max(map(len, prompts))
    ids = [[pad_id] * (width - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _until_the_end(tokens: list[int], stop_ids: list[int]) -> list[int]:
    """What stands behind the first end is padding."""
    end = next((place for place, token in enumerate(tokens) if token in stop_ids), len(tokens) - 1)
    return tokens[: end + 1]


class _RequireNumbers(LogitsProcessor):
    """Drawing from a distribution of NaN would be an error deep in torch."""

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        if scores.isnan().any() or scores.isposinf().any():
            sentence = "The policy's probabilities are no longer numbers. A lower learning_rate or a longer warm-up may help."
            raise JobFailure(Reason.DIVERGED, sentence)
        return scores
