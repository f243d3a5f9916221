"""A data set that was sent: what its file is called here, and how its rows read, as its sender says or as its first row tells."""

import csv
import re
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import orjson
from pydantic import ValidationError

from service.library import datasets
from service.library.errors import LibraryError
from service.library.training_files import KINDS
from service.specs.dataset_info import KINDS as FILE_KINDS
from service.specs.dataset_info import DatasetEntry

# Beyond so many bytes the rows are not counted when a file comes: whoever sends it would wait for that. A worker counts them.
COUNTED_BYTES = 64_000_000

# What the first row of a file has, and how such rows read, beside what training_files.py knows.
_MORE_KINDS: tuple[tuple[frozenset[str], dict[str, Any]], ...] = (
    (frozenset(("conversations", "chosen", "rejected")), {"formatting": "sharegpt", "ranking": True}),
    (frozenset(("conversations",)), {"formatting": "sharegpt"}),
    (frozenset(("instruction", "chosen", "rejected")), {"ranking": True}),
    (frozenset(("instruction", "output", "kto_tag")), {"columns": {"kto_tag": "kto_tag"}}),
)


def stored_name(file_name: str) -> str:
    """What the file is called here. Raises LibraryError for a kind that is not read."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", PurePosixPath(file_name.replace("\\", "/")).name).lstrip(".")[-100:]
    if PurePosixPath(plain).suffix.lower() not in FILE_KINDS:
        raise LibraryError(f"{file_name!r} has an extension that is not read; these are: {', '.join(FILE_KINDS)}.")
    return plain


def entry_of(given: dict[str, Any], stored: str) -> DatasetEntry:
    """As its sender says. Raises LibraryError."""
    try:
        entry = DatasetEntry.model_validate({**given, "file_name": stored})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise LibraryError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}.") from None
    if entry.is_remote or entry.file_sha1 or entry.subset or entry.folder or entry.om_hub_url:
        raise LibraryError("Only formatting, ranking, columns and tags are for a file that is sent.")
    return entry


def looked_at(path: Path, stored: str, given: dict[str, Any]) -> tuple[DatasetEntry, int | None]:
    """The entry, and how many rows there are where that is quickly known. Raises LibraryError for a file that holds none.

    What is wrong with rows behind the first is not looked for: /validate does.
    """
    kind = PurePosixPath(stored).suffix.lower()
    if not path.is_file() or path.stat().st_size == 0:
        raise LibraryError(f"{stored} holds no rows.")
    entry = entry_of(given or _told(path, kind), stored)
    if kind in datasets.COLUMNAR or path.stat().st_size > COUNTED_BYTES:
        return entry, None
    named = path.with_name(f"{path.name}{kind}")  # a file's kind is in its name
    path.rename(named)
    try:
        return entry, datasets.rows([named], None)
    except LibraryError as error:
        raise LibraryError(str(error).replace(named.name, stored)) from None
    finally:
        named.rename(path)


def _told(path: Path, kind: str) -> dict[str, Any]:
    """By the first row. Nothing, which is the alpaca format, where it tells nothing."""
    if kind == ".txt":
        return {"columns": {"prompt": "text"}}
    first = _first_row(path, kind)
    for needed, entry in _MORE_KINDS:
        if needed <= first.keys():
            return entry
    return next((one.entry for one in KINDS if one.begins(first)), {})


def _first_row(path: Path, kind: str) -> dict[str, Any]:
    """An empty one where it cannot be read: that is said by whoever counts or validates the rows."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            if kind == ".csv":
                return dict.fromkeys(next(csv.reader(stream), []), "")
            if kind == ".json" and path.stat().st_size <= datasets.LARGEST_JSON:
                rows = orjson.loads(stream.read())
                found = rows[0] if isinstance(rows, list) and rows else {}
            else:
                line = next((line for line in islice(stream, 1000) if line.strip()), "")
                found = orjson.loads(line) if kind == ".jsonl" else {}
    except (ValueError, csv.Error):
        return {}
    return found if isinstance(found, dict) else {}
