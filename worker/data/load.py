"""From a job's data arguments to what it trains on and what it is measured on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Literal

from transformers import PreTrainedTokenizerBase

from service.specs.data import DataArguments
from service.specs.dataset_info import DatasetInfoError, read_dataset_info
from service.specs.measures import MeasureArguments
from service.specs.reasons import Reason
from service.specs.roots import OutsideRoot, inside
from worker.data.files import Row, read_rows
from worker.data.formats import conversation_of, text_of
from worker.data.splits import sample, split
from worker.data.templates import TEMPLATES
from worker.data.tokenize import (
    Coverage,
    Example,
    coverage_of,
    encode_conversation,
    encode_document,
    encode_text,
    map_in_processes,
    pack_blocks,
)
from worker.failures import JobFailure

# Where the text that is measured comes from: held out, a data set of its own, or (with neither) rows that are trained on.
Split = Literal["validation", "dataset", "train"]


@dataclass(frozen=True)
class Prepared:
    """Examples in the order of their rows; `coverage` is of the training part."""

    train: list[Example]
    evaluation: list[Example]
    coverage: Coverage
    split: Split


def load_supervised(
    datasets_root: Path, data: DataArguments, measures: MeasureArguments, tokenizer: PreTrainedTokenizerBase, seed: int
) -> Prepared:
    """Conversations, one an example. What is measured is encoded as what is trained."""
    parts = _parts(datasets_root, data, measures, seed)
    encode = partial(_encode_row, data=data, tokenizer=tokenizer)
    train = _kept(map_in_processes(encode, parts.train, data.preprocessing_num_workers))
    evaluation = _kept(map_in_processes(encode, parts.evaluation, data.preprocessing_num_workers))
    why = f": every row is longer than cutoff_len {data.cutoff_len}" if data.overlength == "drop" else ""
    _refuse_empty(train, f"train on{why}")
    _refuse_empty(evaluation, f"measure on{why}")
    documents = [replace(example, document=document) for document, example in enumerate(evaluation)]
    return Prepared(train, documents, coverage_of(len(parts.train), train), parts.split)


def load_pretraining(
    datasets_root: Path, data: DataArguments, measures: MeasureArguments, tokenizer: PreTrainedTokenizerBase, seed: int
) -> Prepared:
    """Texts, packed into blocks to train on; to measure on, each text by itself."""
    parts = _parts(datasets_root, data, measures, seed)
    encode = partial(_encode_training_text, tokenizer=tokenizer)
    texts = map_in_processes(encode, parts.train, data.preprocessing_num_workers)
    blocks = pack_blocks(texts, tokenizer.eos_token_id, data.cutoff_len)
    measured = partial(_encode_measured_text, tokenizer=tokenizer, cutoff_len=data.cutoff_len)
    windows = map_in_processes(measured, list(enumerate(parts.evaluation)), data.preprocessing_num_workers)
    evaluation = list(chain.from_iterable(windows))
    _refuse_empty(evaluation, "measure on")
    tokens = sum(len(text) + 1 for text in texts)
    coverage = Coverage(len(parts.train), truncated=0, dropped=0, tokens=tokens, trained_tokens=len(blocks) * data.cutoff_len)
    return Prepared(blocks, evaluation, coverage, parts.split)


def load_rows(datasets_root: Path, data: DataArguments, names: Sequence[str]) -> list[Row]:
    """The rows of the named data sets one after another, the first max_samples of each."""
    folder = _dataset_folder(datasets_root, data.dataset_dir)
    try:
        entries = read_dataset_info(folder)
    except DatasetInfoError as error:
        raise JobFailure(Reason.BAD_DATA, str(error)) from None
    for name in names:
        if name not in entries:
            known = ", ".join(entries) or "none"
            raise JobFailure(Reason.MISSING_DATA, f"There is no data set {name!r} in dataset_info.json; there are: {known}.")
    return [row for name in names for row in islice(read_rows(folder, name, entries[name]), data.max_samples)]


@dataclass(frozen=True)
class _Parts:
    train: list[Row]
    evaluation: list[Row]
    split: Split


def _parts(datasets_root: Path, data: DataArguments, measures: MeasureArguments, seed: int) -> _Parts:
    train, held_out = split(load_rows(datasets_root, data, data.dataset or ()), data.val_size, seed)
    if measures.dataset:
        rows = load_rows(datasets_root, data, measures.dataset)
        return _Parts(train, sample(rows, measures.max_documents, seed), "dataset")
    if held_out:
        return _Parts(train, sample(held_out, measures.max_documents, seed), "validation")
    stand_in = sample(train, measures.train_documents, seed)
    return _Parts(train, sample(stand_in, measures.max_documents, seed), "train")


def _dataset_folder(datasets_root: Path, dataset_dir: str) -> Path:
    try:
        folder = inside(datasets_root, dataset_dir)
    except OutsideRoot as error:
        raise JobFailure(Reason.BAD_DATA, f"dataset_dir cannot be used: {error}") from None
    if not folder.is_dir():
        raise JobFailure(Reason.MISSING_DATA, f"There is no folder {dataset_dir!r} among the data sets.")
    return folder


def _encode_row(row: Row, data: DataArguments, tokenizer: PreTrainedTokenizerBase) -> Example | None:
    return encode_conversation(
        conversation_of(row),
        TEMPLATES[data.template or "empty"],
        tokenizer,
        data.cutoff_len,
        data.reserved_label_len,
        data.train_on_prompt,
        data.overlength,
    )


def _encode_training_text(row: Row, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    return encode_text(text_of(row), tokenizer)


def _encode_measured_text(numbered: tuple[int, Row], tokenizer: PreTrainedTokenizerBase, cutoff_len: int) -> list[Example]:
    document, row = numbered
    return encode_document(text_of(row), tokenizer, cutoff_len, document)


def _kept(examples: list[Example | None]) -> list[Example]:
    return [example for example in examples if example is not None]


def _refuse_empty(examples: list[Example], purpose: str) -> None:
    if not examples:
        raise JobFailure(Reason.BAD_DATA, f"No rows are left to {purpose}.")
