"""Rows that are read while the model trains: mixed, shuffled through a buffer, and never all in memory.

`datasets` mixes and shuffles. It is given each row as one column of bytes, so that it has no types to guess from the first rows.
"""

import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from typing import Any

import datasets
import torch
from datasets.iterable_dataset import ExamplesIterable

from service.library.rows import Row
from service.specs.data import DataArguments
from service.specs.dataset_info import DatasetEntry
from service.specs.reasons import Reason
from worker.data.collate import features
from worker.data.mixing import STOPPING, probabilities_of
from worker.data.pairs import KtoExample, PairExample
from worker.data.tokenize import MASKED, Coverage, Example
from worker.failures import JobFailure


@dataclass(frozen=True)
class Source:
    """One data set: how its rows read, and its rows, from the first on at each call."""

    entry: DatasetEntry
    read: Callable[[], Iterator[Row]]


# What becomes of the rows of one reading; None for a row that is left out.
Encode = Callable[[Iterator[Row]], Iterator[Example | None] | Iterator[PairExample | None] | Iterator[KtoExample | None]]


class Stream(torch.utils.data.IterableDataset[dict[str, Any]]):
    """Examples without end: after the last row the first comes again, in another order.

    The order depends on the seed and on how often the rows have come round, and on nothing else: a trainer that passes over what
    an earlier attempt trained finds the same rows after it.
    """

    def __init__(self, rows: "MixedRows", encode: Encode, buffer_size: int, seed: int):
        self._rows = rows
        self._encode = encode
        self._buffer_size = buffer_size
        self._seed = seed
        self._tally = _Tally()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self._tally = _Tally()
        for epoch in count():
            before = self._tally.examples
            for example in self._encode(self._counted(self._rows.shuffled(self._buffer_size, self._seed, epoch))):
                self._tally.add(example)
                if example is not None:
                    yield features([example])[0]
            if self._tally.examples == before:
                raise JobFailure(Reason.BAD_DATA, "No rows are left to train on: the stream has none that makes an example.")

    @property
    def coverage(self) -> Coverage:
        """Of what was read so far. A row that came round again counts again, and so does one in a batch that waits its turn."""
        tally = self._tally
        return Coverage(
            rows=tally.rows,
            truncated=tally.truncated,
            dropped=tally.dropped,
            tokens=tally.tokens,
            trained_tokens=tally.trained_tokens,
        )

    def _counted(self, rows: Iterator[Row]) -> Iterator[Row]:
        for row in rows:
            self._tally.rows += 1
            yield row


class MixedRows:
    """The mixed rows of several sources, but for those that are held out."""

    def __init__(self, sources: Sequence[Source], data: DataArguments, seed: int):
        self._entries = [source.entry for source in sources]
        self._mixed = _mixed([_stream(index, source) for index, source in enumerate(sources)], data, seed)
        self._held_out: set[_Place] = set()

    def hold_out(self, n_rows: int) -> list[Row]:
        """The first rows, which from then on never come again."""
        held_out: dict[_Place, Row] = {}
        for place, row in self._unpacked(self._mixed):
            if place not in held_out and len(held_out) == n_rows:
                self._held_out = set(held_out)
                return list(held_out.values())
            held_out[place] = row
        sentence = f"val_size {n_rows} holds out {n_rows} rows, and there are {len(held_out)}: none would be left to train on."
        raise JobFailure(Reason.BAD_DATA, sentence)

    def first(self, n_rows: int) -> list[Row]:
        """The first of those that are trained on, as they come before any shuffling."""
        return list(islice(self._left(self._mixed), n_rows))

    def shuffled(self, buffer_size: int, seed: int, epoch: int) -> Iterator[Row]:
        """Each row drawn from a buffer of that many."""
        shuffled = self._mixed.shuffle(seed=seed, buffer_size=buffer_size)
        shuffled.set_epoch(epoch)
        return self._left(shuffled)

    def _left(self, rows: datasets.IterableDataset) -> Iterator[Row]:
        return (row for place, row in self._unpacked(rows) if place not in self._held_out)

    def _unpacked(self, rows: datasets.IterableDataset) -> Iterator[tuple["_Place", Row]]:
        for packed in rows:
            index, values, file, number = pickle.loads(packed["row"])  # what `_packed` made in this process
            yield (index, file, number), Row(values, file, number, self._entries[index])


def stream_blocks(texts: Iterator[list[int]], eos: int, cutoff_len: int) -> Iterator[Example]:
    """The texts one after another, EOS after each, in blocks of cutoff_len as they fill; what is left at the end is dropped."""
    waiting: list[int] = []
    for text in texts:
        waiting += [*text, eos]
        whole = len(waiting) // cutoff_len * cutoff_len
        for start in range(0, whole, cutoff_len):
            block = waiting[start : start + cutoff_len]
            yield Example(block, block)
        del waiting[:whole]


# Which row of which data set it is.
_Place = tuple[int, str, int]


@dataclass
class _Tally:
    rows: int = 0
    examples: int = 0
    truncated: int = 0
    dropped: int = 0
    tokens: int = 0
    trained_tokens: int = 0

    def add(self, example: Example | PairExample | KtoExample | None) -> None:
        if example is None:
            self.dropped += 1
            return
        self.examples += 1
        self.truncated += example.truncated
        self.tokens += len(example.input_ids)
        self.trained_tokens += sum(label != MASKED for label in example.labels)


def _mixed(streams: list[datasets.IterableDataset], data: DataArguments, seed: int) -> datasets.IterableDataset:
    if len(streams) == 1:
        return streams[0]
    if data.mix_strategy == "concat":
        return datasets.concatenate_datasets(streams)
    stopping = STOPPING[data.mix_strategy]
    return datasets.interleave_datasets(streams, probabilities_of(data), seed=seed, stopping_strategy=stopping)


def _stream(index: int, source: Source) -> datasets.IterableDataset:
    info = datasets.DatasetInfo(features=datasets.Features({"row": datasets.Value("binary")}))
    return datasets.IterableDataset(ExamplesIterable(partial(_packed, index, source), {}), info=info)


def _packed(index: int, source: Source) -> Iterator[tuple[str, dict[str, bytes]]]:
    for number, row in enumerate(source.read()):
        yield str(number), {"row": pickle.dumps((index, row.values, row.file, row.number))}
