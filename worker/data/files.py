"""The rows of a data set's local files, each with the place it came from.

Every error names the file as the data set's folder knows it, never the path on this host.
"""

import csv
import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.ipc
import pyarrow.parquet

from service.library.rows import Row, Values
from service.specs.dataset_info import DatasetEntry, DatasetInfoError, files_of
from service.specs.reasons import Reason
from service.specs.roots import OutsideRoot, inside
from worker.failures import JobFailure


def read_rows(folder: Path, name: str, entry: DatasetEntry, split: str = "train") -> Iterator[Row]:
    """The rows of the data set `name`, file by file. Reads no further than it is asked, so later errors may go unseen."""
    if entry.file_name is None:
        raise JobFailure(Reason.BAD_DATA, f"The data set {name!r} has neither a file_name nor a hf_hub_url or ms_hub_url.")
    files = _files(folder, name, entry, split)
    if entry.file_sha1 is not None:
        _check_sha1(files, name, entry.file_sha1)
    root = folder.resolve()
    for path in files:
        file = path.relative_to(root).as_posix()
        for number, values in READERS[path.suffix.lower()](path, file):
            yield Row(values, file, number, entry)


def stamps(folder: Path, name: str, entry: DatasetEntry, split: str) -> list[tuple[str, int, int]]:
    """(name, size, time of the last change) of each file of the data set: enough to notice that one is another."""
    root = folder.resolve()
    stats = [(path.relative_to(root).as_posix(), path.stat()) for path in _files(folder, name, entry, split)]
    return [(file, stat.st_size, stat.st_mtime_ns) for file, stat in stats]


def _files(folder: Path, name: str, entry: DatasetEntry, split: str) -> list[Path]:
    root = folder.resolve()
    try:
        inside(root, entry.file_name or "")
        files = files_of(root, entry, split)
        for path in files:
            inside(root, path.relative_to(root).as_posix())  # a link in a folder may lead out of it
    except DatasetInfoError as error:
        raise JobFailure(Reason.BAD_DATA, str(error), file=entry.file_name) from None
    except (OutsideRoot, ValueError) as error:
        raise JobFailure(Reason.BAD_DATA, f"The data set {name!r} has a bad file_name: {error}", file=entry.file_name) from None
    if not files:
        raise JobFailure(Reason.BAD_DATA, f"The folder {entry.file_name} holds no files.", file=entry.file_name)
    for path in files:
        if not path.is_file():
            raise JobFailure(Reason.MISSING_DATA, f"There is no file {entry.file_name}.", file=entry.file_name)
    return files


def _check_sha1(files: list[Path], name: str, expected: str) -> None:
    if len(files) > 1:
        raise JobFailure(Reason.BAD_DATA, f"The data set {name!r} gives one file_sha1 for a folder of {len(files)} files.")
    with files[0].open("rb") as stream:
        found = hashlib.file_digest(stream, "sha1").hexdigest()
    if found != expected.lower():
        sentence = f"{files[0].name} has the SHA-1 {found}, but dataset_info.json says {expected}: it is another file."
        raise JobFailure(Reason.BAD_DATA, sentence, file=files[0].name)


def _json(path: Path, file: str) -> Iterator[tuple[int, Values]]:
    text = _utf8(path.read_bytes(), file)
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        hint = " If it holds one object a line, its name should end in .jsonl." if error.msg == "Extra data" else ""
        sentence = f"{file} is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}.{hint}"
        raise JobFailure(Reason.BAD_ROW, sentence, file=file, line=error.lineno, column=error.colno) from None
    except (RecursionError, ValueError) as error:
        raise JobFailure(Reason.BAD_DATA, f"{file} cannot be read as JSON: {error}.", file=file) from None
    if not isinstance(rows, list):
        raise JobFailure(Reason.BAD_DATA, f"{file} must be a list of objects, not {_kind(rows)}.", file=file)
    if not rows:
        raise _no_rows(file)
    for number, values in enumerate(rows, 1):
        yield number, _object(values, file, number)


def _jsonl(path: Path, file: str) -> Iterator[tuple[int, Values]]:
    for number, line in _lines(path, file):
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            sentence = f"{file}, row {number} is not valid JSON: {error.msg} at column {error.colno}."
            raise JobFailure(Reason.BAD_ROW, sentence, file=file, row=number, line=number, column=error.colno) from None
        except (RecursionError, ValueError) as error:
            sentence = f"{file}, row {number} cannot be read as JSON: {error}."
            raise JobFailure(Reason.BAD_ROW, sentence, file=file, row=number) from None
        yield number, _object(values, file, number)


def _txt(path: Path, file: str) -> Iterator[tuple[int, Values]]:
    for number, line in _lines(path, file):
        yield number, {"text": line}


