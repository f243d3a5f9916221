"""What a job trains on and what it is measured on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from worker.data.pairs import PairExample
from worker.data.streaming import Stream
from worker.data.tokenize import Coverage, Example

# Where the text that is measured comes from: held out, a data set of its own, or (with neither) rows that are trained on.
Split = Literal["validation", "dataset", "train"]


@dataclass(frozen=True)
class Prepared:
    """Examples in the order of their rows; `coverage` is of the training part. `notices` are for the client to know.

    Where preferences are learned, `train` holds PairExamples, and what is measured are `pairs` and, in `evaluation`, the chosen
    answer of each.
    """

    train: list[Any]
    evaluation: list[Example]
    coverage: Coverage
    split: Split
    notices: tuple[str, ...] = ()
    pairs: Sequence[PairExample] = ()


@dataclass(frozen=True)
class Streamed:
    """The same where what is trained on is read only while it is: the stream itself knows how much of it was."""

    train: Stream
    evaluation: list[Example]
    split: Split
    notices: tuple[str, ...] = ()
    pairs: Sequence[PairExample] = ()


def chosen(pairs: Sequence[PairExample]) -> list[Example]:
    """The better answers, each a document."""
    return [replace(pair.chosen, document=document) for document, pair in enumerate(pairs)]
