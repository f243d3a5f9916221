"""Answers to prompts, in bits: each drawn by its own seed, so that neither its batch nor an interruption makes it another.

Shapes: B prompts, V tokens of the vocabulary, T tokens that are written.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import log
from typing import Any, Literal

import numpy as np
import torch
from transformers import (
    LogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    StoppingCriteria,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from worker.models.adapters import Model
from worker.probes.token import Document, measure
from worker.writing.batch import Manner, RequireNumbers, as_configured, seeded, write

Finish = Literal["stop", "length"]
NO_NUMBERS = "The model's probabilities are no numbers: it has diverged, or its type holds too little (fp16 overflows)."


@dataclass(frozen=True)
class Answer:
    """The tokens behind a prompt, with what ended them. What they cost is the model's own, before temperature, top_p, top_k and
    penalties: `log_probability` is lg p of them all, `entropy` the mean over them of H(p), both in bits.
    """

    tokens: list[int]
    log_probability: float
    entropy: float
    finish_reason: Finish


def answer(
    model: Model,
    prompts: Sequence[list[int]],
    rooms: Sequence[int],
    seeds: Sequence[Sequence[int]],
    manner: Manner,
    is_stopping: Callable[[], bool] = lambda: False,
    streamer: Any = None,
) -> list[Answer]:
    """One to each prompt, which has at least one token, and room for one. A run that is stopping has them end anywhere."""
    criteria = [_Stopping(is_stopping), _OwnRoom(max(map(len, prompts)), rooms)]
    if manner.num_beams > 1:
        return _by_beams(model, prompts, rooms, seeds[0], manner, criteria)
    told = _Told(manner.vocabulary)
    processors = [RequireNumbers(NO_NUMBERS), told.model, *_changed(manner, prompts)]
    uniform_TB = np.stack([np.random.default_rng(list(seed)).random(max(rooms)) for seed in seeds], axis=1)
    processors.append(_Choosing(told, torch.from_numpy(uniform_TB) if manner.draws else None))
    plain = as_configured(_greedy(manner), max(rooms))  # the processors above do what it would do, and leave one token
    written = write(model, prompts, rooms, manner, processors, criteria, plain, streamer)
    logp_TB, entropy_TB = told.bits()
    return [
        _answer(tokens, float(logp_TB[: len(tokens), b].sum()), float(entropy_TB[: len(tokens), b].sum()), manner)
        for b, tokens in enumerate(written)
    ]


def _answer(tokens: list[int], logp_bits: float, entropy_bits: float, manner: Manner) -> Answer:
    ended = tokens[-1] in manner.stop_ids
    return Answer(tokens, logp_bits, entropy_bits / len(tokens), "stop" if ended else "length")


# -- token by token ----------------------------------------------------------------------------------------------------


class _Told:
    """What the model says at each step, and what of it was chosen."""

    def __init__(self, vocabulary: int | None) -> None:
        self.model = _Model(self, vocabulary)
        self.logp_BV: torch.Tensor | None = None
        self._logp: list[torch.Tensor] = []
        self._entropy: list[torch.Tensor] = []

    def said(self, logp_BV: torch.Tensor) -> None:
        self.logp_BV = logp_BV
        self._entropy.append(torch.special.entr(logp_BV.exp()).sum(-1))

    def chose(self, token_B: torch.Tensor) -> None:
        assert self.logp_BV is not None
        self._logp.append(self.logp_BV.gather(1, token_B[:, None])[:, 0])
        self.logp_BV = None

    def bits(self) -> tuple[np.ndarray, np.ndarray]:
        """(lg p [T, B], H [T, B])."""
        return tuple(torch.stack(nats).double().cpu().numpy() / log(2) for nats in (self._logp, self._entropy))  # type: ignore[return-value]


class _Model(LogitsProcessor):
    """Before anything is changed: the model's own distribution, over the tokens that there are."""

    def __init__(self, told: _Told, vocabulary: int | None):
        self._told = told
        self._vocabulary = vocabulary

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        if self._vocabulary is not None:
            scores[:, self._vocabulary :] = -torch.inf
        self._told.said(torch.log_softmax(scores.float(), dim=-1))
        return scores


