"""What is written from code must be what the code says."""

from docs import generate_measures, generate_settings


def test_the_page_of_measures_is_the_one_that_the_registry_gives() -> None:
    """To write it again: python -m docs.generate_measures"""
    assert generate_measures.PAGE.read_text(encoding="utf-8") == generate_measures.page()


def test_the_page_of_settings_is_the_one_that_the_settings_give() -> None:
    """To write it again: python -m docs.generate_settings"""
    assert generate_settings.PAGE.read_text(encoding="utf-8") == generate_settings.page()
