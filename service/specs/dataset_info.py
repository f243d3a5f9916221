"""dataset_info.json, in LLaMA-Factory's own format: which data sets there are, and how their rows read."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

# A repository on a hub, "owner/name" or "name": never a path, which the libraries would read in its place.
REPOSITORY = r"^[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)?$"


class DatasetInfoError(ValueError):
    """A dataset_info.json that cannot be used; the message says why."""


class Columns(BaseModel):
    """The names that the data set gives its columns. Those not given have their format's usual names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str | None = None
    query: str | None = None
    response: str | None = None
    history: str | None = None
    messages: str | None = None
    system: str | None = None
    tools: str | None = None
    chosen: str | None = None
    rejected: str | None = None
    kto_tag: str | None = None


class Tags(BaseModel):
    """How a sharegpt conversation names its parts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role_tag: str = "from"
    content_tag: str = "value"
    user_tag: str = "human"
    assistant_tag: str = "gpt"
    observation_tag: str = "observation"
    function_tag: str = "function_call"
    system_tag: str = "system"


class DatasetEntry(BaseModel):
    """One data set: local files, or a repository on a hub."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file_name: str | None = None
    file_sha1: str | None = None
    hf_hub_url: str | None = Field(default=None, pattern=REPOSITORY)
    ms_hub_url: str | None = Field(default=None, pattern=REPOSITORY)
    om_hub_url: str | None = None  # a third hub that files name beside the others, which is not reached
    script_url: str | None = None
    subset: str | None = None
    folder: str | None = None
    formatting: Literal["alpaca", "sharegpt", "openai"] = "alpaca"
    ranking: bool = False
    columns: Columns = Columns()
    tags: Tags = Tags()

    @property
    def is_remote(self) -> bool:
        """Whether it lies on a hub (or is a script); a local file beside that is not read, as in LLaMA-Factory."""
        return bool(self.hf_hub_url or self.ms_hub_url or self.script_url)

    @property
    def holds(self) -> Literal["conversations", "pairs", "labels"]:
        """What a row is: a conversation, one with two ends of which one is chosen, or one with a label."""
        if self.ranking or self.columns.chosen or self.columns.rejected:
            return "pairs"
        return "labels" if self.columns.kto_tag else "conversations"


# Why labelled answers are not learned one by one.
ALONE = (
    "KTO estimates its reference point from the answers that do not belong to a prompt, those of the others in the batch: "
    "per_device_train_batch_size must be at least 2."
)


def why_not_for(stage: str, name: str, entry: DatasetEntry, dpo_loss: str = "sigmoid") -> str | None:
    """Why a stage cannot learn from the data set, or None where it can."""
    if entry.holds == "labels":
        if (stage, dpo_loss) == ("dpo", "kto"):
            return None
        learner = "only the stage dpo with dpo_loss kto learns from that"
        return f"The data set {name!r} labels its answers as good or bad (kto_tag): {learner}."
    if entry.holds == "pairs":
        preferences = stage in ("rm", "dpo")
        return (
            None if preferences else f"The data set {name!r} holds preferences (ranking), for the stages rm and dpo, not {stage}."
        )
    if stage in ("rm", "dpo"):
        return f"The data set {name!r} holds single answers; the stage {stage} needs a chosen and a rejected one (ranking)."
    if stage == "pt" and entry.formatting != "alpaca":
        return f"The data set {name!r} holds conversations ({entry.formatting}); the stage pt learns texts, one column of a row."
    return None


class DatasetInfo(Mapping[str, DatasetEntry]):
    """The data sets of one folder, by name. An entry that cannot be used is a DatasetInfoError once it is asked for: it spoils
    no other.
    """

    def __init__(self, folder: str, document: dict[str, object]):
        self._folder = folder
        self._document = document

    def __getitem__(self, name: str) -> DatasetEntry:
        try:
            return DatasetEntry.model_validate(self._document[name])
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, (name, *first["loc"])))
            sentence = f"dataset_info.json in {self._folder!r} has a bad entry: {place}: {_why_bad(first)}."
            raise DatasetInfoError(sentence) from None

    def __contains__(self, name: object) -> bool:
        return name in self._document

    def __iter__(self) -> Iterator[str]:
        return iter(self._document)

    def __len__(self) -> int:
        return len(self._document)


