"""Agreement with dit, an independent implementation, on random small distributions: with zeros, and of two to four variables."""

import itertools
import math

import dit
import numpy as np
import pytest
from dit.divergences.jensen_shannon_divergence import jensen_shannon_divergence_pmf
from dit.divergences.variational_distance import bhattacharyya_coefficient_pmf, hellinger_distance_pmf, variational_distance_pmf
from dit.other.sibson_mutual_information import sibson_mutual_information_pmf

from worker.information import divergences, generalized, multivariate, shannon

NEAR = {"rel": 1e-9, "abs": 1e-9}
SHAPES = [(2, 2), (3, 4), (2, 2, 2), (2, 3, 2), (2, 2, 2, 2)]
ORDERS = [0.3, 0.5, 1, 2, 7.5]


@pytest.fixture(params=[(shape, seed) for shape in SHAPES for seed in range(4)], ids=str)
def both(request):
    """A joint distribution as our array and as dit's object."""
    shape, seed = request.param
    joint = random_pmf(np.random.default_rng(seed), math.prod(shape)).reshape(shape)
    outcomes = list(itertools.product(*(range(n) for n in shape)))
    return joint, dit.Distribution(outcomes, joint.ravel().tolist())


def random_pmf(rng, n):
    """A quarter of its entries, or so, are 0."""
    weights = rng.exponential(size=n) * (rng.random(n) > 0.25)
    weights[rng.integers(n)] += 0.1
    return weights / weights.sum()


@pytest.fixture(params=range(10))
def pair(request):
    """Two distributions of six symbols, the second without zeros."""
    rng = np.random.default_rng(request.param)
    return random_pmf(rng, 6), rng.dirichlet(np.ones(6))


def as_dit(p):
    return dit.Distribution([str(i) for i in range(len(p))], p.tolist())


def test_shannon_s_measures_of_a_joint_distribution(both):
    joint, distribution = both
    assert shannon.joint_entropy(joint) == pytest.approx(dit.shannon.entropy(distribution), **NEAR)
    assert shannon.joint_entropy(joint, 1) == pytest.approx(dit.shannon.entropy(distribution, [1]), **NEAR)
    theirs = dit.shannon.conditional_entropy(distribution, [0], [1])
    assert shannon.conditional_entropy(joint.sum(axis=tuple(range(2, joint.ndim))), given=1) == pytest.approx(theirs, **NEAR)
    assert shannon.mutual_information(joint) == pytest.approx(dit.shannon.mutual_information(distribution, [0], [1]), **NEAR)
    theirs = dit.multivariate.variation_of_information(distribution, [[0], [1]])
    assert shannon.variation_of_information(joint) == pytest.approx(theirs, **NEAR)
    if joint.ndim > 2:
        theirs = dit.multivariate.coinformation(distribution, [[0], [1]], [2])
        assert shannon.conditional_mutual_information(joint) == pytest.approx(theirs, **NEAR)


def test_what_several_variables_share(both):
    joint, distribution = both
    for ours, theirs in [
        (multivariate.multi_information, dit.multivariate.total_correlation),
        (multivariate.dual_total_correlation, dit.multivariate.dual_total_correlation),
        (multivariate.co_information, dit.multivariate.coinformation),
        (multivariate.interaction_information, dit.multivariate.interaction_information),
        (multivariate.o_information, dit.multivariate.o_information),
    ]:
        assert ours(joint) == pytest.approx(theirs(distribution), **NEAR)


@pytest.mark.parametrize("order", ORDERS)
def test_entropies_with_an_order(both, order):
    joint, distribution = both
    assert generalized.renyi_entropy(joint, order) == pytest.approx(dit.other.renyi_entropy(distribution, order), **NEAR)
    assert generalized.tsallis_entropy(joint, order) == pytest.approx(dit.other.tsallis_entropy(distribution, order), **NEAR)


@pytest.mark.parametrize("order", [*ORDERS, math.inf])
def test_sibson_s_information(both, order):
    joint_XY = both[0].sum(axis=tuple(range(2, both[0].ndim)))
    theirs = sibson_mutual_information_pmf(joint_XY, order)
    assert generalized.sibson_mutual_information(joint_XY, order) == pytest.approx(theirs, **NEAR)


def test_of_one_distribution(pair):
    p, _ = pair
    distribution = as_dit(p)
    assert shannon.entropy(p) == pytest.approx(dit.shannon.entropy(distribution), **NEAR)
    dense = p[p > 0]  # dit's alphabet is what occurs
    assert shannon.negentropy_from_uniform(dense) == pytest.approx(dit.other.negentropy(as_dit(dense)), **NEAR)
    assert shannon.perplexity(p) == pytest.approx(dit.other.perplexity(distribution), **NEAR)
    for order in (0, math.inf):
        assert generalized.renyi_entropy(p, order) == pytest.approx(dit.other.renyi_entropy(distribution, order), **NEAR)


def test_of_two_distributions(pair):
    p, q = pair
    P, Q = as_dit(p), as_dit(q)
    assert shannon.relative_entropy(p, q) == pytest.approx(dit.divergences.kullback_leibler_divergence(P, Q), **NEAR)
    assert shannon.cross_entropy(p, q) == pytest.approx(dit.divergences.cross_entropy(P, Q), **NEAR)
    assert shannon.relative_entropy(q, p) == pytest.approx(dit.divergences.kullback_leibler_divergence(Q, P), **NEAR)
    assert divergences.total_variation(p, q) == pytest.approx(variational_distance_pmf(p, q), **NEAR)
    assert divergences.bhattacharyya_coefficient(p, q) == pytest.approx(bhattacharyya_coefficient_pmf(p, q), **NEAR)
    assert divergences.hellinger_distance(p, q) == pytest.approx(hellinger_distance_pmf(p, q), **NEAR)
    assert divergences.jensen_shannon_divergence(p, q) == pytest.approx(jensen_shannon_divergence_pmf([p, q]), **NEAR)


@pytest.mark.parametrize("order", ORDERS)
def test_renyi_s_divergence(order):
    for seed in range(10):
        p, q = np.random.default_rng(seed).dirichlet(np.ones(6), size=2)
        theirs = dit.divergences.renyi_divergence(as_dit(p), as_dit(q), order)
        assert generalized.renyi_divergence(p, q, order) == pytest.approx(theirs, **NEAR)
