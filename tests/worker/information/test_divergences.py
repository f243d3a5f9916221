import math

import numpy as np
import pytest
from hypothesis import given, strategies

from tests.worker.information.draws import EACH, channels, distributions, several
from worker.information.divergences import (
    bhattacharyya_bounds,
    bhattacharyya_coefficient,
    bhattacharyya_distance,
    bretagnolle_huber_bound,
    hellinger_distance,
    jensen_shannon_distance,
    jensen_shannon_divergence,
    pinsker_bound,
    total_variation,
)
from worker.information.generalized import renyi_divergence
from worker.information.shannon import mutual_information, relative_entropy

HALF, QUARTER = [0.5, 0.5], [0.25, 0.75]


def test_two_coins_by_hand():
    assert total_variation(HALF, QUARTER) == 0.25
    coefficient = (math.sqrt(1 / 2) + math.sqrt(3 / 2)) / 2
    assert bhattacharyya_coefficient(HALF, QUARTER) == pytest.approx(coefficient, rel=1e-15)
    assert bhattacharyya_distance(HALF, QUARTER) == pytest.approx(-math.log2(coefficient), rel=1e-13)
    assert hellinger_distance(HALF, QUARTER) == pytest.approx(math.sqrt(1 - coefficient), rel=1e-14)
    h = -(0.375 * math.log2(0.375) + 0.625 * math.log2(0.625))
    js = h - (1 + 2 - 0.75 * math.log2(3)) / 2
    assert jensen_shannon_divergence(HALF, QUARTER) == pytest.approx(js, rel=1e-13)
    assert jensen_shannon_distance(HALF, QUARTER) == pytest.approx(math.sqrt(js), rel=1e-13)


def test_nothing_in_common_and_nothing_apart():
    for measure, apart in [
        (total_variation, 1),
        (jensen_shannon_divergence, 1),
        (jensen_shannon_distance, 1),
        (hellinger_distance, 1),
        (bhattacharyya_distance, math.inf),
    ]:
        assert measure([0.5, 0.5, 0], [0, 0, 1]) == apart
        assert measure(QUARTER, QUARTER) == pytest.approx(0, abs=1e-8)
    assert bhattacharyya_coefficient([1, 0], [0, 1]) == 0


def test_masses_of_1e_300_are_not_lost():
    p, q = [1e-300, 1.0], [1.0, 1e-300]
    assert bhattacharyya_coefficient(p, q) == pytest.approx(2e-150, rel=1e-14)
    assert bhattacharyya_distance(p, q) == pytest.approx(150 * math.log2(10) - 1, rel=1e-14)
    assert hellinger_distance([1e-300, 1.0], [0.0, 1.0]) == pytest.approx(math.sqrt(0.5e-300), rel=1e-14)


@EACH
@given(several(3))
def test_the_metrics_are_metrics(p_):
    p, q, r = p_
    for distance in (total_variation, jensen_shannon_distance, hellinger_distance):
        assert 0 <= distance(p, q) <= 1 + 1e-12
        assert distance(p, q) == pytest.approx(distance(q, p), abs=1e-12)
        assert distance(p, r) <= distance(p, q) + distance(q, r) + 1e-7  # a root turns 1e-16 into 1e-8


@EACH
@given(several(2))
def test_total_variation_is_the_largest_difference_of_an_event(p_):
    p, q = p_
    assert total_variation(p, q) == pytest.approx(np.sum((p - q)[p > q]), abs=1e-12)
    assert total_variation(p, q) == pytest.approx(1 - np.sum(np.minimum(p, q)), abs=1e-12)


@EACH
@given(several(2))
def test_bounds_on_total_variation_hold(p_):
    p, q = p_
    tv, divergence = total_variation(p, q), relative_entropy(p, q)
    low, high = bhattacharyya_bounds(bhattacharyya_coefficient(p, q))
    assert low - 1e-12 <= tv <= high + 1e-7
    assert tv <= pinsker_bound(divergence) + 1e-7  # the root of what rounding leaves of a divergence
    assert tv <= bretagnolle_huber_bound(divergence) + 1e-7
    assert jensen_shannon_divergence(p, q) <= tv + 1e-12  # Lin 1991, theorem 3


@EACH
@given(several(2))
def test_they_are_what_their_relatives_say(p_):
    p, q = p_
    # what a symbol tells of which of the two, equally likely, it is from
    assert jensen_shannon_divergence(p, q) == pytest.approx(mutual_information(np.stack([p, q]) / 2), abs=1e-12)
    assert bhattacharyya_distance(p, q) == pytest.approx(renyi_divergence(p, q, 0.5) / 2, rel=1e-9, abs=1e-12)
    assert hellinger_distance(p, q) ** 2 == pytest.approx(1 - bhattacharyya_coefficient(p, q), abs=1e-12)


@EACH
@given(distributions((3,)), distributions((3,)), channels(3))
def test_no_channel_tells_two_distributions_better_apart(p, q, rows):
    for divergence in (total_variation, jensen_shannon_divergence, hellinger_distance):
        assert divergence(p @ rows, q @ rows) <= divergence(p, q) + 1e-7


@EACH
@given(strategies.floats(0, 1e6))
def test_a_bound_that_says_nothing_is_one(bits):
    assert 0 <= pinsker_bound(bits) <= 1
    assert 0 <= bretagnolle_huber_bound(bits) <= 1


def test_bounds_by_hand_and_at_their_ends():
    assert pinsker_bound(0.5) == pytest.approx(math.sqrt(math.log(2)) / 2)
    assert bretagnolle_huber_bound(1) == pytest.approx(math.sqrt(0.5))
    assert pinsker_bound(math.inf) == bretagnolle_huber_bound(math.inf) == 1
    assert bhattacharyya_bounds(0.6) == pytest.approx((0.4, 0.8))
    assert bhattacharyya_bounds(1 + 1e-12) == (0, 0)
    assert pinsker_bound(0.01) < bretagnolle_huber_bound(0.01)
    assert bretagnolle_huber_bound(4) < pinsker_bound(4)
    for refused in (-0.1, math.nan):
        for bound in (pinsker_bound, bretagnolle_huber_bound, bhattacharyya_bounds):
            with pytest.raises(ValueError, match="this is"):
                bound(refused)
