import math

import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies
from scipy import optimize

from tests.worker.information.draws import EACH, ORDERS, ORDINARY, channels, distributions, joints, several
from worker.information import generalized
from worker.information.generalized import (
    arimoto_mutual_information,
    collision_entropy,
    conditional_renyi_entropy,
    csiszar_mutual_information,
    havrda_charvat_entropy,
    hill_number,
    maximal_leakage,
    min_entropy,
    participation_entropy,
    participation_ratio,
    renyi_divergence,
    renyi_divergence_from_independence,
    renyi_entropy,
    sibson_mutual_information,
    tsallis_entropy,
)
from worker.information.shannon import (
    conditional_entropy,
    entropy,
    mutual_information,
    relative_entropy,
    shannon_wiener,
    varentropy,
)

P = [1 / 2, 1 / 4, 1 / 4]
INFORMATIONS = (
    sibson_mutual_information,
    arimoto_mutual_information,
    csiszar_mutual_information,
    renyi_divergence_from_independence,
)
FINITE_ORDERS = strategies.one_of(strategies.sampled_from([0.5, 1.0, 2.0]), strategies.floats(0.1, 8))


def bsc(error):
    """Uniform input and output of the binary symmetric channel."""
    return np.array([[1 - error, error], [error, 1 - error]]) / 2


# -- by hand


@pytest.mark.parametrize(
    ("order", "bits"),
    [(0, math.log2(3)), (0.5, 1.54311), (1, 1.5), (2, 1.41504), (math.inf, 1)],
)
def test_renyi_entropies_by_hand(order, bits):
    assert renyi_entropy(P, order) == pytest.approx(bits, abs=5e-6)
    assert hill_number(P, order) == pytest.approx(2**bits, abs=2e-5)
    assert participation_entropy([2, 1, 1], order) == pytest.approx(bits, abs=5e-6)


def test_collision_and_min_entropy_by_hand():
    assert collision_entropy(P) == pytest.approx(-math.log2(3 / 8), rel=1e-15)
    assert min_entropy(P) == 1
    assert renyi_entropy([1.0, 0.0], 2) == 0


def test_participation_by_hand():
    assert participation_ratio(P) == pytest.approx(8 / 3, rel=1e-15)
    assert participation_ratio([20, 10, 10]) == pytest.approx(8 / 3, rel=1e-15)
    assert participation_entropy(P) == pytest.approx(math.log2(8 / 3), rel=1e-15)
    covariance = np.diag([3.0, 2.0, 1.0])
    by_traces = np.trace(covariance) ** 2 / np.linalg.norm(covariance) ** 2
    assert participation_ratio(np.diagonal(covariance)) == pytest.approx(by_traces, rel=1e-14)


def test_tsallis_by_hand():
    assert tsallis_entropy(P, 2) == pytest.approx(0.625, rel=1e-15)
    assert tsallis_entropy(np.full(4, 1 / 4), 2) == pytest.approx(0.75, rel=1e-15)
    assert tsallis_entropy([0.5, 0.25, 0.25, 0], 0) == pytest.approx(2, rel=1e-15)
    assert tsallis_entropy(P, 1) == pytest.approx(1.5 * math.log(2), rel=1e-15)


@pytest.mark.parametrize("order", [0, 0.5, 1, 1 + 1e-9, 2, 3.7, 50])
def test_havrda_charvat_gives_a_fair_coin_one_bit(order):
    assert havrda_charvat_entropy([0.5, 0.5], order) == pytest.approx(1, rel=1e-12)


def test_havrda_charvat_by_hand():
    assert havrda_charvat_entropy(P, 2) == pytest.approx(1.25, rel=1e-15)
    assert havrda_charvat_entropy(P, 1) == 1.5


