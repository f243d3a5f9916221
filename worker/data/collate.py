"""From examples to a batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from worker.data.blanks import is_blank
from worker.data.pairs import KtoExample, PairExample
from worker.data.tokenize import MASKED, Example


def features(examples: Sequence[Example | PairExample | KtoExample]) -> list[dict[str, Any]]:
    """What a Trainer is given: it groups by length only what it can look up `input_ids` in.

    A pair is one row: the chosen text's tokens, which are `chosen_len`, and then the rejected one's. A judged answer is
    `desirable` or not.
    """
    rows: list[dict[str, Any]] = [{"input_ids": example.input_ids, "labels": example.labels} for example in examples]
    for row, example in zip(rows, examples, strict=True):
        if isinstance(example, PairExample):
            row["chosen_len"] = len(example.chosen.input_ids)
        if isinstance(example, KtoExample):
            row["desirable"] = example.desirable
    return rows


@dataclass(frozen=True)
class Collator:
    """Pads on the right: `input_ids` with pad_id, `labels` with label_pad_id, `attention_mask` with 0. A blank trains nothing.

    pad_to_multiple_of is worth its tokens only on a GPU, whose matrix units come in eights.
    """

    pad_id: int
    label_pad_id: int = MASKED
    pad_to_multiple_of: int = 1

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        lengths = torch.tensor([len(row["input_ids"]) for row in rows])
        width = -(-int(lengths.max()) // self.pad_to_multiple_of) * self.pad_to_multiple_of
        return {
            "input_ids": _padded([row["input_ids"] for row in rows], width, [self.pad_id] * len(rows)),
            "attention_mask": (torch.arange(width) < lengths[:, None]).long(),
            "labels": _padded(
                [row["labels"] for row in rows], width, [MASKED if is_blank(row) else self.label_pad_id for row in rows]
            ),
        }


@dataclass(frozen=True)
class PairCollator:
    """A batch of B pairs as 2B texts, the chosen ones first; padded as `texts` pads."""

    texts: Collator

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        parts = [slice(row["chosen_len"]) for row in rows], [slice(row["chosen_len"], None) for row in rows]
        return self.texts(
            [
                {name: row[name][part] for name in ("input_ids", "labels")}
                for side in parts
                for row, part in zip(rows, side, strict=True)
            ]
        )


@dataclass(frozen=True)
class JudgedCollator:
    """A batch of B judged answers: their texts, `desirable` [B], and `mismatched`, each prompt with the answer of the next row.

    `mismatched` is None where there is no next row; an answer is cut there to what cutoff_len leaves it.
    """

    texts: Collator
    cutoff_len: int

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        others = [*rows[1:], rows[0]]
        mismatched = [self._joined(row, other) for row, other in zip(rows, others, strict=True)]
        return self.texts(rows) | {
            "desirable": torch.tensor([row["desirable"] for row in rows]),
            "mismatched": self.texts(mismatched) if len(rows) > 1 else None,
        }

    def _joined(self, row: dict[str, Any], other: dict[str, Any]) -> dict[str, list[int]]:
        prompt = [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label == MASKED]
        answer = [label for label in other["labels"] if label != MASKED][: self.cutoff_len - len(prompt)]
        return {"input_ids": [*prompt, *answer], "labels": [*[MASKED] * len(prompt), *answer]}


def collator_for(pad_id: int, ignore_pad_token_for_loss: bool, device: torch.device) -> Collator:
    """Padding is learned too where its loss is not to be ignored."""
    return Collator(pad_id, MASKED if ignore_pad_token_for_loss else pad_id, 8 if device.type == "cuda" else 1)


def _padded(rows: list[list[int]], width: int, values: list[int]) -> torch.Tensor:
    """Each row with its own value."""
    return torch.tensor([[*row, *[value] * (width - len(row))] for row, value in zip(rows, values, strict=True)])
