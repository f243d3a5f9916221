import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.information.bottleneck import (
    gaussian_information_bottleneck,
    information_bottleneck,
    pointwise_usable_information,
    relevance_lower_bound,
    usable_information,
)

seeds = st.integers(0, 2**32 - 1)


def h(p):
    return -p * np.log2(p) - (1 - p) * np.log2(1 - p)


def noisy_coin(epsilon):
    return np.array([[1 - epsilon, epsilon], [epsilon, 1 - epsilon]]) / 2


def information(joint):
    used = joint > 0
    return (joint[used] * np.log2(joint[used] / np.outer(joint.sum(axis=1), joint.sum(axis=0))[used])).sum()


@pytest.mark.parametrize("beta", [0, 0.5, 1, 1.5, 1 / (1 - 2 * 0.1) ** 2])
def test_a_noisy_coin_is_not_worth_a_bottleneck_below_the_critical_beta(beta):
    found = information_bottleneck(noisy_coin(0.1), beta)
    assert found.complexity_bits == pytest.approx(0, abs=1e-12)
    assert found.relevance_bits == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("beta", [1.6, 2.0, 5.0, 20.0])
def test_above_it_the_encoder_is_a_symmetric_channel_and_the_best_one(beta):
    noise = np.linspace(1e-14, 0.5, 200_001)
    through = 0.1 * (1 - noise) + 0.9 * noise
    best = (1 - h(noise) - beta * (1 - h(through))).min()
    found = information_bottleneck(noisy_coin(0.1), beta)
    assert found.lagrangian_bits == pytest.approx(best, abs=1e-8)
    assert found.relevance_bits > 0.08


def test_without_compression_everything_relevant_is_kept():
    found = information_bottleneck(noisy_coin(0.1), math.inf)
    assert found.relevance_bits == pytest.approx(0.53100, abs=5e-6)
    assert found.complexity_bits == pytest.approx(1)
    nearly = information_bottleneck(noisy_coin(0.1), 1e4)
    assert nearly.relevance_bits == pytest.approx(1 - h(0.1))


def test_the_minimal_sufficient_statistic_merges_what_predicts_the_same():
    joint = np.array([[0.2, 0.1], [0.2, 0.1], [0.1, 0.2], [0.05, 0.05], [0, 0]])
    found = information_bottleneck(joint, math.inf)
    assert found.relevance_bits == pytest.approx(information(joint))
    assert found.complexity_bits == pytest.approx(-(0.6 * math.log2(0.6) + 0.3 * math.log2(0.3) + 0.1 * math.log2(0.1)))
    assert found.encoder_XT.sum(axis=1) == pytest.approx(1)


@given(seeds, st.integers(2, 4), st.integers(2, 3))
@settings(max_examples=15, deadline=None)
def test_the_bottleneck_obeys_data_processing_and_keeps_more_as_beta_grows(seed, X, Y):
    joint = np.random.default_rng(seed).dirichlet(np.full(X * Y, 0.5)).reshape(X, Y)
    kept = []
    for beta in (1.0, 3.0, 10.0, math.inf):
        found = information_bottleneck(joint, beta, max_iterations=500)
        assert found.relevance_bits <= min(found.complexity_bits, information(joint)) + 1e-9
        assert found.lagrangian_bits <= 1e-9
        assert found.encoder_XT.sum(axis=1) == pytest.approx(1)
        kept.append(found.relevance_bits)
    assert kept[-1] == pytest.approx(information(joint), abs=1e-9)


@given(seeds)
@settings(max_examples=10, deadline=None)
def test_no_encoder_drawn_at_random_is_better(seed):
    rng = np.random.default_rng(seed)
    joint = rng.dirichlet(np.full(9, 0.5)).reshape(3, 3)
    found = information_bottleneck(joint, 4.0, restarts=3, rng=rng, max_iterations=1000)
    for encoder in rng.dirichlet(np.full(3, 0.3), size=(200, 3)):
        random = information(joint.sum(axis=1)[:, None] * encoder) - 4 * information(encoder.T @ joint)
        assert found.lagrangian_bits <= random + 1e-9