def test_renyi_divergences_of_two_coins():
    half, quarter = [0.5, 0.5], [0.25, 0.75]
    assert renyi_divergence(half, quarter, 2) == pytest.approx(math.log2(4 / 3), rel=1e-14)
    assert renyi_divergence(half, quarter, 0.5) == pytest.approx(0.10003, abs=5e-6)
    assert renyi_divergence(half, quarter, 1) == relative_entropy(half, quarter)
    assert renyi_divergence(half, quarter, math.inf) == 1


def test_where_a_renyi_divergence_is_infinite():
    p, q = [0.5, 0.5, 0], [0.5, 0, 0.5]  # a half is common
    assert renyi_divergence(p, q, 0) == 1
    assert renyi_divergence(p, q, 0.5) == pytest.approx(2, rel=1e-14)
    for order in (1, 1.5, math.inf):
        assert renyi_divergence(p, q, order) == math.inf
    for order in (0, 0.5, 1, 2, math.inf):
        assert renyi_divergence([1, 0], [0, 1], order) == math.inf
    assert renyi_divergence([1, 0], [0.25, 0.75], 0) == 2


def test_conditional_renyi_entropies_of_a_symmetric_channel():
    assert conditional_renyi_entropy(bsc(0.1), math.inf) == pytest.approx(0.15200, abs=5e-6)
    assert conditional_renyi_entropy(bsc(0.1), 2) == pytest.approx(0.28630, abs=5e-6)
    assert conditional_renyi_entropy(bsc(0.1), 0) == pytest.approx(1, rel=1e-15)
    notebook = -np.log2(np.sum((bsc(0.1) * 2) ** 2))
    assert notebook == pytest.approx(-0.714, abs=5e-4)  # no entropy


def test_informations_of_a_symmetric_channel():
    """With a uniform input the channel's symmetry makes all but the last the same."""
    for information in INFORMATIONS[:3]:
        assert information(bsc(0.1), 2) == pytest.approx(1 - collision_entropy([0.1, 0.9]), rel=1e-10)
        assert information(bsc(0.1), 2) == pytest.approx(0.71370, abs=5e-6)
    assert sibson_mutual_information(bsc(0.1), math.inf) == pytest.approx(math.log2(1.8), rel=1e-14)
    assert maximal_leakage([[0.9, 0.1], [0.1, 0.9]]) == pytest.approx(0.84800, abs=5e-6)


def test_independent_bits_share_nothing_whatever_the_order():
    """The notebook's formula, the joint Rényi entropy, gives them 2 bits."""
    for order in (0, 0.5, 1, 2, math.inf):
        assert renyi_entropy(np.full((2, 2), 1 / 4), order) == pytest.approx(2)
        for information in INFORMATIONS:
            if information is not csiszar_mutual_information or 0 < order < math.inf:
                assert information(np.full((2, 2), 1 / 4), order) == pytest.approx(0, abs=1e-14)


def test_leakage_at_its_ends():
    assert maximal_leakage(np.eye(3)) == math.log2(3)
    assert maximal_leakage([[0.2, 0.8], [0.2, 0.8], [0.2, 0.8]]) == 0
    with pytest.raises(ValueError, match="along axis 1"):
        maximal_leakage([[0.5, 0.2], [0.5, 0.8]])


@pytest.mark.parametrize("order", [-0.1, math.nan])
def test_an_order_below_zero_is_refused(order):
    for of in (
        lambda: renyi_entropy(P, order),
        lambda: tsallis_entropy(P, order),
        lambda: renyi_divergence(P, P, order),
        lambda: conditional_renyi_entropy(bsc(0.1), order),
        lambda: sibson_mutual_information(bsc(0.1), order),
    ):
        with pytest.raises(ValueError, match="≥ 0"):
            of()


def test_orders_that_a_measure_does_not_have_are_refused():
    for of in (
        lambda: tsallis_entropy(P, math.inf),
        lambda: havrda_charvat_entropy(P, math.inf),
        lambda: csiszar_mutual_information(bsc(0.1), math.inf),
    ):
        with pytest.raises(ValueError, match="finite"):
            of()
    with pytest.raises(ValueError, match="above 0"):
        csiszar_mutual_information(bsc(0.1), 0)