def read_dataset_info(folder: Path) -> DatasetInfo:
    """`folder`/dataset_info.json. Raises DatasetInfoError."""
    try:
        document = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise DatasetInfoError(f"There is no dataset_info.json in the folder {folder.name!r}.") from None
    except OSError as error:
        raise DatasetInfoError(f"dataset_info.json in {folder.name!r} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise DatasetInfoError(f"dataset_info.json in {folder.name!r} is not valid JSON: {error}.") from None
    if not isinstance(document, dict):
        raise DatasetInfoError(f"dataset_info.json in {folder.name!r} must be an object of data sets by name.")
    return DatasetInfo(folder.name, document)


# Keys of newer LLaMA-Factory files that are not read here, and what to do about them.
_INSTEAD = {
    "split": "the job names the split (data.split)",
    "num_samples": "the job takes the first rows (data.max_samples)",
    "cloud_file_name": "buckets are not reached; put the file into this folder and name it as file_name",
    "images": "only text is learned",
    "videos": "only text is learned",
    "audios": "only text is learned",
}


def _why_bad(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        instead = _INSTEAD.get(str(error["loc"][-1]))
        return "there is no such key here" + (f": {instead}" if instead else "")
    if error["type"] == "string_pattern_mismatch":
        return "this must be the name of a repository, owner/name"
    return str(error["msg"])


# The kinds of file that are read, by extension: the files of a folder are all of one kind.
KINDS = {".arrow": "arrow", ".csv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet", ".txt": "text"}

# What a file of a folder is called whose rows belong to one split, as data sets on hubs have it.
_SPLIT_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}


def files_of(folder: Path, entry: DatasetEntry, split: str = "train") -> list[Path]:
    """The files that hold the rows of an entry's split: one file, or those of a folder in order of name.

    Where every file of a folder is named after a split (train-00000.parquet, test.jsonl), each belongs to its own; where not, all
    are the split train. Raises DatasetInfoError: files of several kinds or of one that is not read, a split that is not there.
    """
    path = folder / (entry.file_name or "")
    if not path.is_dir():
        if split != "train":
            raise DatasetInfoError(f"{entry.file_name} is one file, whose rows are the split train; there is no split {split!r}.")
        _refuse_kinds([path])
        return [path]
    files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    files = _of_split(files, split, entry.file_name or "")
    _refuse_kinds(files)
    return files


def _of_split(files: list[Path], split: str, name: str) -> list[Path]:
    split_of = {file: _split_in(file.stem) for file in files}
    splits = sorted({found for found in split_of.values() if found is not None})
    if None in split_of.values() or not splits:
        splits, split_of = ["train"], dict.fromkeys(files, "train")
    if files and split not in splits:
        raise DatasetInfoError(f"The folder {name} has no files of the split {split!r}; there are: {', '.join(splits)}.")
    return [file for file in files if split_of[file] == split]


def _split_in(stem: str) -> str | None:
    for split, words in _SPLIT_WORDS.items():
        if re.match(rf"({'|'.join(words)})(?![a-z])", stem, re.IGNORECASE):
            return split
    return None


def _refuse_kinds(files: list[Path]) -> None:
    first_of: dict[str, Path] = {}
    for file in files:
        kind = KINDS.get(file.suffix.lower())
        if kind is None:
            raise DatasetInfoError(f"{file.name} has an extension that is not read; these are: {', '.join(KINDS)}.")
        first_of.setdefault(kind, file)
    if len(first_of) > 1:
        named = ", ".join(f"{file.name} ({kind})" for kind, file in first_of.items())
        raise DatasetInfoError(f"The files of a folder must be of one kind, and here are several: {named}.")
