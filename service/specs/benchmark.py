"""A benchmark of multiple-choice questions as it lies in a folder: mapping.json, and csv files for each subject.

    mapping.json                {subject: {"name": ..., "category": ...}}
    dev/<subject>_dev.csv       what is shown as examples
    val/<subject>_val.csv       questions
    test/<subject>_test.csv     questions, which may be without answers

The last three may lie in an archive beside the mapping (service/specs/benchmark_files.py). The csv files are those of MMLU (no
line of column names: question, A, B, C, D, answer), C-Eval and CMMLU (with one, in any case, and with an id and an explanation
or not). The service reads them when a job comes, and the worker when it asks.
"""

import csv
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from service.specs.benchmark_files import PLACES, BenchmarkError, File, Files, Split, files_of

LETTERS = ("A", "B", "C", "D")
CATEGORIES = ("STEM", "Social Sciences", "Humanities", "Other")

# Columns that files have beside a question's own, and that say nothing of it: of numbers, and of why an answer is right.
_PASSED_OVER = ("", "id", "explanation")
_COLUMNS = ("question", *LETTERS, "answer")
_SUBJECT = re.compile(r"[A-Za-z0-9][\w.-]{0,49}", re.ASCII)


@dataclass(frozen=True)
class Subject:
    """What the mapping says of one."""

    key: str
    name: str  # as a prompt has it
    category: str


@dataclass(frozen=True)
class Question:
    """`row` counts a file's questions from 1; `answer` is None in a test that keeps its answers."""

    row: int
    text: str
    choices: tuple[str, str, str, str]
    answer: str | None


@dataclass(frozen=True)
class Benchmark:
    """The subjects in the mapping's order, each with a file of the split that is asked."""

    files: Files
    subjects: tuple[Subject, ...]
    split: Split

    def questions(self, subject: Subject) -> tuple[Question, ...]:
        """Those that are asked, all with answers. Raises BenchmarkError."""
        return _all_answered(self.files, subject.key, self.split)

    def examples(self, subject: Subject) -> tuple[Question, ...]:
        """What may be shown before them. Raises BenchmarkError."""
        return _all_answered(self.files, subject.key, "dev")


def open_benchmark(folder: Path, split: Literal["validation", "test"] | None, with_examples: bool) -> Benchmark:
    """With the split that is asked for, or test, or validation where test has no answers. Every file has been read.

    Raises BenchmarkError for the first thing that is wrong; OSError.
    """
    subjects = _mapping(folder)
    files = files_of(folder)
    _refuse_strangers(files, subjects)
    benchmark = Benchmark(files, subjects, split or _answered_split(files, subjects))
    for subject in subjects:
        benchmark.questions(subject)
        if with_examples:
            benchmark.examples(subject)
    return benchmark


def read_questions(file: File) -> tuple[Question, ...]:
    """A file's questions, kept while it does not change. Raises BenchmarkError, OSError."""
    return _read(file, file.version)


