"""`make attack`: tries everything in this folder, and says what was tried, how often, and what came of it.

The table is printed, and written into docs/explanation/security.md, when every attack was withstood. Of files that are named
(`make attack OPTIONS="test_keys.py test_ssrf.py"`) the rows are written anew, and the others stay as they are.
"""

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.attacks import table
from tests.attacks.family import RECORDS

FOLDER = Path(__file__).parent


class Counting:
    """How many tests of each file were run."""

    def __init__(self) -> None:
        self.ran: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" and report.passed:
            self.ran[Path(report.location[0]).stem] += 1


def main() -> int:
    # by their files' names: to import them before pytest does would spoil its own look at what they import
    named = [Path(one).stem for one in sys.argv[1:]] or [
        file.stem for file in sorted(FOLDER.glob("test_*.py")) if file.stem != "test_table"
    ]
    counting = Counting()
    files = [str(FOLDER / f"{module}.py") for module in named]
    failed = pytest.main(["-m", "", "-p", "no:xdist", *files], plugins=[counting])
    if failed:
        return int(failed)
    before = {row.module: row for row in table.read(table.PAGE.read_text(encoding="utf-8"))}
    rows = [
        table.Row.of(module, family, counting.ran[module], RECORDS.get(family.name))
        if module in named
        else replace(before[module], family=family)
        for module, family in table.families()
        if module in named or module in before
    ]
    text = table.written(rows)
    table.PAGE.write_text(table.put_into(table.PAGE.read_text(encoding="utf-8"), text), encoding="utf-8")
    print(f"\n{text}\n\n{table.PAGE}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
