"""The docs' table of attacks: written from what the files of attacks say of themselves and what came of them."""

import importlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.attacks.family import Family, Record

FOLDER = Path(__file__).parent
PAGE = FOLDER.parents[1] / "docs" / "explanation" / "security.md"
BEGIN, END = "<!-- attacks: written by `make attack` -->", "<!-- attacks: end -->"


@dataclass(frozen=True)
class Row:
    module: str
    family: Family
    tests: int
    requests: int
    answers: str

    @classmethod
    def of(cls, module: str, family: Family, tests: int, record: Record | None) -> "Row":
        record = record or Record()
        answers = ", ".join(f"{answer} × {n}" for answer, n in record.answers.most_common(6))
        return cls(module, family, tests, record.requests, answers)


def families() -> Iterator[tuple[str, Family]]:
    """Each file's, by its name."""
    for file in sorted(FOLDER.glob("test_*.py")):
        family = getattr(importlib.import_module(f"tests.attacks.{file.stem}"), "FAMILY", None)
        if family is not None:
            yield file.stem, family


def written(rows: Sequence[Row]) -> str:
    lines = [
        "| attack | what was tried | what is promised | tests | tries | what came of it |",
        "|---|---|---|---|---|---|",
        *(
            f"| {row.family.name} (`{row.module}.py`) | {row.family.tried} | {row.family.promise} | {row.tests} | {row.requests} "
            f"| {row.answers} |"
            for row in rows
        ),
        "",
        "What they found, each closed at its root, with the attack kept as a test:",
        "",
        *(f"- {found}" for row in rows for found in row.family.found),
    ]
    return "\n".join(lines)


def put_into(page: str, text: str) -> str:
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}"


def read(page: str) -> list[Row]:
    """The rows as they stand in the page. Families have what is in the table, and nothing that was found."""
    between = page.partition(BEGIN)[2].partition(END)[0]
    rows = []
    for line in between.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        named = re.fullmatch(r"(.*) \(`(\w+)\.py`\)", cells[0])
        if named is not None:
            name, tried, promise, tests, tries, answers = (named[1], *cells[1:])
            rows.append(Row(named[2], Family(name, tried, promise), int(tests), int(tries), answers))
    return rows