def test_restarts_need_a_generator():
    with pytest.raises(ValueError, match="rng"):
        information_bottleneck(noisy_coin(0.1), 2.0, restarts=3)


def test_a_gaussian_direction_opens_at_one_over_its_squared_correlation():
    rho = 0.8
    closed = gaussian_information_bottleneck([[1]], [[rho]], [[1]], 1 / rho**2)
    opened = gaussian_information_bottleneck([[1]], [[rho]], [[1]], 1 / rho**2 + 0.01)
    assert (closed.complexity_bits, closed.relevance_bits, len(closed.projection_KD)) == (0, 0, 0)
    assert opened.relevance_bits > 0
    assert gaussian_information_bottleneck([[1]], [[rho]], [[1]], 1e9).relevance_bits == pytest.approx(
        -0.5 * math.log2(1 - rho**2)
    )


@given(seeds, st.floats(1.0, 50.0))
@settings(max_examples=50, deadline=None)
def test_the_gaussian_projection_has_the_informations_of_the_formula_and_no_scaling_of_it_is_better(seed, beta):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(5, 5))
    covariance = root @ root.T + 0.1 * np.eye(5)
    X, XY, Y = covariance[:3, :3], covariance[:3, 3:], covariance[3:, 3:]
    given_Y = X - XY @ np.linalg.solve(Y, XY.T)

    def informations(A):
        noise = np.eye(len(A))
        of_X = np.linalg.slogdet(A @ X @ A.T + noise)[1] / (2 * math.log(2))
        return of_X, of_X - np.linalg.slogdet(A @ given_Y @ A.T + noise)[1] / (2 * math.log(2))

    found = gaussian_information_bottleneck(X, XY, Y, beta)
    assert (found.complexity_bits, found.relevance_bits) == pytest.approx(informations(found.projection_KD), abs=1e-7)
    assert found.relevance_bits <= found.complexity_bits + 1e-9
    best = found.complexity_bits - beta * found.relevance_bits
    for other in (found.projection_KD * 1.1, found.projection_KD * 0.9, rng.normal(size=(2, 3))):
        complexity, relevance = informations(other)
        assert best <= complexity - beta * relevance + 1e-7


def test_covariances_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="correlation"):
        gaussian_information_bottleneck([[1]], [[1.5]], [[1]], 2)
    with pytest.raises(ValueError, match="positive definite"):
        gaussian_information_bottleneck([[0]], [[0]], [[1]], 2)
    for XY in ([[0.5, 0.1]], [[math.nan]]):
        with pytest.raises(ValueError, match=r"must be \(1, 1\)|must be finite"):
            gaussian_information_bottleneck([[1.0]], XY, [[1.0]], 2.0)


def test_a_probe_bounds_the_information_from_below_and_the_true_posterior_reaches_it():
    joint = noisy_coin(0.11)
    posterior = joint / joint.sum(axis=1, keepdims=True)
    # 100 examples in the exact proportions of the joint
    x, y = np.repeat([0, 0, 1, 1], [89, 11, 11, 89]), np.repeat([0, 1, 0, 1], [89, 11, 11, 89])
    assert relevance_lower_bound([0.5, 0.5], -np.log2(posterior[x, y])) == pytest.approx(information(joint))
    blunt = np.array([[0.7, 0.3], [0.3, 0.7]])
    assert relevance_lower_bound([0.5, 0.5], -np.log2(blunt[x, y])) < information(joint)


def test_usable_information_is_the_mean_of_what_each_example_gains():
    blind, informed = [2.0, 2.0, 2.0], [1.0, 0.5, 3.0]
    assert pointwise_usable_information(blind, informed).tolist() == [1.0, 1.5, -1.0]
    assert usable_information(blind, informed) == 0.5
    with pytest.raises(ValueError, match="paired"):
        usable_information([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="no difference of two infinite losses"):
        usable_information([1.0, math.inf], [1.0, math.inf])
    with pytest.raises(ValueError, match=r"at \[0\] stands nan"):
        relevance_lower_bound([0.5, 0.5], [math.nan, 1.0])
    assert usable_information([math.inf, 1.0], [1.0, 1.0]) == math.inf
