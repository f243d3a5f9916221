"""Which rows are held out of training."""

import math
import random
from collections.abc import Sequence
from decimal import Decimal
from typing import TypeVar

from service.specs.reasons import Reason
from worker.failures import JobFailure

Item = TypeVar("Item")


def split(rows: Sequence[Item], val_size: float, seed: int) -> tuple[list[Item], list[Item]]:
    """(training, validation), each in the order of the rows. Below 1 val_size is a share, rounded up; from 1 on a count."""
    count = _count(len(rows), val_size)
    if count and count >= len(rows):
        sentence = f"val_size {val_size:g} holds out {count} rows, and there are {len(rows)}: none would be left to train on."
        raise JobFailure(Reason.BAD_DATA, sentence)
    held_out = set(random.Random(seed).sample(range(len(rows)), count))
    training = [row for index, row in enumerate(rows) if index not in held_out]
    return training, [rows[index] for index in sorted(held_out)]


def sample(rows: Sequence[Item], count: int | None, seed: int) -> list[Item]:
    """A seeded sample of that many rows, in their order; all of them when there are no more."""
    if count is None or count >= len(rows):
        return list(rows)
    return [rows[index] for index in sorted(random.Random(seed).sample(range(len(rows)), count))]


def _count(n_rows: int, val_size: float) -> int:
    # 0.07 of 100 rows is 7; in binary floating point it is a little more, and would be rounded up to 8
    return math.ceil(Decimal(str(val_size)) * n_rows) if val_size < 1 else int(val_size)
