"""What is written from code must be what the code says."""

from pathlib import Path

import pytest

from docs import generate_cli, generate_client, generate_measures, generate_settings


def test_the_page_of_measures_is_the_one_that_the_registry_gives() -> None:
    """To write it again: python -m docs.generate_measures"""
    assert generate_measures.PAGE.read_text(encoding="utf-8") == generate_measures.page()


def test_the_page_of_settings_is_the_one_that_the_settings_give() -> None:
    """To write it again: python -m docs.generate_settings"""
    assert generate_settings.PAGE.read_text(encoding="utf-8") == generate_settings.page()


def test_the_page_of_the_command_line_is_the_one_that_the_commands_give() -> None:
    """To write it again: python -m docs.generate_cli"""
    assert generate_cli.PAGE.read_text(encoding="utf-8") == generate_cli.page()


@pytest.mark.parametrize("file", generate_client.files(), ids=lambda file: file.name)
def test_a_file_of_the_client_is_what_it_is_made_from_gives(file: Path) -> None:
    """To write them again: python -m docs.generate_client"""
    assert file.read_text(encoding="utf-8") == generate_client.written()[file]


def test_every_part_of_the_client_that_waits_is_written() -> None:
    parts = {"__init__.py", *(f"{part}.py" for part in generate_client.PARTS)}
    for folder in ("asynchronous", "synchronous"):
        assert {file.name for file in (generate_client.CLIENTS / folder).glob("*.py")} == parts


def test_the_client_has_a_type_for_all_that_our_own_door_answers() -> None:
    items = {name for name in generate_client.answered() if not name.endswith(("Page", "List"))}
    assert items - generate_client.NAMES.keys() == {"Alive", "Catalogue", "Ready"}