# -- at order 1, and beside it


@pytest.mark.parametrize("step", [1e-3, 1e-7, 1e-11, 1e-15, -1e-3, -1e-7, -1e-11, -1e-15])
def test_beside_order_one_no_digits_are_lost(step):
    """H_α = H − ½ (α−1) Var + O((α−1)²), Var in nats·bits; the plain formula is 1e-5 off at a step of 1e-11."""
    slope = varentropy(P) * math.log(2) / 2
    room = 1e-13 + step**2
    assert renyi_entropy(P, 1 + step) == pytest.approx(1.5 - slope * step, abs=room)
    assert tsallis_entropy(P, 1 + step) == pytest.approx(1.5 * math.log(2), abs=room + abs(step))
    assert havrda_charvat_entropy(P, 1 + step) == pytest.approx(1.5, abs=room + abs(step))
    joint_XY = bsc(0.1)
    assert conditional_renyi_entropy(joint_XY, 1 + step) == pytest.approx(entropy([0.1, 0.9]), abs=room + abs(step))
    for information in INFORMATIONS:
        assert information(joint_XY, 1 + step) == pytest.approx(1 - entropy([0.1, 0.9]), abs=room + 2 * abs(step))
    q = [1 / 4, 1 / 4, 1 / 2]
    assert renyi_divergence(P, q, 1 + step) == pytest.approx(relative_entropy(P, q), abs=room + abs(step))


@EACH
@given(joints(2))
def test_at_order_one_they_are_shannon_s(joint_XY):
    assert conditional_renyi_entropy(joint_XY, 1) == conditional_entropy(joint_XY, given=1)
    for information in INFORMATIONS:
        assert information(joint_XY, 1) == pytest.approx(mutual_information(joint_XY), abs=1e-12)
        if joint_XY[joint_XY > 0].min() > 1e-6:
            assert information(joint_XY, 1 + 1e-9) == pytest.approx(mutual_information(joint_XY), abs=1e-6)


@EACH
@given(joints(2, ORDINARY))
def test_far_out_they_are_near_their_limits(joint_XY):
    p = joint_XY.ravel()
    assert renyi_entropy(p, 1e-12) == pytest.approx(renyi_entropy(p, 0), abs=1e-9)
    assert renyi_entropy(p, 1e6) == pytest.approx(renyi_entropy(p, math.inf), abs=1e-4)
    for of_joint in (conditional_renyi_entropy, sibson_mutual_information, arimoto_mutual_information):
        assert of_joint(joint_XY, 1e-6) == pytest.approx(of_joint(joint_XY, 0), abs=1e-4)
        assert of_joint(joint_XY, 1e6) == pytest.approx(of_joint(joint_XY, math.inf), abs=1e-4)
    from_independence = renyi_divergence_from_independence(joint_XY, math.inf)
    assert renyi_divergence_from_independence(joint_XY, 1e6) == pytest.approx(from_independence, abs=1e-4)


# -- at 1e-300


@pytest.mark.parametrize("order", [0, 0.01, 0.5, 1, 2, 30, math.inf])
def test_probabilities_of_1e_300_count_as_they_should(order):
    p, q = np.array([1.0, 1e-300]), np.array([1e-300, 1.0])
    lg = 300 * math.log2(10)
    by_hand = {0: 1, math.inf: 0}.get(order, 0.0 if order >= 0.5 else math.log2(1 + 1e-300**order) / (1 - order))
    assert renyi_entropy(p, order) == pytest.approx(by_hand, abs=1e-12)
    # symmetric about ½: 2·1e-300^(α) is the sum there, and 1e-300^(1−α) or 1e-300^α elsewhere
    divergence = {0: 0, 0.5: lg - 2, 0.01: -math.log2(1e-3 + 1e-297) / 0.99}.get(order, lg)
    assert renyi_divergence(p, q, order) == pytest.approx(divergence, rel=1e-12, abs=1e-12)


