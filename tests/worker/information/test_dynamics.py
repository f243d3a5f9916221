import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.information.dynamics import (
    distinct_words,
    partition_entropy_rates,
    separated_set_sizes,
    topological_entropy,
    transition_graph,
    walk_counts,
    word_growth,
)
from worker.information.processes import markov_entropy_rate

GOLDEN_MEAN = [[1, 1], [1, 0]]
seeds = st.integers(0, 2**32 - 1)


def on_the_circle(x, y):
    return np.minimum(np.abs(x - y), 1 - np.abs(x - y))


def test_words_without_two_ones_in_a_row_grow_like_fibonacci():
    assert walk_counts(GOLDEN_MEAN, 5).tolist() == [2, 3, 5, 8, 13]
    assert topological_entropy(GOLDEN_MEAN) == pytest.approx(math.log2((1 + math.sqrt(5)) / 2))
    assert topological_entropy(GOLDEN_MEAN) == pytest.approx(0.694242, abs=5e-7)


def test_the_full_shift_a_loop_and_a_graph_that_ends():
    assert topological_entropy(np.ones((2, 2))) == pytest.approx(1)
    assert topological_entropy(np.roll(np.eye(5), 1, axis=1)) == pytest.approx(0)
    assert topological_entropy(np.diag(np.ones(5), 1)) == -math.inf


def test_the_largest_component_decides():
    edges = np.zeros((5, 5))
    edges[:2, :2], edges[2:, 2:], edges[0, 2] = GOLDEN_MEAN, np.ones((3, 3)), 1
    assert topological_entropy(edges) == pytest.approx(math.log2(3))


def test_components_in_a_row_have_the_entropy_of_one_to_the_last_digits():
    # the eigenvalue is fourfold and defective: of the whole matrix it is found to 1e-4 only
    edges = np.kron(np.eye(4), GOLDEN_MEAN) + np.kron(np.diag(np.ones(3), 1), [[1, 1], [1, 1]])
    shuffled = np.random.default_rng(0).permutation(8)
    assert topological_entropy(edges[np.ix_(shuffled, shuffled)]) == pytest.approx(math.log2((1 + math.sqrt(5)) / 2), abs=1e-12)


@given(seeds)
@settings(max_examples=50, deadline=None)
def test_walks_are_at_least_as_many_as_the_entropy_says_and_chains_make_no_more(seed):
    rng = np.random.default_rng(seed)
    edges = np.minimum((rng.random((4, 4)) < 0.4) + np.roll(np.eye(4), 1, axis=1), 1)
    entropy = topological_entropy(edges)
    # sub-multiplicative: the infimum of lg N_k / k is the limit
    assert (np.log2(walk_counts(edges, 8)) / np.arange(1, 9) >= entropy - 1e-9).all()
    weights = edges * rng.random((4, 4))
    assert markov_entropy_rate(weights / weights.sum(axis=1, keepdims=True)) <= entropy + 1e-9


def test_a_sample_shows_its_graph_and_its_words():
    rng = np.random.default_rng(0)
    symbols = [0]
    for _ in range(3000):
        symbols.append(0 if symbols[-1] else int(rng.integers(2)))
    assert transition_graph([symbols]).tolist() == GOLDEN_MEAN
    assert distinct_words([symbols], 6).tolist() == [2, 3, 5, 8, 13, 21]
    assert word_growth(distinct_words([symbols], 6))[-1] == pytest.approx(0.694242, abs=0.01)


def test_a_text_that_loops_grows_no_words():
    loop = np.tile([4, 2, 9], 30)
    assert word_growth(distinct_words([loop], 5)).tolist() == [0, 0, 0, 0]
    assert topological_entropy(transition_graph([loop])) == pytest.approx(0)


def test_no_word_crosses_sequences():
    assert distinct_words([[0, 0], [1, 1]], 3).tolist() == [2, 2, 0]
    assert transition_graph([[3, 3], [7, 7]]).tolist() == [[1, 0], [0, 1]]
    with pytest.raises(ValueError, match="finite number of words"):
        word_growth([2, 2, 0])


def test_bowen_the_doubling_map_doubles_its_separated_sets():
    sizes = separated_set_sizes(lambda x: 2 * x % 1, np.arange(2048) / 2048, 0.1, 6, on_the_circle)
    assert sizes[0] == 9  # ten arcs longer than .1 do not fit round the circle
    assert (sizes[-1] / sizes[1]) ** (1 / 4) == pytest.approx(2, abs=0.03)


def test_bowen_a_rotation_does_not():
    sizes = separated_set_sizes(lambda x: (x + 0.618) % 1, np.arange(500) / 500, 0.1, 6, on_the_circle)
    assert len(set(sizes.tolist())) == 1


def test_separated_sets_are_separated_and_grow_with_n():
    points = np.random.default_rng(0).random(300)
    sizes = separated_set_sizes(lambda x: 4 * x * (1 - x), points, 0.2, 5)
    assert (np.diff(sizes) >= 0).all()
    # on a line, .2 apart within 0 to 1
    assert 3 <= sizes[0] <= 5


def test_half_the_interval_is_a_generating_partition_of_the_logistic_map():
    rates = partition_entropy_rates(
        lambda x: 4 * x * (1 - x), np.random.default_rng(0).random(40), lambda x: x > 0.5, steps=1000, longest=5
    )
    assert rates == pytest.approx(np.ones(5), abs=0.01)


def test_a_map_that_repeats_itself_makes_no_bits():
    rates = partition_entropy_rates(lambda x: (x + 0.25) % 1, [0.1], lambda x: x > 0.5, steps=400, longest=4)
    assert rates[-1] == pytest.approx(0, abs=1e-9)


def test_a_graph_must_be_square():
    with pytest.raises(ValueError, match="square"):
        topological_entropy([[1, 1]])
    with pytest.raises(ValueError, match="≥ 0"):
        topological_entropy([[-1]])
