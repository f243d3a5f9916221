"""From a job's data arguments to what it trains on and what it is measured on."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

from transformers import PreTrainedTokenizerBase

from service.library.formats import conversation_of, labelled_of, pair_of, text_of
from service.library.rows import Row
from service.specs.data import DataArguments
from service.specs.dataset_info import DatasetEntry, DatasetInfoError, read_dataset_info, why_not_for
from service.specs.file_names import is_file
from service.specs.measures import MeasureArguments
from service.specs.reasons import Reason
from service.specs.roots import OutsideRoot, inside
from service.specs.splits import NothingLeft, left_of_each
from worker.data import cache
from worker.data.files import read_rows, stamps
from worker.data.hub import Hub, commit, hub_rows
from worker.data.mixing import mix, probabilities_of
from worker.data.pairs import KtoExample, PairExample, encode_kto, encode_pair
from worker.data.prepared import Prepared, Split, Streamed, chosen
from worker.data.prompts import encode_prompt
from worker.data.splits import sample, split
from worker.data.streaming import Encode, MixedRows, Source, Stream, stream_blocks
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


@dataclass(frozen=True)
class UploadedFile:
    """A file that a client uploaded, in a folder of its own on this host, and how its rows read."""

    folder: Path
    entry: DatasetEntry


@dataclass(frozen=True)
class Places:
    """Where data comes from, and where what was made of it is kept."""

    datasets_root: Path
    cache_root: Path
    hub: Hub | None = None  # None where hubs may not be reached
    uploaded: dict[str, UploadedFile] = field(default_factory=dict)  # by the names that jobs give them


@dataclass(frozen=True)
class Wanted:
    """What of a job decides which examples there are, and (`data_seed`) in which order those of a stream come."""

    stage: str
    data: DataArguments
    measures: MeasureArguments
    seed: int
    data_seed: int | None = None
    dpo_loss: str = "sigmoid"  # labels are learned by kto alone
    reads_training: bool = True  # whether anything looks at the rows that are trained on


def load_supervised(places: Places, wanted: Wanted, tokenizer: PreTrainedTokenizerBase) -> Prepared | Streamed:
    """Conversations, one an example. What is measured is encoded as what is trained."""
    if not wanted.data.streaming:
        return _kept_or_made(places, wanted, tokenizer, _conversations)
    parts = _streamed_parts(places, wanted)
    encode = partial(_encode_row, data=wanted.data, tokenizer=tokenizer)
    return _streamed(wanted, parts, partial(map, encode), _measured_conversations(parts.evaluation, wanted.data, tokenizer))


def load_prompts(places: Places, wanted: Wanted, tokenizer: PreTrainedTokenizerBase) -> Prepared | Streamed:
    """Conversations without their last response, which a policy is to write. What is measured is as in `load_supervised`."""
    if not wanted.data.streaming:
        return _kept_or_made(places, wanted, tokenizer, _prompts)
    parts = _streamed_parts(places, wanted)
    encode = partial(_encode_prompt, data=wanted.data, tokenizer=tokenizer)
    return _streamed(wanted, parts, partial(map, encode), _measured_conversations(parts.evaluation, wanted.data, tokenizer))


def load_pretraining(places: Places, wanted: Wanted, tokenizer: PreTrainedTokenizerBase) -> Prepared | Streamed:
    """Texts, packed into blocks to train on; to measure on, each text by itself."""
    if not wanted.data.streaming:
        return _kept_or_made(places, wanted, tokenizer, _texts)
    parts = _streamed_parts(places, wanted)
    encode = partial(_encode_blocks, tokenizer=tokenizer, cutoff_len=wanted.data.cutoff_len)
    return _streamed(wanted, parts, encode, _measured_texts(parts.evaluation, wanted.data, tokenizer))


def load_anchor(places: Places, wanted: Wanted, tokenizer: PreTrainedTokenizerBase) -> list[Example]:
    """What the model should not forget: texts in the stage pt, conversations in all others. Nothing where none is named."""
    measures = wanted.measures
    if not measures.anchor:
        return []
    of_texts = wanted.stage == "pt"
    rows = [*chain.from_iterable(load_rows(places, wanted if of_texts else replace(wanted, stage="sft"), measures.anchor))]
    rows = sample(rows, measures.max_documents, wanted.seed)
    return (_measured_texts if of_texts else _measured_conversations)(rows, wanted.data, tokenizer)


def load_measured(places: Places, wanted: Wanted, tokenizer: PreTrainedTokenizerBase) -> list[Example]:
    """What is measured, in the tokens of another model than the step's: of pairs the chosen answers, of judged ones the good."""
    rows = measured_rows(places, wanted)
    if wanted.stage == "pt":
        return _measured_texts(rows, wanted.data, tokenizer)
    if wanted.stage not in ("rm", "dpo"):
        return _measured_conversations(rows, wanted.data, tokenizer)
    if holds(places, wanted) == "labels":
        return _measured_good(rows, wanted.data, tokenizer)
    return chosen(_measured_pairs(rows, wanted.data, tokenizer))


