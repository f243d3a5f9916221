"""The docs' table has the attacks that there are. `make attack` writes it."""

import re
from collections import Counter
from dataclasses import replace

import pytest

from tests.attacks import table


def test_the_page_has_a_row_for_each_file_of_attacks_as_it_says_of_itself():
    rows = table.read(table.PAGE.read_text(encoding="utf-8"))
    expected = {module: replace(family, found=()) for module, family in table.families()}
    assert {row.module: row.family for row in rows} == expected
    assert all(row.tests > 0 and row.requests > 0 and row.answers for row in rows)


def test_every_file_of_attacks_is_a_family():
    named = {module for module, _ in table.families()}
    assert named == {file.stem for file in table.FOLDER.glob("test_*.py")} - {"test_table"}
    names = [family.name for _, family in table.families()]
    assert len(names) == len(set(names))


def test_the_page_says_all_that_was_found_and_nothing_else():
    between = table.PAGE.read_text(encoding="utf-8").partition(table.BEGIN)[2].partition(table.END)[0]
    told = [line.removeprefix("- ") for line in between.splitlines() if line.startswith("- ")]
    assert told == [found for _, family in table.families() for found in family.found]


def test_no_answer_to_an_attack_was_a_fault_of_the_service_s():
    for row in table.read(table.PAGE.read_text(encoding="utf-8")):
        assert not re.search(r"\b5\d\d ×", row.answers), row


class Collected:
    """How many tests each file of attacks has, long ones among them."""

    def __init__(self):
        self.by_module = Counter()

    def pytest_collection_modifyitems(self, items):
        self.by_module.update(item.path.stem for item in items)


def test_the_page_s_counts_are_those_of_the_tests_that_there_are():
    """A test that is added, or taken away, is not in the table until `make attack` has run it."""
    collected = Collected()
    files = [str(file) for file in table.FOLDER.glob("test_*.py") if file.stem != "test_table"]
    quiet = ["--collect-only", "-m", "", "-p", "no:xdist", "-p", "no:cacheprovider"]
    assert pytest.main([*quiet, *files], plugins=[collected]) == 0
    rows = table.read(table.PAGE.read_text(encoding="utf-8"))
    assert {row.module: row.tests for row in rows} == dict(collected.by_module)
    for row in rows:
        answers = [int(number) for number in re.findall(r"× (\d+)", row.answers)]
        assert sum(answers) == row.requests or (len(answers) == 6 and sum(answers) < row.requests), row
