"""What a job trains on and what it is measured on."""

from dataclasses import dataclass
from typing import Literal

from worker.data.streaming import Stream
from worker.data.tokenize import Coverage, Example

# Where the text that is measured comes from: held out, a data set of its own, or (with neither) rows that are trained on.
Split = Literal["validation", "dataset", "train"]


@dataclass(frozen=True)
class Prepared:
    """Examples in the order of their rows; `coverage` is of the training part. `notices` are for the client to know."""

    train: list[Example]
    evaluation: list[Example]
    coverage: Coverage
    split: Split
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Streamed:
    """The same where what is trained on is read only while it is: the stream itself knows how much of it was."""

    train: Stream
    evaluation: list[Example]
    split: Split
    notices: tuple[str, ...] = ()
