import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from worker.information.continuous import (
    differential_entropy,
    exponential_entropy,
    gaussian_entropy,
    gaussian_multi_information,
    gaussian_mutual_information,
    kozachenko_leonenko_entropy,
    ksg_mutual_information,
    laplace_entropy,
    negentropy,
    negentropy_from_samples,
    uniform_entropy,
    vasicek_entropy,
)

CORRELATED = [[1, 0.9], [0.9, 1]]


@st.composite
def covariances(draw, size=4):
    """Well-conditioned ones, with scales from 1e-3 to 1e3."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    factor = rng.normal(size=(size, size)) + 0.5 * np.eye(size)
    scale = 10 ** rng.uniform(-3, 3, size)
    return scale[:, None] * (factor @ factor.T + 0.1 * np.eye(size)) * scale


@pytest.mark.parametrize(
    ("law", "bits"),
    [
        (stats.norm(0, 2), 0.5 * math.log2(2 * math.pi * math.e * 4)),
        (stats.norm(5, 2), 3.0470956),
        (stats.expon(scale=1 / 2), 0.4426950),
        (stats.laplace(scale=3), math.log2(6 * math.e)),
        (stats.cauchy(), math.log2(4 * math.pi)),
    ],
)
def test_entropy_of_a_density_in_closed_form(law, bits):
    low, high = law.support()
    assert differential_entropy(law.pdf, low, high) == pytest.approx(bits, abs=1e-6)


def test_the_closed_forms():
    assert gaussian_entropy(4.0) == pytest.approx(3.04710, abs=5e-6)
    assert exponential_entropy(2) == pytest.approx(0.44270, abs=5e-6)
    assert uniform_entropy(0, 0.25) == -2
    assert laplace_entropy(0.5) == pytest.approx(math.log2(math.e))


@pytest.mark.parametrize(
    ("bits", "oracle"),
    [
        (gaussian_entropy(0.3**2), stats.norm(1, 0.3)),
        (exponential_entropy(0.2), stats.expon(scale=5)),
        (laplace_entropy(0.2), stats.laplace(scale=0.2)),
        (uniform_entropy(-1, 4), stats.uniform(-1, 5)),
    ],
)
def test_closed_forms_agree_with_scipy(bits, oracle):
    assert bits == pytest.approx(float(oracle.entropy()) / math.log(2))


def test_where_a_density_is_0_it_adds_nothing():
    assert differential_entropy(lambda x: 0.5 if x < 2 else 0.0, 0, 4) == pytest.approx(1, abs=1e-6)


def test_what_is_no_density_is_refused():
    with pytest.raises(ValueError, match=r"integrates to 2 over \[0, 1\], not to 1"):
        differential_entropy(lambda x: 2.0, 0, 1)
    with pytest.raises(ValueError, match="negative"):
        differential_entropy(lambda x: 1 + 2 * math.cos(2 * math.pi * x), 0, 1)


def test_of_all_densities_with_a_variance_the_gaussian_has_the_most():
    for law in (stats.uniform(), stats.laplace(), stats.logistic(), stats.beta(2, 5)):
        low, high = law.support()
        assert differential_entropy(law.pdf, low, high) < gaussian_entropy(law.var())


@given(covariances(), st.floats(1e-6, 1e6))
@settings(max_examples=50, deadline=None)
def test_a_change_of_units_adds_their_logarithm(covariance, factor):
    units = np.array([factor, 1, 1, 1])
    moved = gaussian_entropy(units[:, None] * covariance * units)
    assert moved == pytest.approx(gaussian_entropy(covariance) + math.log2(factor), abs=1e-9)


def test_a_linear_map_adds_the_logarithm_of_its_determinant():
    A = np.array([[2, 1, 0], [0, 3, 1], [1, 0, 1]])
    covariance = np.array([[2, 1, 0.5], [1, 3, 0], [0.5, 0, 1]])
    assert gaussian_entropy(A @ covariance @ A.T) == pytest.approx(gaussian_entropy(covariance) + math.log2(7))


@given(covariances())
@settings(max_examples=50, deadline=None)
def test_the_chain_rule_of_gaussian_information(covariance):
    whole = gaussian_mutual_information(covariance, [0], [1, 2, 3])
    parts = gaussian_mutual_information(covariance, [0], [1]) + gaussian_mutual_information(covariance, [0], [2, 3], given=[1])
    assert whole == pytest.approx(parts, abs=1e-6)


@given(covariances())
@settings(max_examples=50, deadline=None)
def test_gaussian_information_is_what_the_entropies_leave(covariance):
    def h(*variables):
        return gaussian_entropy(covariance[np.ix_(variables, variables)])

    assert gaussian_mutual_information(covariance, [0, 2], [1, 3]) == pytest.approx(h(0, 2) + h(1, 3) - h(0, 1, 2, 3), abs=1e-6)
    given_z = h(0, 3) + h(1, 3) - h(0, 1, 3) - h(3)
    assert gaussian_mutual_information(covariance, [0], [1], given=[3]) == pytest.approx(given_z, abs=1e-6)
    assert gaussian_multi_information(covariance) == pytest.approx(sum(h(i) for i in range(4)) - h(0, 1, 2, 3), abs=1e-6)


@given(covariances())
@settings(max_examples=50, deadline=None)
def test_gaussian_information_survives_invertible_maps_of_each_side(covariance):
    rng = np.random.default_rng(1)
    A = np.zeros((4, 4))
    A[:2, :2], A[2:, 2:] = rng.normal(size=(2, 2)), rng.normal(size=(2, 2))
    scale = np.sqrt(np.diag(covariance))  # of one unit: a mixture of 1e-3 and 1e3 has lost the digits of the first
    correlation = covariance / np.outer(scale, scale)
    before = gaussian_mutual_information(covariance, [0, 1], [2, 3])
    assert gaussian_mutual_information(A @ correlation @ A.T, [0, 1], [2, 3]) == pytest.approx(before, abs=1e-6)


def test_two_gaussians_by_hand():
    assert gaussian_mutual_information(CORRELATED, [0], [1]) == pytest.approx(1.19796, abs=5e-6)
    assert gaussian_multi_information(CORRELATED) == pytest.approx(1.19796, abs=5e-6)
    assert gaussian_mutual_information(np.eye(3), [0], [1, 2]) == gaussian_multi_information(np.eye(3)) == 0


def test_a_common_cause_explains_the_correlation():
    # x = z + e, y = z + f, all of variance 1: correlation ½, and none given z
    covariance = [[2, 1, 1], [1, 2, 1], [1, 1, 1]]
    assert gaussian_mutual_information(covariance, [0], [1]) == pytest.approx(-0.5 * math.log2(3 / 4))
    assert gaussian_mutual_information(covariance, [0], [1], given=[2]) == pytest.approx(0, abs=1e-12)


def test_what_determines_the_other_tells_infinitely_much():
    copy = [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert gaussian_mutual_information(copy, [0], [1]) == math.inf
    assert gaussian_mutual_information(copy, [0, 2], [1]) == math.inf
    assert gaussian_multi_information(copy) == math.inf
    assert gaussian_mutual_information(copy, [0], [2]) == 0
    assert gaussian_mutual_information(copy, [0], [2], given=[1]) == 0
    assert gaussian_entropy(copy) == -math.inf


def test_a_dead_channel_tells_nothing():
    dead = [[1, 0.9, 0], [0.9, 1, 0], [0, 0, 0]]
    assert gaussian_multi_information(dead) == pytest.approx(1.19796, abs=5e-6)
    assert gaussian_mutual_information(dead, [0], [1, 2]) == pytest.approx(1.19796, abs=5e-6)
    assert gaussian_mutual_information(dead, [0], [2]) == 0
    assert gaussian_entropy(dead) == -math.inf


@pytest.mark.parametrize(("x", "y", "z"), [([0], [0], []), ([], [1], []), ([0], [1], [1])])
def test_each_variable_stands_on_one_side(x, y, z):
    with pytest.raises(ValueError, match="no variable may be named twice"):
        gaussian_mutual_information(CORRELATED, x, y, z)


def test_negentropy_of_the_uniform_density():
    # ½ lg(2πe/12) = ½ lg(πe/6)
    assert negentropy(lambda x: 1.0, 0, 1) == pytest.approx(0.25461, abs=5e-6)
    assert negentropy(lambda x: 0.2, -3, 2) == pytest.approx(0.25461, abs=5e-6)


def test_negentropy_of_a_gaussian_is_0():
    assert negentropy(stats.norm(3, 0.5).pdf) == pytest.approx(0, abs=1e-6)


def test_negentropy_against_the_uniform_density_is_the_divergence_from_it():
    law = stats.beta(2, 2)
    assert negentropy(law.pdf, 0, 1, reference="uniform") == pytest.approx(-law.entropy() / math.log(2), abs=1e-6)
    assert negentropy(lambda x: 1.0, 0, 1, reference="uniform") == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match="infinite range"):
        negentropy(stats.norm().pdf, reference="uniform")
    with pytest.raises(ValueError, match="'laplace'"):
        negentropy(stats.norm().pdf, reference="laplace")


@pytest.mark.parametrize("estimator", [vasicek_entropy, kozachenko_leonenko_entropy])
def test_samples_of_known_densities(estimator):
    rng = np.random.default_rng(2)
    assert estimator(rng.normal(0, 2, 4000)) == pytest.approx(3.04710, abs=0.06)
    assert estimator(rng.exponential(0.5, 4000)) == pytest.approx(0.44270, abs=0.06)
    assert estimator(rng.uniform(0, 0.25, 4000)) == pytest.approx(-2, abs=0.06)


@given(st.floats(1e-3, 1e3), st.floats(-100, 100))
@settings(max_examples=30, deadline=None)
def test_moving_samples_changes_nothing_and_scaling_adds_its_logarithm(factor, offset):
    x_ND = np.random.default_rng(3).normal(size=(60, 2))
    for estimator, samples, D in ((kozachenko_leonenko_entropy, x_ND, 2), (vasicek_entropy, x_ND[:, 0], 1)):
        before = estimator(samples)
        assert estimator(-factor * samples + offset) == pytest.approx(before + D * math.log2(factor), abs=1e-6)


def test_neighbours_agree_with_the_gaussian_in_several_dimensions():
    rng = np.random.default_rng(4)
    A = rng.normal(size=(3, 3))
    x_ND = rng.normal(size=(6000, 3)) @ A.T
    assert kozachenko_leonenko_entropy(x_ND) == pytest.approx(gaussian_entropy(A @ A.T), abs=0.08)


def test_kozachenko_leonenko_by_hand():
    # samples 0, 1, 3 with k = 1: distances 1, 1, 2; ψ(3) − ψ(1) = 3/2, unit ball of length 2
    nats = 1.5 + math.log(2) + math.log(2) / 3
    assert kozachenko_leonenko_entropy([0, 1, 3], k=1) == pytest.approx(nats / math.log(2))


def test_atoms_have_no_density():
    coins = np.random.default_rng(5).integers(0, 2, 200)
    assert kozachenko_leonenko_entropy(coins) == -math.inf
    assert vasicek_entropy(coins) == -math.inf
    with pytest.raises(ValueError, match="count them instead"):
        ksg_mutual_information(coins, coins)


def test_negentropy_of_samples():
    rng = np.random.default_rng(6)
    assert negentropy_from_samples(rng.random(4000)) == pytest.approx(0.25461, abs=0.06)
    assert negentropy_from_samples(rng.normal(size=(4000, 2))) == pytest.approx(0, abs=0.08)


def test_negentropy_of_samples_survives_any_invertible_affine_map():
    rng = np.random.default_rng(7)
    x_ND = rng.laplace(size=(500, 3))
    moved_ND = x_ND @ rng.normal(size=(3, 3)) * [1, 100, 0.01] + [5, -3, 1]
    assert negentropy_from_samples(moved_ND) == pytest.approx(negentropy_from_samples(x_ND), abs=1e-9)


def test_negentropy_on_a_lower_dimension_has_no_meaning():
    x_N = np.random.default_rng(8).normal(size=100)
    with pytest.raises(ValueError, match="do not span"):
        negentropy_from_samples(np.stack([x_N, 2 * x_N], axis=1))


def test_ksg_finds_the_gaussian_value():
    rng = np.random.default_rng(9)
    draws = [rng.multivariate_normal([0, 0], CORRELATED, size=2000) for _ in range(10)]
    estimates = [ksg_mutual_information(x_ND[:, 0], x_ND[:, 1]) for x_ND in draws]
    assert np.mean(estimates) == pytest.approx(1.19796, abs=0.05)


def test_ksg_of_independent_variables_is_near_0():
    rng = np.random.default_rng(10)
    assert ksg_mutual_information(rng.normal(size=(2000, 2)), rng.random(2000)) == pytest.approx(0, abs=0.05)


def test_ksg_sees_what_correlation_does_not():
    rng = np.random.default_rng(11)
    x_N = rng.normal(size=2000)
    y_N = x_N**2 + 0.1 * rng.normal(size=2000)
    assert abs(np.corrcoef(x_N, y_N)[0, 1]) < 0.1
    assert ksg_mutual_information(x_N, y_N) > 1


def test_ksg_by_counting():
    """Equation 8 of the paper, by the definition and not by trees."""
    rng = np.random.default_rng(12)
    x_N = rng.normal(size=40)
    y_N = x_N + rng.normal(size=40)
    x_N, y_N = x_N / x_N.std(), y_N / y_N.std()
    apart_x, apart_y = (np.abs(v[:, None] - v[None, :]) for v in (x_N, y_N))
    r_N = np.sort(np.maximum(apart_x, apart_y), axis=1)[:, 3]
    n_x, n_y = ((apart < r_N[:, None]).sum(axis=1) - 1 for apart in (apart_x, apart_y))
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, 60))])  # ψ(n) + γ = harmonic[n − 1]
    nats = harmonic[2] + harmonic[39] - (harmonic[n_x] + harmonic[n_y]).mean()
    assert ksg_mutual_information(x_N, y_N) == pytest.approx(nats / math.log(2))


@given(st.floats(1e-3, 1e3), st.floats(-50, 50))
@settings(max_examples=30, deadline=None)
def test_ksg_is_symmetric_and_survives_a_change_of_units(factor, offset):
    rng = np.random.default_rng(13)
    x_N = rng.normal(size=80)
    y_N = x_N + rng.normal(size=80)
    before = ksg_mutual_information(x_N, y_N)
    assert ksg_mutual_information(y_N, -factor * x_N + offset) == pytest.approx(before, abs=0.02)


def test_what_neighbours_cannot_do_is_refused():
    x_ND = np.random.default_rng(14).normal(size=(50, 6))
    with pytest.raises(ValueError, match="12 dimensions"):
        ksg_mutual_information(x_ND, x_ND)
    with pytest.raises(ValueError, match="50 samples of x cannot be paired with 49"):
        ksg_mutual_information(x_ND[:, 0], x_ND[:49, 1])
    with pytest.raises(ValueError, match="k must lie between 1 and 49"):
        kozachenko_leonenko_entropy(x_ND, k=50)
    with pytest.raises(ValueError, match="use kozachenko_leonenko_entropy"):
        vasicek_entropy(x_ND)


@pytest.mark.parametrize("broken", [0, -1, math.nan, math.inf])
def test_scales_and_rates_are_positive(broken):
    for entropy in (exponential_entropy, laplace_entropy):
        with pytest.raises(ValueError, match="positive and finite"):
            entropy(broken)
    with pytest.raises(ValueError, match="lower to a higher"):
        uniform_entropy(1, 1)


def test_variables_are_numbered():
    for x, y in (([2], [0]), ([-1], [1]), ([0.5], [1])):
        with pytest.raises(ValueError, match="numbered 0 to 1"):
            gaussian_mutual_information(np.eye(2), x, y)


def test_an_interval_is_finite():
    for low, high in ((0, math.inf), (-math.inf, 1), (1, 1), (math.nan, 1)):
        with pytest.raises(ValueError, match="an interval is finite"):
            uniform_entropy(low, high)