def test_pairs_of_1e_300_have_their_ratio():
    """Of a diagonal the ratio is 1/p, and its largest is 1e300."""
    joint_XY = np.diag([1.0, 1e-300])
    assert renyi_divergence_from_independence(joint_XY, math.inf) == pytest.approx(300 * math.log2(10), rel=1e-14)
    assert renyi_divergence_from_independence(joint_XY, 2) == pytest.approx(1, rel=1e-12)  # Σ p² / p² over two
    assert sibson_mutual_information(joint_XY, math.inf) == pytest.approx(1, rel=1e-14)
    assert sibson_mutual_information(joint_XY, 2) == pytest.approx(2 * 1e-150 / math.log(2), rel=1e-12)
    assert csiszar_mutual_information(joint_XY, 2) == pytest.approx(0, abs=1e-11)
    assert conditional_renyi_entropy(joint_XY, 2) == 0


# -- theorems


@EACH
@given(several(2), ORDERS, ORDERS)
def test_renyi_measures_are_monotone_in_the_order(p_, one, other):
    p, q = p_
    low, high = sorted((one, other))
    assert renyi_entropy(p, high) <= renyi_entropy(p, low) + 1e-11
    assert renyi_divergence(p, q, low) <= renyi_divergence(p, q, high) * (1 + 1e-11) + 1e-11
    assert 0 <= renyi_entropy(p, low) <= math.log2(len(p)) + 1e-12
    assert renyi_divergence(p, q, low) >= 0
    assert renyi_divergence(p, p, high) == pytest.approx(0, abs=1e-12)


@EACH
@given(several(1), ORDERS)
def test_hill_numbers_lie_between_one_and_the_number_of_symbols(p_, order):
    (p,) = p_
    assert 1 <= hill_number(p, order) <= len(p) * (1 + 1e-12)
    assert hill_number(p) == pytest.approx(math.exp(shannon_wiener(p)), rel=1e-12)
    assert participation_ratio(p * 7) == pytest.approx(hill_number(p, 2), rel=1e-12)


@EACH
@given(distributions((3,)), distributions((4,)), ORDERS)
def test_renyi_entropy_of_independent_parts_is_the_sum(p, q, order):
    joint = np.multiply.outer(p, q)
    assume(order >= 0.2 or p[p > 0].min() * q[q > 0].min() > 1e-300)  # a product that underflows is lost to small orders only
    assert renyi_entropy(joint, order) == pytest.approx(renyi_entropy(p, order) + renyi_entropy(q, order), abs=1e-11)


@EACH
@given(distributions((3,)), distributions((4,)), strategies.floats(0.1, 5))
def test_tsallis_entropy_is_pseudo_additive(p, q, order):
    S_p, S_q = tsallis_entropy(p, order), tsallis_entropy(q, order)
    both = tsallis_entropy(np.multiply.outer(p, q), order)
    assert both == pytest.approx(S_p + S_q + (1 - order) * S_p * S_q, rel=1e-10, abs=1e-10)
    by_tsallis = tsallis_entropy(p, order) * (order - 1) / -math.expm1((1 - order) * math.log(2)) if order != 1 else entropy(p)
    assert havrda_charvat_entropy(p, order) == pytest.approx(by_tsallis, rel=1e-10, abs=1e-12)


@EACH
@given(several(2), strategies.floats(0.01, 0.99))
def test_renyi_divergence_is_skew_symmetric_below_one(p_, order):
    p, q = p_
    there, back = (1 - order) * renyi_divergence(p, q, order), order * renyi_divergence(q, p, 1 - order)
    assert there == back == math.inf or there == pytest.approx(back, rel=1e-10, abs=1e-11)