def load_pairs(places: Places, wanted: Wanted, tokenizer: PreTrainedTokenizerBase) -> Prepared | Streamed:
    """Two answers to a prompt, one pair an example."""
    if not wanted.data.streaming:
        return _kept_or_made(places, wanted, tokenizer, _pairs)
    parts = _streamed_parts(places, wanted)
    encode = partial(_encode_pair, data=wanted.data, tokenizer=tokenizer)
    pairs = _measured_pairs(parts.evaluation, wanted.data, tokenizer)
    return replace(_streamed(wanted, parts, partial(map, encode), chosen(pairs)), pairs=pairs)


def load_answers(places: Places, wanted: Wanted, tokenizer: PreTrainedTokenizerBase) -> Prepared | Streamed:
    """Pairs, or judged answers."""
    return (load_judged if holds(places, wanted) == "labels" else load_pairs)(places, wanted, tokenizer)


def load_judged(places: Places, wanted: Wanted, tokenizer: PreTrainedTokenizerBase) -> Prepared | Streamed:
    """Answers that are labelled as good or bad, one an example. What is measured are good ones."""
    if not wanted.data.streaming:
        return _kept_or_made(places, wanted, tokenizer, _judged)
    parts = _streamed_parts(places, wanted)
    encode = partial(_encode_judged, data=wanted.data, tokenizer=tokenizer)
    return _streamed(wanted, parts, partial(map, encode), _measured_good(parts.evaluation, wanted.data, tokenizer))


def holds(places: Places, wanted: Wanted) -> str:
    """What the rows are: conversations, pairs or labels. Raises JobFailure where some data sets hold others."""
    names = (*(wanted.data.dataset or ()), *(wanted.measures.dataset or ()))
    kinds = sorted({source.entry.holds for source in _sources(places, wanted, names)})
    if len(kinds) > 1:
        raise JobFailure(Reason.BAD_DATA, f"Some of the data sets hold {kinds[0]} and some {kinds[1]}: name one kind.")
    return kinds[0]


def load_rows(places: Places, wanted: Wanted, names: Sequence[str]) -> list[list[Row]]:
    """The rows of each of the named data sets, of every one the first max_samples."""
    return [list(islice(source.read(), wanted.data.max_samples)) for source in _sources(places, wanted, names)]


def corpus(places: Places, data: DataArguments, name: str) -> list[Row]:
    """The rows of a data set of any kind, the first max_samples, for what only reads their text."""
    folder, entry = _described(places, name, data)
    return list(islice(_read(places, folder, name, entry, data), data.max_samples))


def measured_rows(places: Places, wanted: Wanted) -> list[Row]:
    """The rows that are measured, as they are read: held out, of a data set of their own, or standing in."""
    return (_streamed_parts if wanted.data.streaming else _parts)(places, wanted).evaluation


def split_rows(places: Places, wanted: Wanted) -> tuple[list[Row], list[Row]]:
    """(training, held out), as they are read. Nothing is held out where there is neither val_size nor measures.dataset."""
    parts = _parts(places, wanted)
    return parts.train, [] if parts.split == "train" else parts.evaluation


def predicted_rows(places: Places, wanted: Wanted) -> tuple[list[Row], Split]:
    """What val_size holds out of the data sets, as in a step that trains, or all of their rows where it holds out none."""
    rows = [*chain.from_iterable(load_rows(places, wanted, wanted.data.dataset or ()))]
    _, held_out = split(rows, wanted.data.val_size, wanted.seed)
    return (held_out, "validation") if held_out else (rows, "dataset")


