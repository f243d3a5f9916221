import math

import pytest

from service.cli.plot import curve, sparkline


def test_a_line_of_blocks_rises_and_falls_with_its_values() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([7, 0], 8) == "█▁"
    assert sparkline([1, 1, 1], 8) == "▁▁▁"
    assert sparkline([0, 0, 8, 8], 2) == "▁█"
    assert sparkline([math.nan, 1, math.inf, 2], 8) == "▁█"
    assert sparkline([], 8) == sparkline([1], 0) == ""


def dots(line: str) -> int:
    return sum((ord(character) - 0x2800).bit_count() for character in line if 0x2800 <= ord(character) <= 0x28FF)


def test_a_curve_that_falls_begins_above_and_ends_below() -> None:
    lines = curve([1, 2, 3], [9, 5, 1], width=20, height=4)
    assert [len(line) <= 20 for line in lines] == [True] * 6
    assert (lines[0].split(" ┤")[0], lines[3].split(" ┤")[0]) == ("9", "1")
    places = [line.partition("┤")[2] for line in lines[:4]]
    begins = [len(place) - len(place.lstrip()) for place in places]
    assert begins == sorted(begins)
    assert lines[-1].split() == ["1", "3"]


def test_dots_stand_where_the_values_are() -> None:
    # four characters of two dots by four in each of two lines: from the lowest on the left to the highest on the right
    assert [line.partition("┤")[2] for line in curve([0, 7], [0, 7], width=7, height=2)[:2]] == ["  ⡠⠊", "⡠⠊"]
    flat = curve([0, 10], [5, 5], width=20, height=2, y_range=(0, 10))
    assert dots("".join(flat)) == 2 * (20 - len("10") - 2)


@pytest.mark.parametrize("width", [10, 60, 160])
def test_no_line_is_wider_than_it_may_be(width: int) -> None:
    lines = curve(range(1, 5000), [math.sin(step / 100) * 1e-5 for step in range(1, 5000)], width)
    assert max(map(len, lines)) <= max(width, 20)


def test_what_is_not_finite_is_left_out_and_nothing_is_no_plot() -> None:
    assert curve([1, 2, 3], [1, math.nan, 2], 20) == curve([1, 3], [1, 2], 20)
    assert curve([], [], 20) == curve([1], [math.inf], 20) == []