def _mapping(folder: Path) -> tuple[Subject, ...]:
    file = folder / "mapping.json"
    if not file.is_file():
        raise BenchmarkError("There is no mapping.json in the task's folder: {subject: {name, category}}.", file="mapping.json")
    try:
        document = json.loads(file.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise BenchmarkError(f"mapping.json is not valid JSON: {error}.", file="mapping.json") from None
    if not isinstance(document, dict) or not document:
        raise BenchmarkError("mapping.json names no subjects: {subject: {name, category}}.", file="mapping.json")
    return tuple(_subject(key, told) for key, told in document.items())


def _subject(key: str, told: Any) -> Subject:
    if not _SUBJECT.fullmatch(key) or key in CATEGORIES:
        why = "letters, digits, dots, dashes and underscores, 50 at most"
        raise BenchmarkError(f"mapping.json has the subject {key!r}, which is no subject's name: {why}, and no category.")
    name, category = (told.get(field) if isinstance(told, dict) else None for field in ("name", "category"))
    if not isinstance(name, str) or not name.strip():
        raise BenchmarkError(f"mapping.json: the subject {key!r} has no name.", file="mapping.json", column="name")
    if category not in CATEGORIES:
        sentence = f"mapping.json: the subject {key!r} has the category {category!r}; there are {', '.join(CATEGORIES)}."
        raise BenchmarkError(sentence, file="mapping.json", column="category")
    return Subject(key, name, category)


def _refuse_strangers(files: Files, subjects: tuple[Subject, ...]) -> None:
    for split, file in files.strangers({subject.key for subject in subjects}):
        named = f"a file of {split} is named <subject>{PLACES[split][1]}.csv, or <subject>.csv"
        raise BenchmarkError(f"{file.name} is of no subject that mapping.json has: {named}.", file=file.name)


def _answered_split(files: Files, subjects: tuple[Subject, ...]) -> Split:
    """test, where each subject has such a file and any answer stands in one."""
    there = [file for subject in subjects if (file := files.of("test", subject.key)) is not None]
    if len(there) < len(subjects):
        return "test" if there else "validation"  # of a test that lacks a file, that is what is said
    return "test" if any(question.answer for file in there for question in read_questions(file)) else "validation"


def _all_answered(files: Files, subject: str, split: Split) -> tuple[Question, ...]:
    file = files.of(split, subject)
    if file is None:
        place, suffix = PLACES[split]
        name = f"{place}/{subject}{suffix}.csv"
        raise BenchmarkError(f"There is no file {name}, which the subject {subject!r} of mapping.json needs.", file=name)
    found = read_questions(file)
    for question in found:
        if question.answer is None:
            why = f"{file.name}, row {question.row} has no answer"
            hint = " (ask for split: validation, if the task's test keeps its answers)" if split == "test" else ""
            raise BenchmarkError(f"{why}{hint}.", file=file.name, row=question.row, column="answer")
    return found


@lru_cache(maxsize=512)
def _read(file: File, version: tuple[int, int]) -> tuple[Question, ...]:
    csv.field_size_limit(sys.maxsize)  # the library's own limit of 128 kB is there for files of strangers
    name = file.name
    try:
        found = tuple(_questions(file.read().decode("utf-8-sig"), name))
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise BenchmarkError(f"{name} is not UTF-8: line {line} holds a byte that no text has.", file=name, line=line) from None
    if not found:
        raise BenchmarkError(f"{name} holds no questions.", file=name)
    return found


def _questions(text: str, name: str) -> Iterator[Question]:
    lines = csv.reader(text.splitlines(keepends=True), strict=True)
    columns: tuple[str, ...] | None = None
    row = 0
    try:
        for cells in lines:
            if not any(cell.strip() for cell in cells):
                continue
            if columns is None:
                columns = _named_columns(cells, name)
                if columns is not None:
                    continue
                columns = _COLUMNS
            row += 1
            yield _question(cells, columns, name, row)
    except csv.Error as error:
        sentence = f"{name}, row {row + 1} is not valid CSV: {error}, at line {lines.line_num}."
        raise BenchmarkError(sentence, file=name, row=row + 1, line=lines.line_num) from None


def _named_columns(cells: list[str], name: str) -> tuple[str, ...] | None:
    """The columns that the first line names, as they are called here; None where it is a question itself."""
    called = tuple(cell.strip().lower() for cell in cells)
    if "question" not in called:
        return None
    columns = tuple(cell.upper() if len(cell) == 1 else cell for cell in called)
    missing = [column for column in _COLUMNS[:-1] if column not in columns]
    if missing:
        raise BenchmarkError(f"{name} has no column {missing[0]}.", file=name, column=missing[0])
    for column in columns:
        if column not in _COLUMNS and column not in _PASSED_OVER:
            raise BenchmarkError(
                f"{name} has a column {column}: a question here has the choices A to D.", file=name, column=column
            )
    twice = [column for column in _COLUMNS if columns.count(column) > 1]
    if twice:
        raise BenchmarkError(f"{name} has several columns {twice[0]}.", file=name, column=twice[0])
    return columns


def _question(cells: list[str], columns: tuple[str, ...], name: str, row: int) -> Question:
    if len(cells) != len(columns):
        sentence = f"{name}, row {row} has {len(cells)} cells, and there are {len(columns)} columns ({', '.join(columns)})."
        if columns == _COLUMNS and len(cells) == len(columns) - 1:
            sentence = f"{sentence[:-1]}: the answer is missing."
        column = "answer" if len(cells) < len(columns) else "E" if len(cells) == len(columns) + 1 else None
        raise BenchmarkError(sentence, file=name, row=row, column=column)
    values = dict(zip(columns, cells, strict=True))
    for column in _COLUMNS[:-1]:
        if not values[column].strip():
            raise BenchmarkError(f"{name}, row {row} has nothing in the column {column}.", file=name, row=row, column=column)
    answer = values.get("answer", "").strip()
    if answer and answer not in LETTERS:
        sentence = f"{name}, row {row} has the answer {answer!r}, which is none of {', '.join(LETTERS)}."
        raise BenchmarkError(sentence, file=name, row=row, column="answer")
    a, b, c, d = (values[letter].strip() for letter in LETTERS)
    return Question(row, values["question"].strip(), (a, b, c, d), answer or None)
