from collections import Counter

import pytest

from worker.data.mixing import mix

NUMBERS, LETTERS = [*range(6)], [*"abc"]


def test_concat_keeps_the_order_of_the_data_sets_and_of_their_rows():
    assert mix([LETTERS, NUMBERS], "concat", None, seed=1) == [*LETTERS, *NUMBERS]


def test_without_probabilities_one_row_of_each_comes_in_turn():
    assert mix([LETTERS, NUMBERS], "interleave_under", None, seed=1) == ["a", 0, "b", 1, "c", 2]
    over = mix([LETTERS, NUMBERS], "interleave_over", None, seed=1)
    assert over == ["a", 0, "b", 1, "c", 2, "a", 3, "b", 4, "c", 5]


@pytest.mark.parametrize("strategy", ["interleave_under", "interleave_over"])
def test_probabilities_decide_how_often_a_data_set_is_drawn(strategy):
    many, more = [*range(3000)], [*range(3000, 6000)]
    mixed = mix([many, more], strategy, [0.25, 0.75], seed=1)
    share = sum(row < 3000 for row in mixed) / len(mixed)
    assert share == pytest.approx(0.25, abs=0.03)


def test_drawing_stops_with_the_first_or_with_the_last_that_is_used_up():
    under = mix([LETTERS, NUMBERS], "interleave_under", [0.5, 0.5], seed=3)
    assert max(Counter(under).values()) == 1
    over = mix([LETTERS, NUMBERS], "interleave_over", [0.5, 0.5], seed=3)
    assert set(over) == {*LETTERS, *NUMBERS}


def test_the_seed_decides_what_is_drawn():
    many, more = [*range(50)], [*range(50, 100)]
    assert mix([many, more], "interleave_under", [0.5, 0.5], 1) == mix([many, more], "interleave_under", [0.5, 0.5], 1)
    assert mix([many, more], "interleave_under", [0.5, 0.5], 1) != mix([many, more], "interleave_under", [0.5, 0.5], 2)


def test_one_data_set_is_what_it_is_whatever_the_strategy():
    assert mix([LETTERS], "interleave_over", None, seed=1) == LETTERS
