import math

import numpy as np
import pytest
from hypothesis import given, strategies

from tests.worker.information.draws import EACH, distributions
from worker.information.distributions import (
    channel,
    cumulant,
    distribution,
    grouped,
    log_on,
    losses,
    not_below_zero,
    occupation,
    pair,
    probabilities,
)


def test_probabilities_are_copied_in_fp64_and_left_as_they_are():
    given_p = np.array([0.5, 0.5 + 5e-10], dtype=np.float64)
    p = probabilities(given_p)
    assert p.dtype == np.float64
    assert p.tolist() == given_p.tolist()
    p[0] = 0
    assert given_p[0] == 0.5


@pytest.mark.parametrize(
    ("p", "what"),
    [
        ([0.5, 0.6], r"must sum to 1, these sum to 1\.1"),
        ([0.5, 0.5 + 2e-9], "must sum to 1"),
        ([1.5, -0.5], r"at \[1\] stands -0\.5"),
        ([[0.5, math.nan], [0.25, 0.25]], r"at \[0, 1\] stands nan"),
        ([math.inf, 0.0], r"at \[0\] stands inf"),
        ([], "the array is empty"),
        (np.float32([0.1] * 10), "must sum to 1"),
    ],
)
def test_what_is_no_distribution_is_refused_with_what_is_wrong(p, what):
    with pytest.raises(ValueError, match=what):
        probabilities(p)


def test_along_an_axis_each_sum_must_be_one():
    rows = [[0.5, 0.5], [0.25, 0.75]]
    assert probabilities(rows, axis=1).tolist() == rows
    assert probabilities([[rows]] * 3, axis=(3,)).shape == (3, 1, 2, 2)
    with pytest.raises(ValueError, match=r"must sum to 1 along axis 0, these sum to 0\.75"):
        probabilities(rows, axis=0)


def test_a_channel_is_a_matrix_with_rows_that_sum_to_one():
    assert channel([[0.9, 0.1], [0.2, 0.8]]).shape == (2, 2)
    with pytest.raises(ValueError, match="along axis 1"):
        channel([[0.9, 0.2], [0.1, 0.8]])
    with pytest.raises(ValueError, match="this array has 1 axes"):
        channel([0.5, 0.5])


def test_one_variable_has_one_axis():
    assert distribution([0.5, 0.5]).tolist() == [0.5, 0.5]
    for p in (1.0, [[0.5, 0.5]]):
        with pytest.raises(ValueError, match="has one axis, this array has"):
            distribution(p)


def test_losses_are_numbers_of_bits_and_may_be_infinite():
    assert losses([0, 1.5, math.inf]).tolist() == [0, 1.5, math.inf]
    assert losses([-1e-7]).tolist() == [-1e-7]  # fp32
    with pytest.raises(ValueError, match="no losses"):
        losses([])
    for wrong in (math.nan, -math.inf, -0.1):
        with pytest.raises(ValueError, match=rf"at \[1\] stands {wrong}"):
            losses([1.0, wrong])


def test_two_distributions_must_be_over_the_same_symbols():
    with pytest.raises(ValueError, match=r"their shapes are \(2,\) and \(3,\)"):
        pair([0.5, 0.5], [0.5, 0.5, 0.0])


def test_shares_are_amounts_over_their_sum_however_large():
    assert occupation([3, 1, 0]).tolist() == [0.75, 0.25, 0.0]
    assert occupation([1e308, 1e308]).tolist() == [0.5, 0.5]
    with pytest.raises(ValueError, match="all 0"):
        occupation([0, 0])
    with pytest.raises(ValueError, match="an amount is a finite number ≥ 0"):
        occupation([1, -1])


def test_variables_are_grouped_in_the_order_that_is_asked_for():
    joint_XYZ = np.arange(24).reshape(2, 3, 4) / np.arange(24).sum()
    assert grouped(joint_XYZ, 2, 0) == pytest.approx(joint_XYZ.sum(axis=1).T)
    assert grouped(joint_XYZ, (1, 0), 2) == pytest.approx(joint_XYZ.transpose(1, 0, 2).reshape(6, 4))
    assert grouped(joint_XYZ, (), 1) == pytest.approx(joint_XYZ.sum(axis=(0, 2))[None])
    assert grouped(joint_XYZ, (0, 2), 1)[5, 2] == joint_XYZ[1, 2, 1]


@pytest.mark.parametrize("groups", [(0, 3), (0, 0), ((0, 1), 1), (-1,)])
def test_a_variable_that_is_not_there_or_in_two_groups_is_refused(groups):
    with pytest.raises(ValueError, match="numbered 0 to 2 and each may stand in one group"):
        grouped(np.full((2, 2, 2), 1 / 8), *groups)


@EACH
@given(distributions((5,)), strategies.floats(-30, 30).filter(bool))
def test_the_cumulant_is_the_logarithm_of_the_mean(p, t):
    r = np.array([-1.0, 0.0, 0.5, 2.0, -3.0])
    assert cumulant(p, r, t) == pytest.approx(math.log(np.sum(p * np.exp(t * r))), rel=1e-9, abs=1e-12)


def test_the_cumulant_keeps_its_digits_where_t_is_small_and_does_not_overflow_where_it_is_large():
    p, r = np.array([0.5, 0.25, 0.25]), np.array([1.0, 2.0, 4.0])
    # K(t)/t = E[r] + ½ t Var[r] + ...; at t = 1e-12 the plain logarithm of a sum is 1e-4 off
    assert cumulant(p, r, 1e-12) / 1e-12 == pytest.approx(2.0, rel=1e-11)
    assert cumulant(p, r, 1e5) == pytest.approx(4e5 + math.log(0.25), rel=1e-12)
    assert cumulant(p, r, -1e5) == pytest.approx(-1e5 + math.log(0.5), rel=1e-12)


def test_the_cumulant_takes_ratios_that_are_infinite():
    p, r = np.array([0.5, 0.5, 0.0]), np.array([0.0, np.inf, np.nan])
    assert cumulant(p, r, 1.0) == math.inf
    assert cumulant(p, r, -1.0) == pytest.approx(math.log(0.5))
    assert cumulant(np.array([1.0]), np.array([np.inf]), -1.0) == -math.inf


def test_logarithms_are_taken_where_the_support_says_so():
    assert log_on(np.array([True, False, True]), np.array([1.0, 0.0, 0.0])).tolist() == [0.0, 0.0, -math.inf]


def test_only_rounding_is_lifted_to_zero():
    assert not_below_zero(-2e-9) == 0.0
    assert not_below_zero(-1e-8) == -1e-8
    assert not_below_zero(1e-300) == 1e-300
    assert math.copysign(1, not_below_zero(-0.0)) == 1