def encode_prompts(rows: Sequence[Row], wanted: Wanted, tokenizer: PreTrainedTokenizerBase) -> list[Example | None]:
    """Each row without its last answer; None where it is dropped."""
    encode: Callable[[Row], Example | None] = partial(_encode_prompt, data=wanted.data, tokenizer=tokenizer)
    return map_in_processes(encode, rows, wanted.data.preprocessing_num_workers)


def encode_rows(rows: Sequence[Row], wanted: Wanted, tokenizer: PreTrainedTokenizerBase) -> list[Any]:
    """Conversations, pairs and judged answers as they are trained on, without those that are dropped; texts each by itself,
    whole, with its end.
    """
    encode: Callable[[Row], Any] = partial(_encode_row, data=wanted.data, tokenizer=tokenizer)
    if wanted.stage == "pt":
        encode = partial(_encode_whole_text, tokenizer=tokenizer)
    if wanted.stage in ("dpo", "rm"):
        encode = partial(_encode_answers, data=wanted.data, tokenizer=tokenizer)
    return _not_dropped(map_in_processes(encode, rows, wanted.data.preprocessing_num_workers))


def _conversations(places: Places, wanted: Wanted, tokenizer: PreTrainedTokenizerBase) -> Prepared:
    return _encoded(places, wanted, tokenizer, _encode_row)


def _prompts(places: Places, wanted: Wanted, tokenizer: PreTrainedTokenizerBase) -> Prepared:
    return _encoded(places, wanted, tokenizer, _encode_prompt)


def _encoded(
    places: Places, wanted: Wanted, tokenizer: PreTrainedTokenizerBase, encode_row: Callable[..., Example | None]
) -> Prepared:
    parts = _parts(places, wanted)
    train = _trained(parts, wanted, partial(encode_row, data=wanted.data, tokenizer=tokenizer))
    evaluation = _measured_conversations(parts.evaluation, wanted.data, tokenizer)
    return Prepared(train, evaluation, coverage_of(len(parts.train), train), parts.split, parts.notices)


def _measured_conversations(rows: list[Row], data: DataArguments, tokenizer: PreTrainedTokenizerBase) -> list[Example]:
    encode = partial(_encode_row, data=data, tokenizer=tokenizer)
    examples = _not_dropped(map_in_processes(encode, rows, data.preprocessing_num_workers))
    _refuse_empty(examples, "measure on", data)
    return [replace(example, document=document) for document, example in enumerate(examples)]


def _pairs(places: Places, wanted: Wanted, tokenizer: PreTrainedTokenizerBase) -> Prepared:
    parts = _parts(places, wanted)
    train = _trained(parts, wanted, partial(_encode_pair, data=wanted.data, tokenizer=tokenizer))
    pairs = _measured_pairs(parts.evaluation, wanted.data, tokenizer)
    return Prepared(train, chosen(pairs), coverage_of(len(parts.train), train), parts.split, parts.notices, pairs)


def _measured_pairs(rows: list[Row], data: DataArguments, tokenizer: PreTrainedTokenizerBase) -> list[PairExample]:
    encode = partial(_encode_pair, data=data, tokenizer=tokenizer)
    pairs = _not_dropped(map_in_processes(encode, rows, data.preprocessing_num_workers))
    _refuse_empty(pairs, "measure on", data)
    return pairs


def _judged(places: Places, wanted: Wanted, tokenizer: PreTrainedTokenizerBase) -> Prepared:
    parts = _parts(places, wanted)
    train = _trained(parts, wanted, partial(_encode_judged, data=wanted.data, tokenizer=tokenizer))
    evaluation = _measured_good(parts.evaluation, wanted.data, tokenizer)
    return Prepared(train, evaluation, coverage_of(len(parts.train), train), parts.split, parts.notices)


def _measured_good(rows: list[Row], data: DataArguments, tokenizer: PreTrainedTokenizerBase) -> list[Example]:
    """The model is to say what is good, so bad answers are no text for it."""
    encode = partial(_encode_judged, data=data, tokenizer=tokenizer)
    judged = _not_dropped(map_in_processes(encode, rows, data.preprocessing_num_workers))
    good = [example.answer for example in judged if example.desirable]
    _refuse_empty(good, "measure on (only good answers are measured)", data)
    return [replace(example, document=document) for document, example in enumerate(good)]


