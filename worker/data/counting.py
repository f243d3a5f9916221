"""How many rows a file has, however large it is: `python -m worker.data.counting FILE` prints it, or what is wrong with the file.

Nothing is held but a line, or what the system keeps of a file that is looked at in place.
"""

import mmap
import re
import sys
from pathlib import Path

import pyarrow
import pyarrow.ipc
import pyarrow.parquet

from service.library import datasets
from service.library.errors import LibraryError


def main() -> None:
    [file] = sys.argv[1:]
    try:
        print(rows_of(Path(file)))
    except (LibraryError, OSError, pyarrow.ArrowException) as error:
        sys.exit(str(error))


def rows_of(path: Path) -> int:
    """Raises LibraryError, OSError and ArrowException."""
    count = {".json": _of_json, ".parquet": _of_parquet, ".arrow": _of_arrow}.get(path.suffix.lower(), datasets.count)
    return count(path)


# Texts are passed over whole, since what they hold means nothing.
_MARKS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]', re.DOTALL)


def _of_json(path: Path) -> int:
    """The objects of a list. What else may be wrong with it is for whoever reads it."""
    rows = depth = 0
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as text:
        for found in _MARKS.finditer(text):
            mark = text[found.start()]
            if mark == ord('"'):
                continue
            if mark in b"[{":
                if depth == 0 and mark != ord("["):
                    break
                rows += depth == 1 and mark == ord("{")
                depth += 1
            else:
                depth -= 1
    if depth != 0 or not rows:
        raise LibraryError(f"{path.name} must be a list of objects, and whole.")
    return rows


def _of_parquet(path: Path) -> int:
    return int(pyarrow.parquet.ParquetFile(path).metadata.num_rows)


def _of_arrow(path: Path) -> int:
    """Of a file as of a stream."""
    with pyarrow.memory_map(str(path)) as source:
        try:
            opened = pyarrow.ipc.open_file(source)
            return sum(opened.get_batch(number).num_rows for number in range(opened.num_record_batches))
        except pyarrow.ArrowInvalid:
            source.seek(0)
            return sum(batch.num_rows for batch in pyarrow.ipc.open_stream(source))


if __name__ == "__main__":
    main()
