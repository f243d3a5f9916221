"""What is wrong with the rows of a data set, by file, row and column: by the same reading as a job's, but to the end.

Files of lines, of JSON and of CSV are read here; columnar ones need a library that only a worker has.
"""

import csv
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from service.library.errors import LibraryError
from service.library.formats import conversation_of, labelled_of, pair_of, text_of
from service.library.rows import Row
from service.specs.dataset_info import DatasetEntry
from service.specs.failures import JobFailure

READ = (".csv", ".json", ".jsonl", ".txt")


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong. What is None is not known, or not to blame."""

    file: str
    row: int | None
    column: str | None  # of the data set
    line: int | None
    detail: str


@dataclass(frozen=True)
class Validation:
    """How many rows were read, and what is wrong with them; `is_whole` unless there was too much."""

    rows: int
    faults: list[Fault]
    is_whole: bool


def validate(files: list[Path], entry: DatasetEntry, most: int) -> Validation:
    """Every row, until `most` faults are found. Raises LibraryError for a kind of file that is not read here."""
    rows, faults = 0, []
    for path in files:
        for found in _looked_at(path, entry):
            if isinstance(found, Fault):
                faults.append(found)
            else:
                rows += 1
            if len(faults) >= most:
                return Validation(rows, faults, is_whole=False)
    return Validation(rows, faults, is_whole=True)


def first_rows(files: list[Path], entry: DatasetEntry, most: int) -> list[Row]:
    """The first that can be read, good or bad. Raises LibraryError as `validate` does."""
    looked_at = (found for path in files for found in _looked_at(path, entry))
    return list(islice((found for found in looked_at if isinstance(found, Row)), most))


def _looked_at(path: Path, entry: DatasetEntry) -> Iterator[Row | Fault]:
    """Each row, and after it what is wrong with it."""
    kind = path.suffix.lower()
    if kind not in READ:
        raise LibraryError(f"{path.name} is read by workers only: POST /datasets/.../inspect has one look at it.")
    reader = {".csv": _csv, ".json": _json}.get(kind, _lines)
    learn, number = _learned(entry), 0
    for found in reader(path):
        if isinstance(found, Fault):
            yield found
            continue
        number, values = found
        if not isinstance(values, dict):
            yield Fault(path.name, number, None, None, "A row must be an object.")
            continue
        row = Row(values, path.name, number, entry)
        yield row
        try:
            learn(row)
        except JobFailure as failure:
            yield Fault(path.name, number, failure.where.get("column"), None, _detail(failure, number, path.name))
    if not number:
        yield Fault(path.name, None, None, None, "It holds no rows.")


def _learned(entry: DatasetEntry) -> Callable[[Row], object]:
    """How a row of it is read to be learned."""
    if entry.holds == "pairs":
        return pair_of
    if entry.holds == "labels":
        return labelled_of
    is_text = entry.formatting == "alpaca" and entry.columns.prompt == "text" and entry.columns.response is None
    return text_of if is_text else conversation_of


def _detail(failure: JobFailure, number: int, file: str) -> str:
    """Without the place, which stands beside it."""
    plain = failure.sentence.removeprefix(f"{file}, row {number}: ")
    return plain[:1].upper() + plain[1:]


Numbered = tuple[int, Any]


def _lines(path: Path) -> Iterator[Numbered | Fault]:
    """A line that cannot be read spoils no other."""
    is_text = path.suffix.lower() == ".txt"
    with path.open("rb") as stream:
        for number, raw in enumerate(stream, 1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                if line.strip():
                    yield number, {"text": line} if is_text else _read(line)
            except UnicodeDecodeError as error:
                yield Fault(path.name, number, None, number, f"It is not UTF-8: it holds the byte 0x{raw[error.start]:02x}.")
            except json.JSONDecodeError as error:
                yield Fault(path.name, number, None, number, f"It is not valid JSON: {error.msg} at column {error.colno}.")
            except (RecursionError, ValueError) as error:
                yield Fault(path.name, number, None, number, f"It cannot be read as JSON: {error}.")


def _read(line: str) -> Any:
    """By orjson, which is quick; what it refuses and the worker's reader does not is read as that does."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return json.loads(line)


def _json(path: Path) -> Iterator[Numbered | Fault]:
    try:
        rows = json.loads(path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        yield Fault(path.name, None, None, line, f"It is not UTF-8: it holds the byte 0x{error.object[error.start]:02x}.")
    except json.JSONDecodeError as error:
        hint = " If it holds one object a line, its name should end in .jsonl." if error.msg == "Extra data" else ""
        yield Fault(path.name, None, None, error.lineno, f"It is not valid JSON: {error.msg} at column {error.colno}.{hint}")
    except (RecursionError, ValueError) as error:
        yield Fault(path.name, None, None, None, f"It cannot be read as JSON: {error}.")
    else:
        if not isinstance(rows, list):
            yield Fault(path.name, None, None, None, "It must be a list of objects.")
        else:
            yield from enumerate(rows, 1)


def _csv(path: Path) -> Iterator[Numbered | Fault]:
    csv.field_size_limit(sys.maxsize)
    number = 0
    with path.open(encoding="utf-8-sig", newline="") as stream:
        lines = csv.reader(stream, strict=True)
        header: list[str] | None = None
        try:
            for cells in filter(None, lines):
                if header is None:
                    header = cells
                    if len(set(cells)) < len(cells):
                        yield Fault(path.name, None, None, 1, "Several of its columns have one name.")
                    continue
                number += 1
                if len(cells) == len(header):
                    yield number, dict(zip(header, cells, strict=True))
                else:
                    sentence = f"It has {len(cells)} cells, and there are {len(header)} columns."
                    yield Fault(path.name, number, None, lines.line_num, sentence)
        except csv.Error as error:
            yield Fault(path.name, number + 1, None, lines.line_num, f"It is not valid CSV: {error}.")
        except UnicodeDecodeError as error:
            byte = f"0x{error.object[error.start]:02x}"
            yield Fault(path.name, number + 1, None, None, f"It is not UTF-8: it holds the byte {byte}.")