def _csv(path: Path, file: str) -> Iterator[tuple[int, Values]]:
    """Every cell is text. Rows are counted without the line of column names, with which a file begins."""
    csv.field_size_limit(sys.maxsize)  # the library's own limit of 128 kB is there for files of strangers
    lines = csv.reader((line for _, line in _decoded(path, file, line_is_row=False)), strict=True)
    header: list[str] | None = None
    number = 0
    try:
        for cells in lines:
            if not cells:
                continue
            if header is None:
                header = _header(cells, file)
                continue
            number += 1
            if len(cells) != len(header):
                sentence = f"{file}, row {number} has {len(cells)} cells, and there are {len(header)} columns."
                raise JobFailure(Reason.BAD_ROW, sentence, file=file, row=number, line=lines.line_num)
            yield number, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        sentence = f"{file}, row {number + 1} is not valid CSV: {error}, at line {lines.line_num}."
        raise JobFailure(Reason.BAD_ROW, sentence, file=file, row=number + 1, line=lines.line_num) from None
    if not number:
        raise _no_rows(file)


def _header(cells: list[str], file: str) -> list[str]:
    twice = sorted({cell for cell in cells if cells.count(cell) > 1})
    if twice:
        raise JobFailure(Reason.BAD_DATA, f"{file} has several columns named {', '.join(map(repr, twice))}.", file=file, line=1)
    return cells


def _parquet(path: Path, file: str) -> Iterator[tuple[int, Values]]:
    try:
        table = pyarrow.parquet.ParquetFile(path, memory_map=True)
        yield from _numbered(table.iter_batches(ROWS_AT_ONCE), file)
    except (pyarrow.ArrowException, OSError) as error:
        raise JobFailure(Reason.BAD_DATA, f"{file} cannot be read as Parquet: {_words(error, path, file)}", file=file) from None


def _arrow(path: Path, file: str) -> Iterator[tuple[int, Values]]:
    """Both of Arrow's formats, the stream that `datasets` saves and the file with a footer; mapped, not read, into memory."""
    try:
        with pyarrow.memory_map(str(path)) as source:
            yield from _numbered(_batches(source), file)
    except (pyarrow.ArrowException, OSError) as error:
        raise JobFailure(Reason.BAD_DATA, f"{file} cannot be read as Arrow: {_words(error, path, file)}", file=file) from None


def _batches(source: pyarrow.MemoryMappedFile) -> Iterator[pyarrow.RecordBatch]:
    try:
        table = pyarrow.ipc.open_file(source)
    except pyarrow.ArrowInvalid:
        source.seek(0)
        yield from pyarrow.ipc.open_stream(source)
        return
    for index in range(table.num_record_batches):
        yield table.get_batch(index)


def _numbered(batches: Iterator[pyarrow.RecordBatch], file: str) -> Iterator[tuple[int, Values]]:
    number = 0
    for batch in batches:
        for start in range(0, len(batch), ROWS_AT_ONCE):
            for values in batch.slice(start, ROWS_AT_ONCE).to_pylist():
                number += 1
                yield number, values
    if not number:
        raise _no_rows(file)


Reader = Callable[[Path, str], Iterator[tuple[int, Values]]]

# How each kind of file is read, by its extension.
READERS: dict[str, Reader] = {
    ".arrow": _arrow,
    ".csv": _csv,
    ".json": _json,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
    ".txt": _txt,
}

# Rows of a columnar file that are held at once as Python's own values, which take many times their room in the file.
ROWS_AT_ONCE = 1024


def _lines(path: Path, file: str) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, numbered as an editor would, without their ends."""
    empty = True
    for number, line in _decoded(path, file):
        line = line.removesuffix("\n").removesuffix("\r")
        if line.strip():
            empty = False
            yield number, line
    if empty:
        raise _no_rows(file)


def _decoded(path: Path, file: str, line_is_row: bool = True) -> Iterator[tuple[int, str]]:
    """Every line with its end. Only \\n and \\r\\n end one: a text may hold U+2028."""
    with path.open("rb") as stream:
        for number, raw in enumerate(stream, 1):
            try:
                yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                where = {"row": number} if line_is_row else {}
                raise _not_utf8(file, number, raw[error.start], **where) from None


def _utf8(raw: bytes, file: str) -> str:
    if not raw.strip():
        raise _no_rows(file)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_utf8(file, error.object.count(b"\n", 0, error.start) + 1, error.object[error.start]) from None


def _not_utf8(file: str, line: int, byte: int, **where: int) -> JobFailure:
    sentence = f"{file} is not UTF-8: line {line} holds the byte 0x{byte:02x}."
    return JobFailure(Reason.BAD_ROW, sentence, file=file, line=line, **where)


def _no_rows(file: str) -> JobFailure:
    return JobFailure(Reason.BAD_DATA, f"{file} holds no rows.", file=file)


def _object(values: Any, file: str, number: int) -> Values:
    if isinstance(values, dict):
        return values
    sentence = f"{file}, row {number} must be an object with the columns as keys, not {_kind(values)}."
    raise JobFailure(Reason.BAD_ROW, sentence, file=file, row=number)


def _kind(value: Any) -> str:
    names = {type(None): "null", bool: "true or false", dict: "an object", list: "a list", str: "a string"}
    return names.get(type(value), "a number")


def _words(error: Exception, path: Path, file: str) -> str:
    """A library's own words, of which the first line says what is wrong, without the path on this host."""
    return f"{str(error).replace(str(path), file).splitlines()[0].rstrip('.')}." if str(error) else "it is damaged."
