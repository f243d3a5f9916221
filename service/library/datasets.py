"""The data sets in the operator's folder, as dataset_info.json lists them, and how many rows they hold."""

import csv
import json
import sys
from collections import ChainMap
from collections.abc import Iterator, Mapping, Set
from functools import lru_cache
from pathlib import Path
from typing import Literal

from service.library.errors import LibraryError
from service.library.training_files import Uploaded
from service.specs.dataset_info import DatasetEntry, DatasetInfo, DatasetInfoError, files_of, read_dataset_info, why_not_for
from service.specs.file_names import is_file
from service.specs.finetuning import FinetuningArguments
from service.specs.roots import OutsideRoot, inside

# Where a data set may lie that is no file of the operator's.
Hub = Literal["huggingface", "modelscope"]

# Counting reads the whole file (a .json file is held in memory for it); larger ones are left to the worker.
LARGEST_JSON = 64_000_000
LARGEST_LINES = 1_000_000_000

# Columnar files, with the bytes that each begins and ends with (Arrow's stream has none); a library that is not here counts them.
COLUMNAR = {".arrow": b"", ".parquet": b"PAR1"}


def entries(root: Path, folder: str, uploaded: Mapping[str, Uploaded] | None = None) -> "Known":
    """The data sets that the folder's dataset_info.json lists, and those that were uploaded. Raises LibraryError.

    Whoever names only what was uploaded needs no folder.
    """
    try:
        path = inside(root, folder)
        if not path.is_dir():
            raise LibraryError(f"There is no folder {folder!r} among the data sets.")
        return Known(path, read_dataset_info(path), uploaded or {})
    except (LibraryError, OutsideRoot, DatasetInfoError) as error:
        if uploaded:
            return Known(root, DatasetInfo(folder, {}), uploaded)
        raise LibraryError(str(error)) from None


def is_missing(root: Path, folder: str) -> bool:
    """Whether there could be a folder of that name, and is none."""
    try:
        return not inside(root, folder).is_dir()
    except OutsideRoot:
        return False


def lists(root: Path, folder: str, name: str) -> bool:
    """Whether the folder's dataset_info.json has that name, of an entry that can be used or not."""
    try:
        file = inside(root, folder) / "dataset_info.json"
        stat = file.stat()
    except (OutsideRoot, OSError):
        return False
    return name in _names(file.parent, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=64)
def _names(folder: Path, mtime_ns: int, size: int) -> frozenset[str]:
    """Time and size are for the cache."""
    try:
        return frozenset(read_dataset_info(folder))
    except DatasetInfoError:
        return frozenset()


class Known:
    """The data sets of one folder, and those that were uploaded, by name."""

    def __init__(self, folder: Path, by_name: DatasetInfo, uploaded: Mapping[str, Uploaded]):
        self.folder = folder
        self.uploaded = uploaded
        self.by_name: Mapping[str, DatasetEntry] = by_name
        if uploaded:
            self.by_name = ChainMap({name: one.entry for name, one in uploaded.items()}, by_name)  # type: ignore[arg-type]


def find(known: Known, name: str, finetuning: FinetuningArguments, split: str, hubs: Set[Hub]) -> list[Path]:
    """The files of a data set that a step of that stage and loss can read; none where it was uploaded, or lies on a hub that may
    be reached.

    Raises LibraryError.
    """
    entry = _entry(known, name)
    if why := why_not_for(finetuning.stage, name, entry, finetuning.dpo_loss):
        raise LibraryError(why)
    return _readable(known, name, entry, finetuning.stage, split, hubs)


def corpus(known: Known, name: str, split: str, hubs: Set[Hub]) -> list[Path]:
    """As `find`, of a data set of any kind, of which only the text is read."""
    return _readable(known, name, _entry(known, name), "pt", split, hubs)


def _readable(known: Known, name: str, entry: DatasetEntry, stage: str, split: str, hubs: Set[Hub]) -> list[Path]:
    if name in known.uploaded:
        return []
    if entry.is_remote:
        _refuse_remote(name, entry, hubs)
        return []
    files = _files(known.folder, name, entry, split)
    for path in files:
        _refuse_unreadable(path, name, entry, stage)
    return files


def rows(files: list[Path], at_most: int | None) -> int | None:
    """How many rows there are, or `at_most`; None where `why_not_counted` says why. Raises LibraryError."""
    if why_not_counted(files):
        return None
    total = 0
    for path in files:
        stat = path.stat()
        total += _rows(path, stat.st_mtime_ns, stat.st_size)
    return total if at_most is None else min(total, at_most)


def why_not_counted(files: list[Path]) -> str | None:
    """Why the rows of a data set are not known here."""
    if not files:
        return "The rows of a data set on a hub are known to the worker that fetches them."
    for path in files:
        kind = path.suffix.lower()
        if kind in COLUMNAR:
            return f"The rows of {kind} files are counted by the worker."
        if path.stat().st_size > (LARGEST_JSON if kind == ".json" else LARGEST_LINES):
            return "The files are too large to be counted here; the worker counts them."
    return None


def _entry(known: Known, name: str) -> DatasetEntry:
    if is_file(name) and name not in known.by_name:
        raise LibraryError(f"There is no uploaded file {name!r} to train on: no such file, or its purpose is not fine-tune.")
    if name not in known.by_name:
        raise LibraryError(
            f"There is no data set {name!r} in dataset_info.json; there are: {', '.join(known.by_name) or 'none'}."
        )
    try:
        return known.by_name[name]
    except DatasetInfoError as error:
        raise LibraryError(str(error)) from None