class _Choosing(LogitsProcessor):
    """After everything: one token of each row, by the inverse of its distribution function at the row's own next number."""

    def __init__(self, told: _Told, uniform_TB: torch.Tensor | None):
        self._told = told
        self._uniform_TB = uniform_TB
        self._t = 0

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        token_B = scores.argmax(-1) if self._uniform_TB is None else self._drawn(scores)
        self._told.chose(token_B)
        chosen: Any = torch.full_like(scores, -torch.inf).scatter(1, token_B[:, None], 0.0)
        return chosen

    def _drawn(self, scores_BV: torch.Tensor) -> torch.Tensor:
        assert self._uniform_TB is not None
        uniform_B1 = self._uniform_TB[self._t, :, None].to(scores_BV.device)
        self._t = min(self._t + 1, len(self._uniform_TB) - 1)  # steps that transformers takes too many, and undoes
        below_BV = torch.softmax(scores_BV.double(), dim=-1).cumsum(-1)
        total_B1 = below_BV[:, -1:]
        at_B1 = torch.minimum(uniform_B1 * total_B1, torch.nextafter(total_B1, torch.zeros_like(total_B1)))
        return torch.searchsorted(below_BV, at_B1, right=True)[:, 0]  # the first above it, so never one of probability 0


def _changed(manner: Manner, prompts: Sequence[list[int]]) -> list[LogitsProcessor]:
    """What the generating arguments make of the distribution, in transformers' order."""
    given = manner.generating
    changes: list[LogitsProcessor] = []
    if given.repetition_penalty != 1:
        changes.append(_PenaltyOfOwn(given.repetition_penalty, prompts))
    if manner.draws and given.temperature != 1:
        changes.append(TemperatureLogitsWarper(given.temperature))
    if manner.draws and given.top_k > 0:
        changes.append(TopKLogitsWarper(given.top_k))
    if manner.draws and given.top_p < 1:
        changes.append(TopPLogitsWarper(given.top_p))
    return changes


class _PenaltyOfOwn(LogitsProcessor):
    """A row's penalty is for its own tokens: the padding before it, which is often EOS, is no part of what it says."""

    def __init__(self, penalty: float, prompts: Sequence[list[int]]):
        self._penalty = RepetitionPenaltyLogitsProcessor(penalty)
        width = max(map(len, prompts))
        self._pads = [(width - len(prompt), prompt[0]) for prompt in prompts]

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        own_BN: Any = input_ids.clone()
        for row, (n_pads, first) in enumerate(self._pads):
            own_BN[row, :n_pads] = first
        return self._penalty(own_BN, scores)


def _greedy(manner: Manner) -> Manner:
    generating = manner.generating.model_copy(update={"do_sample": False, "repetition_penalty": 1.0})
    return replace(manner, generating=generating)


# -- by beams ----------------------------------------------------------------------------------------------------------


def _by_beams(
    model: Model,
    prompts: Sequence[list[int]],
    rooms: Sequence[int],
    seed: Sequence[int],
    manner: Manner,
    criteria: list[StoppingCriteria],
) -> list[Answer]:
    """Beams change places as they grow, so what was chosen is asked of the model once more. What is drawn is the batch's."""
    device = next(model.parameters()).device
    with seeded(int(np.random.default_rng(list(seed)).integers(2**62)), device):
        written = write(model, prompts, rooms, manner, [RequireNumbers(NO_NUMBERS)], criteria[:1])
    asked = [
        Document([*prompt, *tokens], [*[-100] * len(prompt), *tokens], 0) for prompt, tokens in zip(prompts, written, strict=True)
    ]
    sums = measure(model, asked, manner.vocabulary or int(model.config.get_text_config().vocab_size))
    return [_answer(tokens, -nll, entropy, manner) for tokens, nll, entropy in zip(written, sums.nll, sums.entropy, strict=True)]


class _Stopping(StoppingCriteria):
    """All rows end when the run is to stop: they will be written again, and nobody waits for them."""

    def __init__(self, is_stopping: Callable[[], bool]):
        self._is_stopping = is_stopping

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs: Any) -> torch.BoolTensor:
        stops: Any = torch.full((len(input_ids),), self._is_stopping(), device=input_ids.device, dtype=torch.bool)
        return stops


class _OwnRoom(StoppingCriteria):
    """A row with less room than its batch is done when that is used up."""

    def __init__(self, n_prompt: int, rooms: Sequence[int]):
        self._last_B = torch.tensor([n_prompt + room for room in rooms])

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs: Any) -> torch.BoolTensor:
        self._last_B = self._last_B.to(input_ids.device)
        done: Any = input_ids.shape[1] >= self._last_B
        return done
