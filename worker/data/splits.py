"""Which rows are held out of training."""

import random
from collections.abc import Sequence
from typing import TypeVar

from service.specs.reasons import Reason
from service.specs.splits import NothingLeft, held_out
from worker.failures import JobFailure

Item = TypeVar("Item")


def split(rows: Sequence[Item], val_size: float, seed: int) -> tuple[list[Item], list[Item]]:
    """(training, validation), each in the order of the rows. Below 1 val_size is a share, rounded up; from 1 on a count."""
    try:
        chosen = held_out(len(rows), val_size, seed)
    except NothingLeft as error:
        raise JobFailure(Reason.BAD_DATA, str(error)) from None
    out = set(chosen)
    return [row for index, row in enumerate(rows) if index not in out], [rows[index] for index in chosen]


def sample(rows: Sequence[Item], count: int | None, seed: int) -> list[Item]:
    """A seeded sample of that many rows, in their order; all of them when there are no more."""
    if count is None or count >= len(rows):
        return list(rows)
    return [rows[index] for index in sorted(random.Random(seed).sample(range(len(rows)), count))]