def _refuse_remote(name: str, entry: DatasetEntry, hubs: Set[Hub]) -> None:
    if entry.script_url:
        raise LibraryError(f"The data set {name!r} is a script (script_url), which would run its code: scripts are not run.")
    if not hubs:
        raise LibraryError(f"The data set {name!r} is on a hub, which is reached only where the operator sets FINEBITS_HUB=1.")
    if not entry.hf_hub_url and "modelscope" not in hubs:
        raise LibraryError(f"The data set {name!r} is on ModelScope only, which is reached where USE_MODELSCOPE_HUB=1 is set.")


def _files(folder: Path, name: str, entry: DatasetEntry, split: str) -> list[Path]:
    if not entry.file_name:
        raise LibraryError(f"The data set {name!r} has neither a file_name nor a hf_hub_url or ms_hub_url.")
    try:
        inside(folder, entry.file_name)
        found = files_of(folder, entry, split)
        for path in found:
            inside(folder, str(path.relative_to(folder)))
    except DatasetInfoError as error:
        argument = "data.split" if split != "train" else None
        raise LibraryError(f"The data set {name!r} cannot be read: {error}", argument) from None
    except (OutsideRoot, ValueError) as error:
        raise LibraryError(f"The data set {name!r} has a bad file_name: {error}") from None
    if not found:
        raise LibraryError(f"The folder {entry.file_name} of the data set {name!r} holds no files.")
    return found


def _refuse_unreadable(path: Path, name: str, entry: DatasetEntry, stage: str) -> None:
    if not path.is_file():
        raise LibraryError(f"The file {path.name} of the data set {name!r} is not there.")
    if _is_empty(path):
        raise LibraryError(f"{path.name} of the data set {name!r} holds no rows.")
    if path.suffix.lower() == ".txt":
        _refuse_lines(path, name, entry, stage)
    if mark := COLUMNAR.get(path.suffix.lower()):
        _refuse_unmarked(path, name, mark)


def _refuse_lines(path: Path, name: str, entry: DatasetEntry, stage: str) -> None:
    """A line of a text file is a row with one column, `text`."""
    columns = entry.columns
    if entry.formatting != "alpaca" or (stage != "pt" and columns.response != "text"):
        raise LibraryError(
            f"{path.name} of the data set {name!r} has lines of text, without answers: only the stage pt learns it."
        )
    if columns.model_fields_set and columns.prompt != "text":
        raise LibraryError(f"A line of {path.name} is the column text: the data set {name!r} must have the columns prompt: text.")


def _refuse_unmarked(path: Path, name: str, mark: bytes) -> None:
    with path.open("rb") as stream:
        begins = stream.read(len(mark))
        stream.seek(-len(mark), 2)
        ends = stream.read()
    if begins != mark or ends != mark or path.stat().st_size < 3 * len(mark):
        raise LibraryError(f"{path.name} of the data set {name!r} is no Parquet file, or a part of one only.")


def _is_empty(path: Path) -> bool:
    size = path.stat().st_size
    return size == 0 or (size < 4096 and path.read_bytes().removeprefix(b"\xef\xbb\xbf").strip() in (b"", b"[]"))


@lru_cache(maxsize=1024)
def _rows(path: Path, mtime_ns: int, size: int) -> int:
    """The rows of one file. Time and size are for the cache: a file that changed is counted again."""
    return count(path)


def count(path: Path) -> int:
    """Of a file that is not columnar, by its extension; of .json all of it is held. Raises LibraryError."""
    rows = {".json": _json_rows, ".csv": _csv_rows}.get(path.suffix.lower(), _line_rows)
    number = rows(path)
    if number == 0:
        raise LibraryError(f"{path.name} holds no rows.")
    return number


def _json_rows(path: Path) -> int:
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error) from None
    except json.JSONDecodeError as error:
        raise LibraryError(f"{path.name} is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}.") from None
    except (ValueError, RecursionError):
        raise LibraryError(f"{path.name} cannot be read as JSON.") from None
    if not isinstance(document, list):
        raise LibraryError(f"{path.name} must be a list of objects.")
    return len(document)


def _csv_rows(path: Path) -> int:
    """Without the line of column names."""
    csv.field_size_limit(sys.maxsize)
    rows = csv.reader(_lines(path), strict=True)
    try:
        return max(sum(1 for cells in rows if cells) - 1, 0)
    except csv.Error as error:
        raise LibraryError(f"{path.name} is not valid CSV: {error}, at line {rows.line_num}.") from None


def _line_rows(path: Path) -> int:
    return sum(1 for line in _lines(path) if line.strip())


def _lines(path: Path) -> Iterator[str]:
    """Only \\n and \\r\\n end a line."""
    with path.open("rb") as stream:
        for number, raw in enumerate(stream, 1):
            try:
                yield raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise _not_utf8(path, error, number) from None


def _not_utf8(path: Path, error: UnicodeDecodeError, line: int | None = None) -> LibraryError:
    number = line or error.object.count(b"\n", 0, error.start) + 1
    return LibraryError(f"{path.name} is not UTF-8: line {number} holds the byte 0x{error.object[error.start]:02x}.")