@EACH
@given(distributions((3,)), distributions((3,)), channels(3), ORDERS)
def test_no_channel_tells_two_distributions_better_apart(p, q, rows, order):
    assert renyi_divergence(p @ rows, q @ rows, order) <= renyi_divergence(p, q, order) * (1 + 1e-11) + 1e-11


@EACH
@given(joints(2), ORDERS, ORDERS)
def test_arimoto_s_conditional_entropy_behaves_as_one(joint_XY, one, other):
    """Fehr and Berens 2014: between 0 and H_α(X), no less than H_α(X,Y) − lg |Y|, and not growing with α."""
    low, high = sorted((one, other))
    conditional = conditional_renyi_entropy(joint_XY, low)
    assert 0 <= conditional <= renyi_entropy(joint_XY.sum(axis=1), low) + 1e-11
    assert conditional >= renyi_entropy(joint_XY, low) - math.log2(joint_XY.shape[1]) - 1e-11
    assert conditional_renyi_entropy(joint_XY, high) <= conditional + 1e-11


@EACH
@given(distributions((3,)), distributions((4,)), ORDERS)
def test_what_is_independent_tells_nothing(p, q, order):
    joint_XY = np.multiply.outer(p, q)
    assume(p[p > 0].min() * q[q > 0].min() > 1e-300)
    assert conditional_renyi_entropy(joint_XY, order) == pytest.approx(renyi_entropy(p, order), abs=1e-9)
    assert sibson_mutual_information(joint_XY, order) == pytest.approx(0, abs=1e-9)


@EACH
@given(joints(2), ORDERS, ORDERS)
def test_sibson_s_information_is_monotone_in_the_order_and_below_the_leakage(joint_XY, one, other):
    low, high = sorted((one, other))
    assert 0 <= sibson_mutual_information(joint_XY, low) <= sibson_mutual_information(joint_XY, high) + 1e-11
    p_X = joint_XY.sum(axis=1)
    rows_XY = joint_XY[p_X > 0] / p_X[p_X > 0][:, None]
    leakage = maximal_leakage(rows_XY)
    assert sibson_mutual_information(joint_XY, high) <= leakage + 1e-11
    assert sibson_mutual_information(joint_XY, math.inf) == pytest.approx(leakage, abs=1e-11)


@EACH
@given(joints(2, ORDINARY), strategies.floats(0.05, 20), strategies.integers(0, 2**32 - 1))
def test_sibson_s_information_is_the_least_divergence_from_a_product(joint_XY, order, seed):
    p_X = joint_XY.sum(axis=1)
    rows_XY = joint_XY / p_X[:, None]
    best_Y = (p_X @ rows_XY**order) ** (1 / order)
    least = renyi_divergence(joint_XY, np.outer(p_X, best_Y / best_Y.sum()), order)
    assert sibson_mutual_information(joint_XY, order) == pytest.approx(least, abs=1e-11)
    some_Y = np.random.default_rng(seed).dirichlet(np.ones(joint_XY.shape[1]))
    assert sibson_mutual_information(joint_XY, order) <= renyi_divergence(joint_XY, np.outer(p_X, some_Y), order) + 1e-11
    assert sibson_mutual_information(joint_XY, order) <= renyi_divergence_from_independence(joint_XY, order) + 1e-11


@EACH
@given(joints(2, ORDINARY), FINITE_ORDERS, strategies.integers(0, 2**32 - 1))
def test_csiszar_s_information_is_the_least_mean_divergence(joint_XY, order, seed):
    p_X = joint_XY.sum(axis=1)
    rows_XY = joint_XY / p_X[:, None]
    some_Y = np.random.default_rng(seed).dirichlet(np.ones(joint_XY.shape[1]))
    mean = sum(p * renyi_divergence(row, some_Y, order) for p, row in zip(p_X, rows_XY, strict=True))
    information = csiszar_mutual_information(joint_XY, order)
    assert information <= mean + 1e-11
    # and it lies on the other side of Sibson's than the order of 1
    sibson = sibson_mutual_information(joint_XY, order)
    assert (information - sibson) * (order - 1) <= 1e-11