def _texts(places: Places, wanted: Wanted, tokenizer: PreTrainedTokenizerBase) -> Prepared:
    parts = _parts(places, wanted)
    encode = partial(_encode_training_text, tokenizer=tokenizer)
    texts = map_in_processes(encode, parts.train, wanted.data.preprocessing_num_workers)
    blocks = pack_blocks(texts, tokenizer.eos_token_id, wanted.data.cutoff_len) if wanted.reads_training else []
    tokens = sum(len(text) + 1 for text in texts)
    trained_tokens = len(blocks) * wanted.data.cutoff_len
    coverage = Coverage(len(parts.train), truncated=0, dropped=0, tokens=tokens, trained_tokens=trained_tokens)
    return Prepared(blocks, _measured_texts(parts.evaluation, wanted.data, tokenizer), coverage, parts.split, parts.notices)


def _measured_texts(rows: list[Row], data: DataArguments, tokenizer: PreTrainedTokenizerBase) -> list[Example]:
    encode = partial(_encode_measured_text, tokenizer=tokenizer, cutoff_len=data.cutoff_len)
    windows = list(chain.from_iterable(map_in_processes(encode, list(enumerate(rows)), data.preprocessing_num_workers)))
    _refuse_empty(windows, "measure on", data)
    return windows


# -- which rows ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Parts:
    train: list[Row]
    evaluation: list[Row]
    split: Split
    notices: tuple[str, ...]


def _parts(places: Places, wanted: Wanted) -> _Parts:
    """Rows are held out before any are mixed: a data set that comes round again must not bring one back."""
    data, measures, seed = wanted.data, wanted.measures, wanted.seed
    by_dataset = load_rows(places, wanted, data.dataset or ())
    _refuse_used_up(by_dataset, wanted)
    numbered = [(index, row) for index, rows in enumerate(by_dataset) for row in rows]
    left, held_out = split(numbered, data.val_size, seed)
    of_each = [[row for index, row in left if index == dataset] for dataset in range(len(by_dataset))]
    train = mix(of_each, data.mix_strategy, probabilities_of(data), seed)
    read = train if wanted.reads_training else []
    notices = _placeholders([*chain.from_iterable(by_dataset)])
    if measures.dataset:
        rows = [*chain.from_iterable(load_rows(places, wanted, measures.dataset))]
        return _Parts(read, sample(rows, measures.max_documents, seed), "dataset", notices)
    if held_out:
        return _Parts(read, sample([row for _, row in held_out], measures.max_documents, seed), "validation", notices)
    stand_in = sample(train, measures.train_documents, seed)
    return _Parts(read, sample(stand_in, measures.max_documents, seed), "train", notices)


def _refuse_used_up(by_dataset: list[list[Row]], wanted: Wanted) -> None:
    """A data set of which nothing is left cannot take its turn."""
    if wanted.data.mix_strategy != "concat":
        try:
            left_of_each([len(rows) for rows in by_dataset], wanted.data.val_size, wanted.seed)
        except NothingLeft as error:
            raise JobFailure(Reason.BAD_DATA, str(error)) from None


@dataclass(frozen=True)
class _StreamedParts:
    train: MixedRows
    evaluation: list[Row]
    split: Split


def _streamed_parts(places: Places, wanted: Wanted) -> _StreamedParts:
    """As `_parts`, but what is held out, or stands in for it, are the first rows: the others are not known yet."""
    data, measures, seed = wanted.data, wanted.measures, wanted.seed
    rows = MixedRows(_sources(places, wanted, data.dataset or ()), data, seed)
    held_out = rows.hold_out(int(data.val_size)) if data.val_size else []
    if measures.dataset:
        others = [*chain.from_iterable(load_rows(places, wanted, measures.dataset))]
        return _StreamedParts(rows, sample(others, measures.max_documents, seed), "dataset")
    if held_out:
        return _StreamedParts(rows, sample(held_out, measures.max_documents, seed), "validation")
    stand_in = rows.first(measures.train_documents)
    return _StreamedParts(rows, sample(stand_in, measures.max_documents, seed), "train")


def _streamed(wanted: Wanted, parts: _StreamedParts, encode: Encode, evaluation: list[Example]) -> Streamed:
    seed = wanted.seed if wanted.data_seed is None else wanted.data_seed
    return Streamed(Stream(parts.train, encode, wanted.data.buffer_size, seed), evaluation, parts.split)


