"""Rows of several data sets made one sequence, as `datasets` interleaves them."""

from collections.abc import Sequence
from typing import Literal, TypeVar

from datasets import Dataset, interleave_datasets

from service.specs.data import DataArguments

Item = TypeVar("Item")

Strategy = Literal["concat", "interleave_under", "interleave_over"]

# When interleaving ends: where the first data set has no more rows, or where each has given all of its own.
STOPPING = {"interleave_under": "first_exhausted", "interleave_over": "all_exhausted"}


def mix(parts: Sequence[Sequence[Item]], strategy: Strategy, probabilities: list[float] | None, seed: int) -> list[Item]:
    """One after another; or one of each in turn, or of one drawn with its probability. A data set that is used up begins anew."""
    if strategy == "concat" or len(parts) == 1:
        return [item for part in parts for item in part]
    # the library mixes columns of numbers: where each row stands, not the row
    places = [Dataset.from_dict({"part": [index] * len(part), "row": range(len(part))}) for index, part in enumerate(parts)]
    mixed = interleave_datasets(places, probabilities, seed=seed, stopping_strategy=STOPPING[strategy])
    return [parts[part][row] for part, row in zip(mixed["part"], mixed["row"], strict=True)]


def probabilities_of(data: DataArguments) -> list[float] | None:
    """With a sum of exactly 1, as the library wants it of numbers that were written with few digits."""
    if data.interleave_probs is None:
        return None
    numbers = [float(probability) for probability in data.interleave_probs]
    return [number / sum(numbers) for number in numbers]
