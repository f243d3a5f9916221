"""dataset_info.json, in LLaMA-Factory's own format: which data sets there are, and how their rows read."""

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError


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
    """One data set: a local file (other sources are not read yet)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file_name: str | None = None
    file_sha1: str | None = None
    hf_hub_url: str | None = None
    ms_hub_url: str | None = None
    script_url: str | None = None
    subset: str | None = None
    folder: str | None = None
    formatting: Literal["alpaca", "sharegpt"] = "alpaca"
    ranking: bool = False
    columns: Columns = Columns()
    tags: Tags = Tags()


def read_dataset_info(folder: Path) -> dict[str, DatasetEntry]:
    """Every entry of `folder`/dataset_info.json. Raises DatasetInfoError."""
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
    return {name: _read_entry(folder, name, entry) for name, entry in document.items()}


def _read_entry(folder: Path, name: str, entry: object) -> DatasetEntry:
    try:
        return DatasetEntry.model_validate(entry)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, (name, *first["loc"])))
        raise DatasetInfoError(f"dataset_info.json in {folder.name!r} has a bad entry: {place}: {first['msg']}.") from None


def files_of(folder: Path, entry: DatasetEntry) -> list[Path]:
    """The files that hold an entry's rows: one file, or all of a folder in order of name."""
    path = folder / (entry.file_name or "")
    return sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