def _placeholders(rows: list[Row]) -> tuple[str, ...]:
    """LLaMA-Factory's identity data set leaves who speaks to be filled in."""
    files: dict[str, int] = {}
    for row in rows:
        if any(isinstance(value, str) and ("{{name}}" in value or "{{author}}" in value) for value in row.values.values()):
            files[row.file] = files.get(row.file, 0) + 1
    return tuple(
        f"{'1 row' if count == 1 else f'{count} rows'} of {file} {'holds' if count == 1 else 'hold'} {{{{name}}}} or "
        "{{author}}, trained as they stand: fill them in in the file."
        for file, count in files.items()
    )


# -- where they come from -----------------------------------------------------------------------------------------------


def _sources(places: Places, wanted: Wanted, names: Sequence[str]) -> list[Source]:
    """The named data sets, which the stage can learn from."""
    found = [_entry(places, name, wanted) for name in names]
    return [
        Source(entry, partial(_read, places, folder, name, entry, wanted.data))
        for name, (folder, entry) in zip(names, found, strict=True)
    ]


def _entry(places: Places, name: str, wanted: Wanted) -> tuple[Path, DatasetEntry]:
    """How the data set's rows read, and the folder that its files are in."""
    folder, entry = _described(places, name, wanted.data)
    if why := why_not_for(wanted.stage, name, entry, wanted.dpo_loss):
        raise JobFailure(Reason.BAD_DATA, why)
    return folder, entry


def _described(places: Places, name: str, data: DataArguments) -> tuple[Path, DatasetEntry]:
    """The same, whether or not the stage can learn from it."""
    if is_file(name):
        return _uploaded(places, name)
    folder = _dataset_folder(places.datasets_root, data.dataset_dir)
    return folder, _listed(folder, name)


def _uploaded(places: Places, name: str) -> tuple[Path, DatasetEntry]:
    if name not in places.uploaded:
        raise JobFailure(Reason.MISSING_DATA, f"The uploaded file {name!r} is kept no longer.")
    file = places.uploaded[name]
    return file.folder, file.entry


def _listed(folder: Path, name: str) -> DatasetEntry:
    try:
        entries = read_dataset_info(folder)
        if name not in entries:
            known = ", ".join(entries) or "none"
            raise JobFailure(Reason.MISSING_DATA, f"There is no data set {name!r} in dataset_info.json; there are: {known}.")
        return entries[name]
    except DatasetInfoError as error:
        raise JobFailure(Reason.BAD_DATA, str(error)) from None


def _read(places: Places, folder: Path, name: str, entry: DatasetEntry, data: DataArguments) -> Iterator[Row]:
    if entry.is_remote:
        return hub_rows(places.hub, name, entry, data.split, data.streaming)
    return read_rows(folder, name, entry, data.split)


def _dataset_folder(datasets_root: Path, dataset_dir: str) -> Path:
    try:
        folder = inside(datasets_root, dataset_dir)
    except OutsideRoot as error:
        raise JobFailure(Reason.BAD_DATA, f"dataset_dir cannot be used: {error}") from None
    if not folder.is_dir():
        raise JobFailure(Reason.MISSING_DATA, f"There is no folder {dataset_dir!r} among the data sets.")
    return folder


# -- what is kept -------------------------------------------------------------------------------------------------------

Make = Callable[[Places, Wanted, PreTrainedTokenizerBase], Prepared]

# Arguments that change how examples are made or batched, but not which they are.
_SAME_EXAMPLES = {"cache_path", "overwrite_cache", "preprocessing_num_workers", "eval_num_beams", "ignore_pad_token_for_loss"}


def _kept_or_made(places: Places, wanted: Wanted, tokenizer: PreTrainedTokenizerBase, make: Make) -> Prepared:
    """From the cache where the job names one."""
    name = wanted.data.cache_path
    if name is None:
        return make(places, wanted, tokenizer)
    key = _made_of(places, wanted, tokenizer)
    folder = places.cache_root / "tokenised"
    return cache.kept_or_made(folder, name, key, wanted.data.overwrite_cache, lambda: make(places, wanted, tokenizer))


