"""Prompts without end: after the last the first comes again, in another order, and a buffer may reach over the seam."""

from collections.abc import Iterator, Sequence
from itertools import count, islice
from typing import Any

import torch

from service.specs.generating import GeneratingArguments
from service.specs.reasons import Reason
from worker.data.prepared import Prepared, Streamed
from worker.failures import JobFailure
from worker.writing.batch import room

Prompt = list[int]

IN_VAIN = 10_000  # rows of a stream, which has no end, without one that can be used


def usable(data: Prepared, generating: GeneratingArguments) -> list[Prompt]:
    """Those that have a token to begin with, and room for one behind them."""
    prompts = [example.input_ids for example in data.train if _is_usable(example.input_ids, generating)]
    if not prompts:
        sentence = f"No prompt is left: all are empty, or as long as max_length {generating.max_length}."
        raise JobFailure(Reason.BAD_DATA, sentence)
    return prompts


def sentence(data: Prepared, prompts: Sequence[Prompt]) -> str:
    """ "120 prompts of 5124 tokens, 2 truncated, 1 dropped, 3 empty or without room for a response" """
    left_out = len(data.train) - len(prompts)
    counts = [(data.coverage.truncated, "truncated"), (data.coverage.dropped, "dropped")]
    counts.append((left_out, "empty or without room for a response"))
    number = "1 prompt" if len(prompts) == 1 else f"{len(prompts)} prompts"
    parts = [f"{number} of {sum(map(len, prompts))} tokens"]
    return ", ".join(parts + [f"{count} {fate}" for count, fate in counts if count])


def endless(prompts: list[Prompt], seed: int, start: int = 0) -> Iterator[Prompt]:
    """From the start-th on. The order of a pass depends on the seed and on how many there were before it, and on nothing else."""
    first_pass, first = divmod(start, len(prompts))
    for passes in count(first_pass):
        order = torch.randperm(len(prompts), generator=torch.Generator().manual_seed(seed + passes)).tolist()
        for index in order[first:]:
            yield prompts[index]
        first = 0


def streamed(data: Streamed, generating: GeneratingArguments, start: int = 0) -> Iterator[Prompt]:
    """The same of rows that are read as they are needed: what earlier attempts used is read again, and passed over."""
    return islice(_usable_rows(iter(data.train), generating), start, None)


def _usable_rows(rows: Iterator[dict[str, Any]], generating: GeneratingArguments) -> Iterator[Prompt]:
    in_vain = 0
    for row in rows:
        prompt: Prompt = row["input_ids"]
        in_vain = 0 if _is_usable(prompt, generating) else in_vain + 1
        if in_vain == IN_VAIN:
            sentence = f"{IN_VAIN} prompts one after another are empty, or as long as max_length {generating.max_length}."
            raise JobFailure(Reason.BAD_DATA, sentence)
        if not in_vain:
            yield prompt


def _is_usable(prompt: Prompt, generating: GeneratingArguments) -> bool:
    return bool(prompt) and room(len(prompt), generating) > 0
