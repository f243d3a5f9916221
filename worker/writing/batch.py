"""Texts that a model writes: prompts padded on the left, in one batch, each up to its own end.

Shapes: B prompts, P tokens of the longest, N with what is written.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from service.specs.generating import GeneratingArguments
from service.specs.reasons import Reason
from worker.failures import JobFailure
from worker.models.adapters import Model
from worker.probes.token import evaluating


@dataclass(frozen=True)
class Manner:
    """How texts are written and where they end: at the first of `stop_ids`, which belongs to them, or when room runs out."""

    generating: GeneratingArguments
    stop_ids: list[int]
    pad_id: int
    num_beams: int = 1
    vocabulary: int | None = None  # tokens that the tokenizer knows; rows behind them are never written. None: all are

    @property
    def draws(self) -> bool:
        """At temperature 0 nothing is drawn, whatever do_sample says."""
        return self.generating.do_sample and self.generating.temperature > 0


def room(n_prompt: int, generating: GeneratingArguments) -> int:
    """How many tokens a text may have behind a prompt: max_new_tokens, or with 0 what the prompt leaves of max_length."""
    return generating.max_new_tokens if generating.max_new_tokens > 0 else generating.max_length - n_prompt


def room_of(model: Model, n_prompt: int, generating: GeneratingArguments) -> int:
    """The same, and no further than the model has positions. 0 or less: the prompt leaves none."""
    positions = positions_of(model)
    most = room(n_prompt, generating)
    return most if positions is None else min(most, positions - n_prompt)


def positions_of(model: Model) -> int | None:
    positions: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return positions


@torch.no_grad()
def write(
    model: Model,
    prompts: Sequence[list[int]],
    rooms: Sequence[int],
    manner: Manner,
    processors: Sequence[LogitsProcessor] = (),
    criteria: Sequence[StoppingCriteria] = (),
    configuration: GenerationConfig | None = None,
    streamer: Any = None,
) -> list[list[int]]:
    """What stands behind each prompt, at most `rooms` tokens of it. With no configuration of the caller's, drawn from torch's own
    generator as the manner says.
    """
    ids_BP, mask_BP = padded_left(prompts, manner.pad_id, next(model.parameters()).device)
    generate: Any = model.generate
    with evaluating(model):
        output_BN = generate(
            input_ids=ids_BP,
            attention_mask=mask_BP,
            generation_config=configuration or as_configured(manner, max(rooms)),
            logits_processor=LogitsProcessorList(processors),
            stopping_criteria=StoppingCriteriaList(criteria),
            streamer=streamer,
        )
    written = output_BN[:, ids_BP.shape[1] :].tolist()
    return [up_to_end(tokens[:most], manner.stop_ids) for tokens, most in zip(written, rooms, strict=True)]


def as_configured(manner: Manner, max_new_tokens: int) -> GenerationConfig:
    """Everything is named, since what is not would be the model's own generation_config.json's. Greedy leaves out the warpers."""
    given = manner.generating
    warped: dict[str, Any] = {"temperature": given.temperature, "top_p": given.top_p, "top_k": given.top_k}
    if not manner.draws:
        warped = {"temperature": 1.0, "top_p": 1.0, "top_k": 50}
    return GenerationConfig(
        do_sample=manner.draws,
        num_beams=manner.num_beams,
        max_new_tokens=max_new_tokens,
        min_length=0,
        repetition_penalty=given.repetition_penalty,
        length_penalty=given.length_penalty if manner.num_beams > 1 else 1.0,
        eos_token_id=manner.stop_ids or None,
        pad_token_id=manner.pad_id,
        use_cache=True,
        **warped,
    )


def padded_left(prompts: Sequence[list[int]], pad_id: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids [B, P], mask [B, P]): every prompt ends where what is written begins."""
    width = max(map(len, prompts))
    ids = [[pad_id] * (width - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def up_to_end(tokens: list[int], stop_ids: Sequence[int]) -> list[int]:
    """With the end; what stands behind the first is padding."""
    return next((tokens[: place + 1] for place, token in enumerate(tokens) if token in stop_ids), tokens)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """The generators that others draw from are as they were afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


class RequireNumbers(LogitsProcessor):
    """Drawing from a distribution of NaN would be an error deep in torch."""

    def __init__(self, sentence: str):
        self._sentence = sentence

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        if scores.isnan().any() or scores.isposinf().any():
            raise JobFailure(Reason.DIVERGED, self._sentence)
        return scores