def _made_of(places: Places, wanted: Wanted, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """All that decides the examples, as JSON: two jobs for which it is equal have the same."""
    datasets: dict[str, Any] = {}
    for name in (*(wanted.data.dataset or ()), *(wanted.measures.dataset or ())):
        folder, entry = _entry(places, name, wanted)
        stamp = commit(places.hub, name, entry) if entry.is_remote else stamps(folder, name, entry, wanted.data.split)
        datasets[f"the data set {name}"] = [entry.model_dump(mode="json", exclude_defaults=True), stamp]
    data = wanted.data.model_dump(mode="json", exclude=_SAME_EXAMPLES)
    measures = wanted.measures.model_dump(mode="json", include={"dataset", "max_documents", "train_documents"})
    return {
        "the version of Finebits": cache.code(),
        "the tokenizer": cache.fingerprint(tokenizer),
        "finetuning.stage": wanted.stage,
        "training.seed": wanted.seed,
        "whether training rows are read": wanted.reads_training,
        **{f"data.{argument}": value for argument, value in data.items()},
        **{f"measures.{argument}": value for argument, value in measures.items()},
        **datasets,
    }


# -- how they are encoded -----------------------------------------------------------------------------------------------


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


def _encode_prompt(row: Row, data: DataArguments, tokenizer: PreTrainedTokenizerBase) -> Example | None:
    template = TEMPLATES[data.template or "empty"]
    return encode_prompt(conversation_of(row), template, tokenizer, data.cutoff_len, data.reserved_label_len, data.overlength)


def _encode_pair(row: Row, data: DataArguments, tokenizer: PreTrainedTokenizerBase) -> PairExample | None:
    template = TEMPLATES[data.template or "empty"]
    return encode_pair(pair_of(row), template, tokenizer, data.cutoff_len, data.reserved_label_len, data.overlength)


def _encode_judged(row: Row, data: DataArguments, tokenizer: PreTrainedTokenizerBase) -> KtoExample | None:
    template = TEMPLATES[data.template or "empty"]
    return encode_kto(labelled_of(row), template, tokenizer, data.cutoff_len, data.reserved_label_len, data.overlength)


def _encode_answers(row: Row, data: DataArguments, tokenizer: PreTrainedTokenizerBase) -> PairExample | KtoExample | None:
    """Of two answers, or of one that is judged."""
    encode = _encode_judged if row.entry.holds == "labels" else _encode_pair
    return encode(row, data, tokenizer)


def _encode_training_text(row: Row, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    return encode_text(text_of(row), tokenizer)


def _encode_whole_text(row: Row, tokenizer: PreTrainedTokenizerBase) -> Example:
    eos: Any = tokenizer.eos_token_id
    ids = [*encode_text(text_of(row), tokenizer), eos]
    return Example(ids, ids)


def _encode_measured_text(numbered: tuple[int, Row], tokenizer: PreTrainedTokenizerBase, cutoff_len: int) -> list[Example]:
    document, row = numbered
    return encode_document(text_of(row), tokenizer, cutoff_len, document)


def _encode_blocks(rows: Iterator[Row], tokenizer: PreTrainedTokenizerBase, cutoff_len: int) -> Iterator[Example]:
    texts = map(partial(_encode_training_text, tokenizer=tokenizer), rows)
    return stream_blocks(texts, tokenizer.eos_token_id, cutoff_len)


AnyExample = TypeVar("AnyExample")


def _refuse_nothing_to_train(examples: Sequence[object], wanted: Wanted) -> None:
    if wanted.reads_training:
        _refuse_empty(examples, "train on", wanted.data)


def _trained(parts: _Parts, wanted: Wanted, encode: Callable[[Row], AnyExample | None]) -> list[AnyExample]:
    """The training rows as examples, without those that are dropped."""
    train = _not_dropped(map_in_processes(encode, parts.train, wanted.data.preprocessing_num_workers))
    _refuse_nothing_to_train(train, wanted)
    return train


def _not_dropped(examples: list[AnyExample | None]) -> list[AnyExample]:
    return [example for example in examples if example is not None]


def _refuse_empty(examples: Sequence[object], purpose: str, data: DataArguments) -> None:
    if examples:
        return
    why = f": every row is longer than cutoff_len {data.cutoff_len}" if data.overlength == "drop" else ""
    raise JobFailure(Reason.BAD_DATA, f"No rows are left to {purpose}{why}.")
