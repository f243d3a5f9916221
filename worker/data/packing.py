"""Whole examples packed into blocks of cutoff_len tokens, none of which sees another.

Nothing marks an example in a block but its positions, which begin at 0 again: transformers lets tokens attend to each other only
inside such a run, as long as no attention mask is given.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from worker.data.blanks import is_blank
from worker.data.tokenize import MASKED, Example


@dataclass(frozen=True)
class Packed:
    """Indices of the examples in each block; a block's are in their own order."""

    blocks: list[list[int]]
    n_examples: int
    padding_share: float

    def sentence(self, cutoff_len: int) -> str:
        return (
            f"{self.n_examples:,} examples are packed into {len(self.blocks):,} blocks of {cutoff_len:,} tokens, of which "
            f"{100 * self.padding_share:.1f} % are padding"
        )


def pack(lengths: Sequence[int], cutoff_len: int) -> Packed:
    """Best fit, longest first: an example goes into the fullest block that has room for it, or begins one.

    At most 11/9 of the fewest possible blocks, and one more (Johnson 1973).
    """
    blocks: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens left, block), sorted
    for example in sorted(range(len(lengths)), key=lambda example: -lengths[example]):
        place = bisect_left(room, (lengths[example], -1))
        if place == len(room):
            blocks.append([])
            left, block = cutoff_len, len(blocks) - 1
        else:
            left, block = room.pop(place)
        blocks[block].append(example)
        insort(room, (left - lengths[example], block))
    padding = sum(left for left, _ in room)
    return Packed([sorted(block) for block in blocks], len(lengths), padding / (len(blocks) * cutoff_len) if blocks else 0.0)


def block_features(examples: Sequence[Example], packed: Packed) -> list[dict[str, list[int]]]:
    """What a Trainer is given, a row for each block. The first token of an example is predicted by nothing, so never trained."""
    return [_features([examples[index] for index in block]) for block in packed.blocks]


@dataclass(frozen=True)
class PackedCollator:
    """Pads blocks to cutoff_len; the padding is a run of positions of its own.

    `flat` puts them all behind one another in one row instead, without padding: flash attention looks for runs in a single row
    only. The attention mask is for counting tokens; a model must not be given it.
    """

    pad_id: int
    cutoff_len: int
    label_pad_id: int = MASKED
    flat: bool = False

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        if self.flat:
            rows = [{name: [value for row in rows for value in row[name]] for name in rows[0]}]
        lengths = [len(row["input_ids"]) for row in rows]
        width = max(lengths) if self.flat else self.cutoff_len
        padding = [width - length for length in lengths]
        label_pad_ids = [MASKED if is_blank(row) else self.label_pad_id for row in rows]
        return {
            "input_ids": _extended(rows, "input_ids", [[self.pad_id] * n for n in padding]),
            "labels": _extended(
                rows, "labels", [_masked_first(pad_id, n) for pad_id, n in zip(label_pad_ids, padding, strict=True)]
            ),
            "position_ids": _extended(rows, "position_ids", [list(range(n)) for n in padding]),
            "attention_mask": (torch.arange(width) < torch.tensor(lengths)[:, None]).long(),
        }


def _features(examples: list[Example]) -> dict[str, list[int]]:
    return {
        "input_ids": [token for example in examples for token in example.input_ids],
        "labels": [label for example in examples for label in (MASKED, *example.labels[1:])],
        "position_ids": [position for example in examples for position in range(len(example.input_ids))],
    }


def _masked_first(label_pad_id: int, n: int) -> list[int]:
    """The labels of n tokens of padding, the first of which nothing predicts."""
    return [MASKED, *[label_pad_id] * (n - 1)][:n]


def _extended(rows: Sequence[dict[str, Any]], name: str, padding: list[list[int]]) -> torch.Tensor:
    return torch.tensor([[*row[name], *more] for row, more in zip(rows, padding, strict=True)])
