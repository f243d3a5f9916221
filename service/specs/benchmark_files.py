"""The csv files of a benchmark's task: in its folder, or in the archive that hubs have of it, which is read and never unpacked.

    <task>/test/<subject>_test.csv                 a folder, with dev/ and val/ beside
    <task>/<task>.zip: [any/]test/<subject>_test.csv   the same in an archive, where the folder holds none of the three

CMMLU's files are called <subject>.csv in each. An archive is a stranger's: nothing in it is believed to be small, or a file.
"""

import stat
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import Any, Literal

Split = Literal["dev", "validation", "test"]

# Where each split lies, and how its files' names end.
PLACES: dict[Split, tuple[str, str]] = {"dev": ("dev", "_dev"), "validation": ("val", "_val"), "test": ("test", "_test")}

# Of an archive, as its files are when they are read: MMLU's come to 8 MB in 171 files, and its longest has 2.
MOST_FILES = 10_000
MOST_FILE_BYTES = 64 * 10**6
MOST_BYTES = 512 * 10**6

_ENCRYPTED = 0x1
_FOLDERS = tuple(folder for folder, _ in PLACES.values())


class BenchmarkError(ValueError):
    """A folder that is no benchmark, or a row that is no question; `where` has file, row and column, as far as they are known."""

    def __init__(self, sentence: str, **where: Any):
        self.where = where
        super().__init__(sentence)


@dataclass(frozen=True)
class File:
    """One file: its name for people, and what of the disk it stands in, which tells whether it has changed."""

    name: str
    path: Path
    member: str | None  # of the archive that `path` is; None where it is the file itself

    @property
    def version(self) -> tuple[int, int]:
        """Raises OSError."""
        found = self.path.stat()
        return found.st_mtime_ns, found.st_size

    def read(self) -> bytes:
        """Raises BenchmarkError, OSError."""
        return self.path.read_bytes() if self.member is None else _member(self.path, self.version, self.member, self.name)


@dataclass(frozen=True)
class Files:
    """What a task's folder holds of its splits."""

    by_split: dict[Split, dict[str, File]]  # by the file's name without .csv

    def of(self, split: Split, subject: str) -> File | None:
        """The subject's file."""
        there = self.by_split[split]
        return there.get(f"{subject}{PLACES[split][1]}") or there.get(subject)

    def strangers(self, subjects: set[str]) -> Iterator[tuple[Split, File]]:
        """Files of subjects that are none of these."""
        for split, files in self.by_split.items():
            for stem, file in sorted(files.items()):
                if stem not in subjects and (stem.removesuffix(PLACES[split][1]) not in subjects):
                    yield split, file


def files_of(folder: Path) -> Files:
    """Raises BenchmarkError of an archive that cannot be read, or should not be; OSError."""
    archive = folder / f"{folder.name}.zip"
    if any((folder / place).is_dir() for place in _FOLDERS) or not _is_in(folder, archive):
        return Files({split: dict(_in_folder(folder, place)) for split, (place, _) in PLACES.items()})
    found = _in_archive(archive, (archive.stat().st_mtime_ns, archive.stat().st_size))
    return Files({split: found[place] for split, (place, _) in PLACES.items()})


def _in_folder(folder: Path, place: str) -> Iterator[tuple[str, File]]:
    for path in sorted((folder / place).glob("*.csv")):
        if _is_in(folder, path):
            yield path.stem, File(f"{place}/{path.name}", path, None)


def _is_in(folder: Path, file: Path) -> bool:
    """Whether there is such a file, and no link that leads out of the folder."""
    return file.is_file() and file.resolve().is_relative_to(folder.resolve())


@lru_cache(maxsize=16)
def _in_archive(archive: Path, version: tuple[int, int]) -> dict[str, dict[str, File]]:
    """By folder and by name. Its list alone is read, and decides whether any of it may be."""
    with _opened(archive) as opened:
        entries = [entry for entry in opened.infolist() if not entry.is_dir() and not entry.filename.startswith("__MACOSX/")]
    _refuse_large(archive, entries)
    found: dict[str, dict[str, File]] = {place: {} for place in _FOLDERS}
    above: set[PurePosixPath] = set()
    for entry in entries:
        path = _inside(archive, entry)
        if path.suffix != ".csv" or path.parent.name not in _FOLDERS:
            continue
        above.add(path.parent.parent)
        found[path.parent.name][path.stem] = File(f"{archive.name}/{path}", archive, entry.filename)
    if len(above) > 1:
        first, second = (f"{folder}/" for folder in sorted(above)[:2])
        raise BenchmarkError(f"{archive.name} holds several tasks, in {first} and in {second}: one is read.", file=archive.name)
    return found


def _refuse_large(archive: Path, entries: list[zipfile.ZipInfo]) -> None:
    """What an entry says it holds is all that is ever read of it, so a bomb shows here."""
    largest = max(entries, key=lambda entry: entry.file_size, default=None)
    if len(entries) > MOST_FILES:
        raise BenchmarkError(f"{archive.name} holds {len(entries)} files, and {MOST_FILES} are the most.", file=archive.name)
    if largest is not None and largest.file_size > MOST_FILE_BYTES:
        sentence = (
            f"{archive.name}/{largest.filename} would be {_mb(largest.file_size)}, and {_mb(MOST_FILE_BYTES)} are the most."
        )
        raise BenchmarkError(sentence, file=archive.name)
    if (total := sum(entry.file_size for entry in entries)) > MOST_BYTES:
        raise BenchmarkError(f"{archive.name} would be {_mb(total)}, and {_mb(MOST_BYTES)} are the most.", file=archive.name)


def _inside(archive: Path, entry: zipfile.ZipInfo) -> PurePosixPath:
    """Where a program that unpacks would put it. Nothing is unpacked here, and still such an archive is none to be trusted."""
    path = PurePosixPath(entry.filename)
    if path.is_absolute() or ".." in path.parts or "\\" in entry.filename or ":" in path.parts[0]:
        sentence = f"{archive.name} holds {entry.filename!r}, which leads out of it: it is not read."
        raise BenchmarkError(sentence, file=archive.name)
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise BenchmarkError(f"{archive.name} holds {entry.filename!r}, which is a link: it is not read.", file=archive.name)
    if entry.flag_bits & _ENCRYPTED:
        raise BenchmarkError(f"{archive.name} is encrypted: unpack it into the task's folder.", file=archive.name)
    return path


def _member(archive: Path, version: tuple[int, int], member: str, name: str) -> bytes:
    with _opened(archive) as opened:
        try:
            return opened.read(member)
        except (zipfile.BadZipFile, zlib.error, LZMAError, EOFError, KeyError, NotImplementedError, OSError) as error:
            raise BenchmarkError(f"{name} is damaged: {error}.", file=name) from None


def _opened(archive: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(archive)
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
        raise BenchmarkError(f"{archive.name} is no zip archive that can be read: {error}.", file=archive.name) from None


def _mb(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:.0f} MB"
