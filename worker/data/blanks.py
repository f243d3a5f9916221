"""Rows of which nothing is learned, so that every rank has a whole batch where an epoch's rows run out.

Without them accelerate has each rank go on with rows of the epoch's beginning, and the last update of an epoch would be another
than that of one process. A loss that counts what it trains is not changed by a blank: it has one token, of no label.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch.utils.data import BatchSampler, Dataset, Sampler

from worker.data.tokenize import MASKED

BLANK = -1  # its index among the rows


class Fillable(Dataset[dict[str, Any]]):
    """The rows, and beside them a blank one of their kind."""

    def __init__(self, rows: Sequence[dict[str, Any]]):
        self._rows = rows
        self._blank = blank_like(rows[0])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._blank if index == BLANK else self._rows[index]


class WholeBatches:
    """A batch sampler's batches, as many for each rank, all of one size."""

    def __init__(self, batches: BatchSampler, n_ranks: int):
        self._batches = batches
        self._n_ranks = n_ranks

    @property
    def sampler(self) -> Sampler[int] | Iterable[int]:
        return self._batches.sampler

    def __len__(self) -> int:
        return -(-len(self._batches) // self._n_ranks) * self._n_ranks

    def __iter__(self) -> Iterator[list[int]]:
        size = self._batches.batch_size
        for batch in self._batches:
            yield [*batch, *[BLANK] * (size - len(batch))]
        yield from [[BLANK] * size] * (len(self) - len(self._batches))


def blank_like(row: dict[str, Any]) -> dict[str, Any]:
    """A text of one token, or a pair of such; in blocks it has a position."""
    token = row["input_ids"][:1]
    n_texts = 2 if "chosen_len" in row else 1
    blank: dict[str, Any] = {"input_ids": token * n_texts, "labels": [MASKED] * n_texts}
    if "chosen_len" in row:
        blank["chosen_len"] = 1
    if "position_ids" in row:
        blank["position_ids"] = [0]
    if "desirable" in row:
        blank["desirable"] = False
    return blank


def is_blank(row: dict[str, Any]) -> bool:
    return len(row["input_ids"]) <= 2 and all(label == MASKED for label in row["labels"])
