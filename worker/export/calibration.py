"""The text that a quantizer sees: windows of a data set, drawn at random, and what was drawn written down.

GPTQ chooses each rounded weight so that the layer's outputs on this text change least; another text gives other weights.
"""

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.library.formats import conversation_of, pair_of, text_of
from service.library.rows import Row
from service.specs.reasons import Reason
from worker.failures import JobFailure


@dataclass(frozen=True)
class Window:
    """Tokens of one row, from the token `offset` on."""

    file: str
    row: int
    offset: int
    input_ids: list[int]


@dataclass(frozen=True)
class Calibration:
    """What a model was quantized on."""

    dataset: str
    seed: int
    windows: list[Window]

    def to_json(self) -> dict[str, Any]:
        """Enough to draw it again, and to see that it is the same: where each window stands, and a hash of all their tokens."""
        return {
            "dataset": self.dataset,
            "seed": self.seed,
            "tokens_in_a_window": len(self.windows[0].input_ids) if self.windows else 0,
            "sha256_of_tokens": _hash(window.input_ids for window in self.windows),
            "windows": [{"file": window.file, "row": window.row, "offset": window.offset} for window in self.windows],
        }


def draw(
    dataset: str, rows: Sequence[Row], encode: Callable[[str], list[int]], n_windows: int, n_tokens: int, seed: int
) -> Calibration:
    """`n_windows` windows of `n_tokens` tokens, none of which overlap: of as many rows as there are, and then again of the same.

    A row that is shorter has none; a longer one is cut into windows from a place that is drawn. Rows are encoded in a drawn order
    until there are enough. Raises JobFailure where all of them hold too few.
    """
    chance = random.Random(seed)
    first: list[Window] = []
    more: list[Window] = []
    n_long = 0
    for index in chance.sample(range(len(rows)), len(rows)):
        row = rows[index]
        windows = _windows(row, encode(corpus_text(row)), n_tokens, chance)
        n_long += bool(windows)
        first += windows[:1]
        more += windows[1:]
        if len(first) == n_windows:
            break
    if len(first) + len(more) < n_windows:
        raise _too_short(dataset, n_long, len(first) + len(more), n_windows, n_tokens)
    return Calibration(dataset, seed, first + chance.sample(more, n_windows - len(first)))


def corpus_text(row: Row) -> str:
    """What a row says, without a template's marks: a text, a conversation's messages, of a pair those with the chosen answer."""
    if row.entry.holds != "pairs" and row.entry.formatting == "alpaca":
        return text_of(row)
    conversation = pair_of(row).chosen if row.entry.holds == "pairs" else conversation_of(row)
    said = (conversation.system, *(message.content for message in conversation.messages))
    return "\n".join(part for part in said if part)


def _windows(row: Row, tokens: list[int], n_tokens: int, chance: random.Random) -> list[Window]:
    """All that fit, in a drawn order."""
    fitting = len(tokens) // n_tokens
    if not fitting:
        return []
    phase = chance.randint(0, len(tokens) - fitting * n_tokens)
    offsets = chance.sample([phase + place * n_tokens for place in range(fitting)], fitting)
    return [Window(row.file, row.number, offset, tokens[offset : offset + n_tokens]) for offset in offsets]


def _too_short(dataset: str, n_long: int, n_found: int, n_windows: int, n_tokens: int) -> JobFailure:
    rows = "1 row" if n_long == 1 else f"{n_long or 'no'} rows"
    sentence = (
        f"The data set {dataset!r} has {rows} of at least {n_tokens} tokens (export_quantization_maxlen), enough for {n_found} "
        f"windows of that length, and {n_windows} are wanted (export_quantization_nsamples). Lower one of the two, or name a "
        "data set with longer texts."
    )
    return JobFailure(Reason.BAD_DATA, sentence)


def _hash(windows: Iterator[list[int]]) -> str:
    digest = hashlib.sha256()
    for tokens in windows:
        digest.update(np.asarray(tokens, dtype="<i8").tobytes())
    return digest.hexdigest()
