import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.information.comparison import (
    bayes_risk,
    blackwell_dominates,
    blackwell_measure,
    expected_information_gain,
    le_cam_deficiency,
    le_cam_distance,
)
from worker.information.shannon import relative_entropy

seeds = st.integers(0, 2**32 - 1)


def binary_symmetric(epsilon):
    return np.array([[1 - epsilon, epsilon], [epsilon, 1 - epsilon]])


def random_channel(rng, X, Y):
    return rng.dirichlet(np.full(Y, 0.7), size=X)


def test_noise_can_be_added_but_not_taken_away():
    assert le_cam_deficiency(binary_symmetric(0.1), binary_symmetric(0.2)).value == pytest.approx(0, abs=1e-9)
    assert le_cam_deficiency(binary_symmetric(0.2), binary_symmetric(0.1)).value == pytest.approx(0.1)
    assert blackwell_dominates(binary_symmetric(0.1), binary_symmetric(0.2))
    assert not blackwell_dominates(binary_symmetric(0.2), binary_symmetric(0.1))
    assert le_cam_distance(binary_symmetric(0.1), binary_symmetric(0.2)) == pytest.approx(0.1)


def test_the_garbling_makes_one_channel_of_the_other():
    # .1 ∗ ε = .2 for ε = 1/8
    assert le_cam_deficiency(binary_symmetric(0.1), binary_symmetric(0.2)).garbling_YZ == pytest.approx(binary_symmetric(1 / 8))


def test_an_experiment_without_outcomes_can_only_guess():
    # n states: a constant experiment can only guess, so TV = 1 − 1/n
    assert le_cam_deficiency(np.ones((4, 1)), np.eye(4)).value == pytest.approx(0.75)


@given(seeds, st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_the_garbling_reaches_the_deficiency_and_processing_costs_nothing(seed, X, Y, Z):
    rng = np.random.default_rng(seed)
    p, q = random_channel(rng, X, Y), random_channel(rng, X, Z)
    found = le_cam_deficiency(p, q)
    assert found.garbling_YZ.sum(axis=1) == pytest.approx(1)
    assert found.garbling_YZ.min() > -1e-9
    assert np.abs(p @ found.garbling_YZ - q).sum(axis=1).max() / 2 == pytest.approx(found.value, abs=1e-7)
    assert 0 <= found.value <= 1
    assert blackwell_dominates(p, p @ random_channel(rng, Y, Z))


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_deficiencies_satisfy_the_triangle_inequality(seed):
    rng = np.random.default_rng(seed)
    p, q, r = (random_channel(rng, 3, 3) for _ in range(3))
    assert le_cam_deficiency(p, r).value <= le_cam_deficiency(p, q).value + le_cam_deficiency(q, r).value + 1e-7


@given(seeds)
@settings(max_examples=40, deadline=None)
def test_no_decision_loses_more_than_the_deficiency(seed):
    rng = np.random.default_rng(seed)
    p, q = random_channel(rng, 3, 4), random_channel(rng, 3, 3)
    prior, loss = rng.dirichlet(np.ones(3)), rng.random((3, 5))
    assert bayes_risk(prior, p, loss) <= bayes_risk(prior, q, loss) + le_cam_deficiency(p, q).value + 1e-7
    assert bayes_risk(prior, p, loss) <= bayes_risk(prior, p @ random_channel(rng, 4, 4), loss) + 1e-12


def test_capacity_does_not_order_experiments():
    """An erasure channel and a symmetric one of the same information, neither of which dominates."""
    erasure = [[0.5, 0.5, 0], [0, 0.5, 0.5]]
    symmetric = binary_symmetric(0.11)
    assert not blackwell_dominates(erasure, symmetric)
    assert not blackwell_dominates(symmetric, erasure)


def test_the_law_of_the_posterior():
    # outcomes 0 and 2 tell the same, outcome 3 never comes
    measure = blackwell_measure([0.5, 0.5], [[0.4, 0.2, 0.4, 0], [0.1, 0.8, 0.1, 0]])
    assert measure.weight_K == pytest.approx([0.5, 0.5])
    assert measure.posterior_KX == pytest.approx(np.array([[0.8, 0.2], [0.2, 0.8]]))


@given(seeds)
@settings(max_examples=50, deadline=None)
def test_the_mean_posterior_is_the_prior_and_the_mean_gain_is_the_mutual_information(seed):
    rng = np.random.default_rng(seed)
    prior, p = rng.dirichlet(np.ones(3)), random_channel(rng, 3, 4)
    measure = blackwell_measure(prior, p)
    assert measure.weight_K @ measure.posterior_KX == pytest.approx(prior)
    joint = prior[:, None] * p
    used = joint > 0
    mutual = (joint[used] * np.log2(joint[used] / np.outer(prior, joint.sum(axis=0))[used])).sum()
    assert expected_information_gain(prior, p) == pytest.approx(mutual, abs=1e-12)
    gains = [relative_entropy(posterior, prior) for posterior in measure.posterior_KX]
    assert measure.weight_K @ gains == pytest.approx(mutual, abs=1e-12)
    assert expected_information_gain(prior, p @ random_channel(rng, 4, 4)) <= mutual + 1e-12


def test_gain_is_posterior_against_prior_and_not_the_reverse():
    assert relative_entropy([1.0, 0.0], [0.25, 0.75]) == 2
    assert relative_entropy([0.5, 0.5], [1.0, 0.0]) == math.inf
    assert relative_entropy([1.0, 0.0], [1e-300, 1.0]) == pytest.approx(300 * math.log2(10))


def test_experiments_about_different_states_are_refused():
    with pytest.raises(ValueError, match="states"):
        le_cam_deficiency(np.eye(2), np.eye(3))
    with pytest.raises(ValueError, match="prior"):
        blackwell_measure([0.5, 0.5], np.eye(3))
    with pytest.raises(ValueError, match="loss"):
        bayes_risk([0.5, 0.5], np.eye(2), [1.0, 2.0])
