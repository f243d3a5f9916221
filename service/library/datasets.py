"""The data sets in the operator's folder, as dataset_info.json lists them, and how many rows they hold."""

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from service.library.errors import LibraryError
from service.specs.dataset_info import DatasetEntry, DatasetInfoError, files_of, read_dataset_info
from service.specs.roots import OutsideRoot, inside

# The kinds of file that are read, by extension; the worker's `data/files.py` reads them, and a test keeps the two lists equal.
EXTENSIONS = (".json", ".jsonl", ".txt")

# Counting reads the whole file (a .json file is held in memory for it); larger ones are left to the worker.
LARGEST_JSON = 64_000_000
LARGEST_LINES = 1_000_000_000


def entries(root: Path, folder: str) -> "Known":
    """The data sets that the folder's dataset_info.json lists. Raises LibraryError."""
    try:
        path = inside(root, folder)
        if not path.is_dir():
            raise LibraryError(f"There is no folder {folder!r} among the data sets.")
        return Known(path, read_dataset_info(path))
    except (OutsideRoot, DatasetInfoError) as error:
        raise LibraryError(str(error)) from None


class Known:
    """The data sets of one folder, by name."""

    def __init__(self, folder: Path, by_name: dict[str, DatasetEntry]):
        self.folder = folder
        self.by_name = by_name


def find(known: Known, name: str, stage: str) -> list[Path]:
    """The files of a data set that a step of that stage can read. Raises LibraryError."""
    entry = known.by_name.get(name)
    if entry is None:
        raise LibraryError(
            f"There is no data set {name!r} in dataset_info.json; there are: {', '.join(known.by_name) or 'none'}."
        )
    _refuse_not_built(name, entry)
    files = _files(known.folder, name, entry)
    for path in files:
        _refuse_unreadable(path, name, entry, stage)
    return files


def rows(files: list[Path], at_most: int | None) -> int | None:
    """How many rows there are, or `at_most`; None where a file is too large to be counted here. Raises LibraryError."""
    total = 0
    for path in files:
        stat = path.stat()
        if stat.st_size > (LARGEST_JSON if path.suffix.lower() == ".json" else LARGEST_LINES):
            return None
        total += _rows(path, stat.st_mtime_ns, stat.st_size)
    return total if at_most is None else min(total, at_most)


def _refuse_not_built(name: str, entry: DatasetEntry) -> None:
    if not entry.file_name:
        raise LibraryError(f"The data set {name!r} is not a local file; hubs and scripts are not built yet.")
    if entry.formatting != "alpaca":
        raise LibraryError(f"The data set {name!r} has the format {entry.formatting}, which is not built yet; alpaca is.")
    if entry.ranking:
        raise LibraryError(f"The data set {name!r} holds preferences (ranking), for the stages rm and dpo: not built yet.")


def _files(folder: Path, name: str, entry: DatasetEntry) -> list[Path]:
    try:
        inside(folder, entry.file_name or "")
        found = files_of(folder, entry)
        for path in found:
            inside(folder, str(path.relative_to(folder)))
    except (OutsideRoot, ValueError) as error:
        raise LibraryError(f"The data set {name!r} has a bad file_name: {error}") from None
    if not found:
        raise LibraryError(f"The folder {entry.file_name} of the data set {name!r} holds no files.")
    return found


def _refuse_unreadable(path: Path, name: str, entry: DatasetEntry, stage: str) -> None:
    if not path.is_file():
        raise LibraryError(f"The file {path.name} of the data set {name!r} is not there.")
    if path.suffix.lower() not in EXTENSIONS:
        raise LibraryError(f"{path.name} has an extension that is not read; these are: {', '.join(EXTENSIONS)}.")
    if _is_empty(path):
        raise LibraryError(f"{path.name} of the data set {name!r} holds no rows.")
    if path.suffix.lower() == ".txt":
        _refuse_lines(path, name, entry, stage)


def _refuse_lines(path: Path, name: str, entry: DatasetEntry, stage: str) -> None:
    """A line of a text file is a row with one column, `text`."""
    columns = entry.columns
    if stage != "pt" and columns.response != "text":
        raise LibraryError(
            f"{path.name} of the data set {name!r} has lines of text, without answers: only the stage pt learns it."
        )
    if columns.model_fields_set and columns.prompt != "text":
        raise LibraryError(f"A line of {path.name} is the column text: the data set {name!r} must have the columns prompt: text.")


def _is_empty(path: Path) -> bool:
    size = path.stat().st_size
    return size == 0 or (size < 4096 and path.read_bytes().removeprefix(b"\xef\xbb\xbf").strip() in (b"", b"[]"))


@lru_cache(maxsize=1024)
def _rows(path: Path, mtime_ns: int, size: int) -> int:
    """The rows of one file. Time and size are for the cache: a file that changed is counted again."""
    number = _json_rows(path) if path.suffix.lower() == ".json" else sum(1 for _ in _lines(path))
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


def _lines(path: Path) -> Iterator[str]:
    """The lines that are not blank; only \\n and \\r\\n end one."""
    with path.open("rb") as stream:
        for number, raw in enumerate(stream, 1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise _not_utf8(path, error, number) from None
            if line.strip():
                yield line


def _not_utf8(path: Path, error: UnicodeDecodeError, line: int | None = None) -> LibraryError:
    number = line or error.object.count(b"\n", 0, error.start) + 1
    return LibraryError(f"{path.name} is not UTF-8: line {number} holds the byte 0x{error.object[error.start]:02x}.")