@pytest.mark.parametrize("order", [0.3, 0.9, 1.5, 5])
def test_csiszar_s_information_is_exact_to_the_gap_that_is_stated(order):
    """Two outputs: the least mean divergence along the line of all Q, by bounded search."""
    joint_XY = np.array([[0.45, 0.05], [0.02, 0.08], [0.1, 0.3]])
    p_X = joint_XY.sum(axis=1)

    def mean_divergence(q):
        rows = zip(p_X, joint_XY / p_X[:, None], strict=True)
        return sum(p * renyi_divergence(row, [q, 1 - q], order) for p, row in rows)

    least = optimize.minimize_scalar(mean_divergence, bounds=(0, 1), method="bounded", options={"xatol": 1e-9}).fun
    assert csiszar_mutual_information(joint_XY, order) == pytest.approx(least, abs=3e-12)


@settings(max_examples=30, deadline=None)  # at an order of 100 one may take thousands of steps
@given(joints(2), strategies.sampled_from([0.05, 0.4, 3.0, 100.0]))
def test_csiszar_s_information_is_found_whatever_the_channel(joint_XY, order):
    information = csiszar_mutual_information(joint_XY, order)
    assert (information - sibson_mutual_information(joint_XY, order)) * (order - 1) <= 1e-8
    assert -1e-8 <= information <= maximal_leakage(np.eye(3)) + 1e-8


def test_an_order_for_which_the_search_is_too_long_is_an_error(monkeypatch):
    monkeypatch.setattr(generalized, "CSISZAR_STEPS", 50)
    joint_XY = np.array([[0.3, 0.1, 0.1], [0.05, 0.05, 0.4]])
    with pytest.raises(ArithmeticError, match=r"order 20\.0 was not found within 50 steps"):
        csiszar_mutual_information(joint_XY, 20)


@EACH
@given(joints(2, ORDINARY), strategies.floats(0.05, 20))
def test_arimoto_s_information_is_sibson_s_of_the_escort_distribution(joint_XY, order):
    """Verdú 2015: equal for the input p^α / Σ p^α, hence for a uniform input, and for the capacity of each order."""
    p_X = joint_XY.sum(axis=1)
    escort_X = p_X**order / np.sum(p_X**order)
    sibson = sibson_mutual_information(escort_X[:, None] * (joint_XY / p_X[:, None]), order)
    assert arimoto_mutual_information(joint_XY, order) == pytest.approx(sibson, abs=1e-10)


@EACH
@given(joints(2), channels(3), ORDERS)
def test_processing_does_not_add_information(joint_XY, rows, order):
    for processed in (joint_XY @ rows[: joint_XY.shape[1]], (joint_XY.T @ rows[: joint_XY.shape[0]]).T):
        for information in (sibson_mutual_information, renyi_divergence_from_independence):
            assert information(processed, order) <= information(joint_XY, order) + 1e-10
    after = joint_XY @ rows[: joint_XY.shape[1]]
    assert arimoto_mutual_information(after, order) <= arimoto_mutual_information(joint_XY, order) + 1e-10


@EACH
@given(joints(2, ORDINARY))
def test_the_best_guess_is_what_the_infinite_orders_measure(joint_XY):
    p_X = joint_XY.sum(axis=1)
    blind, seeing = p_X.max(), joint_XY.max(axis=0).sum()
    assert min_entropy(p_X) == pytest.approx(-math.log2(blind), abs=1e-14)
    assert conditional_renyi_entropy(joint_XY, math.inf) == pytest.approx(-math.log2(seeing), abs=1e-12)
    assert arimoto_mutual_information(joint_XY, math.inf) == pytest.approx(math.log2(seeing / blind), abs=1e-12)
