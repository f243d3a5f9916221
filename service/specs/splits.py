"""Which rows are held out of training: the service counts them, and the worker leaves them out."""

import math
import random
from bisect import bisect_left
from decimal import Decimal


class NothingLeft(ValueError):
    """All rows would be held out; the message says so."""


def n_held_out(n_rows: int, val_size: float) -> int:
    """Below 1 val_size is a share, rounded up; from 1 on a count. Raises NothingLeft."""
    # 0.07 of 100 rows is 7; in binary floating point it is a little more, and would be rounded up to 8
    count = math.ceil(Decimal(str(val_size)) * n_rows) if val_size < 1 else int(val_size)
    if count and count >= n_rows:
        raise NothingLeft(
            f"val_size {val_size:g} holds out {count} rows, and there are {n_rows}: none would be left to train on."
        )
    return count


def held_out(n_rows: int, val_size: float, seed: int) -> list[int]:
    """Those rows, in order. Raises NothingLeft."""
    return sorted(random.Random(seed).sample(range(n_rows), n_held_out(n_rows, val_size)))


def left_of_each(counts: list[int], val_size: float, seed: int) -> list[int]:
    """How many rows each of several data sets, of `counts` rows, has left. Raises NothingLeft, of one alone too."""
    left, first = [], 0
    chosen = held_out(sum(counts), val_size, seed)
    for number, count in enumerate(counts, 1):
        left.append(count - (bisect_left(chosen, first + count) - bisect_left(chosen, first)))
        if not left[-1]:
            sentence = f"val_size {val_size:g} holds out every row of the data set that is number {number} of {len(counts)}"
            raise NothingLeft(f"{sentence}: with nothing left, it cannot be interleaved.")
        first += count
    return left
