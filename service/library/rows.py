"""A row of a data set, and where it stands."""

from dataclasses import dataclass
from typing import Any

from service.specs.dataset_info import DatasetEntry

Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """`number` counts from 1; in a text file it is the line. `entry` is how its data set reads."""

    values: Values
    file: str
    number: int
    entry: DatasetEntry
