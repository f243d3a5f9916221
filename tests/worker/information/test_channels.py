import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.information.channels import (
    awgn_capacity,
    channel_capacity,
    distortion_rate,
    gaussian_distortion_rate,
    gaussian_rate_distortion,
    parallel_gaussian_capacity,
    rate_distortion,
    shannon_hartley,
)

HAMMING = 1 - np.eye(2)
seeds = st.integers(0, 2**32 - 1)


def h(p):
    return 0.0 if p in (0, 1) else -p * math.log2(p) - (1 - p) * math.log2(1 - p)


def binary_symmetric(epsilon):
    return np.array([[1 - epsilon, epsilon], [epsilon, 1 - epsilon]])


def random_channel(rng, X, Y):
    return rng.dirichlet(np.full(Y, 0.7), size=X)


def information(p_X, channel_XY):
    joint = p_X[:, None] * channel_XY
    used = joint > 0
    return (joint[used] * np.log2(joint[used] / np.outer(p_X, joint.sum(axis=0))[used])).sum()


@pytest.mark.parametrize(
    ("rows", "capacity"),
    [
        (binary_symmetric(0.11), 0.50008404),
        ([[0.7, 0.3, 0], [0, 0.3, 0.7]], 0.7),  # erasure
        ([[1, 0], [0.5, 0.5]], math.log2(5 / 4)),  # Z channel
        (np.eye(7), math.log2(7)),
        (binary_symmetric(0.5), 0.0),
        ([[1.0]], 0.0),
        # the noisy typewriter of CT §7.1.3: half of 26 letters
        ((np.eye(26) + np.roll(np.eye(26), 1, axis=1)) / 2, math.log2(13)),
    ],
)
def test_the_capacity_of_textbook_channels(rows, capacity):
    found = channel_capacity(rows)
    assert found.lower_bits == pytest.approx(capacity, abs=2e-9)
    assert found.lower_bits - 1e-8 <= capacity <= found.upper_bits + 1e-8
    assert 0 <= found.upper_bits - found.lower_bits <= 1e-9


def test_the_z_channel_is_best_used_with_two_fifths_of_its_noisy_input():
    assert channel_capacity([[1, 0], [0.5, 0.5]]).input_X == pytest.approx([0.6, 0.4], abs=1e-5)


def test_an_input_that_other_inputs_do_better_is_not_used():
    assert channel_capacity([[0.5, 0.5], [1, 0], [0, 1]]).input_X == pytest.approx([0, 0.5, 0.5], abs=1e-4)


@given(seeds, st.integers(1, 5), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_capacity_is_certified_reached_by_its_input_and_no_more_than_the_alphabets_allow(seed, X, Y):
    rng = np.random.default_rng(seed)
    rows = random_channel(rng, X, Y)
    found = channel_capacity(rows)
    assert found.upper_bits - found.lower_bits <= 1e-9
    assert information(found.input_X, rows) == pytest.approx(found.lower_bits, abs=1e-10)
    assert found.upper_bits <= min(math.log2(X), math.log2(Y)) + 1e-8
    for _ in range(5):
        assert information(rng.dirichlet(np.ones(X)), rows) <= found.upper_bits + 1e-12


@given(seeds)
@settings(max_examples=15, deadline=None)
def test_capacity_is_convex_in_the_channel_and_falls_when_the_output_is_processed(seed):
    rng = np.random.default_rng(seed)
    a, b, after = random_channel(rng, 3, 4), random_channel(rng, 3, 4), random_channel(rng, 4, 3)
    mixed = channel_capacity((a + b) / 2).lower_bits
    assert mixed <= (channel_capacity(a).upper_bits + channel_capacity(b).upper_bits) / 2 + 1e-12
    assert channel_capacity(a @ after).lower_bits <= channel_capacity(a).upper_bits + 1e-12


def test_the_bracket_holds_before_the_iteration_has_converged():
    rows = random_channel(np.random.default_rng(4), 6, 6)
    exact, rough = channel_capacity(rows), channel_capacity(rows, max_iterations=3)
    assert rough.upper_bits - rough.lower_bits > 1e-3
    assert rough.lower_bits <= exact.upper_bits
    assert rough.upper_bits >= exact.lower_bits


def test_probabilities_of_1e_300_do_no_harm():
    found = channel_capacity([[1 - 1e-300, 1e-300], [1e-300, 1 - 1e-300]])
    assert found.lower_bits == pytest.approx(1, abs=1e-12)
    assert found.upper_bits == pytest.approx(1, abs=1e-12)


def test_rows_that_do_not_sum_to_one_are_refused():
    with pytest.raises(ValueError, match="sum to"):
        channel_capacity([[0.5, 0.4], [0.5, 0.5]])


def test_a_telephone_line_carries_30_kbit_a_second():
    assert shannon_hartley(3000, 1000) == pytest.approx(29901.68, abs=0.005)
    assert awgn_capacity(1) == 0.5
    assert awgn_capacity(1e-300) == pytest.approx(1e-300 / (2 * math.log(2)))


def test_water_is_poured_where_the_noise_is_low():
    assert parallel_gaussian_capacity([1.0, 10.0], 5.0) == pytest.approx(awgn_capacity(5))
    # level (12 + 1 + 3)/2 = 8
    assert parallel_gaussian_capacity([3.0, 1.0], 12.0) == pytest.approx(0.5 * math.log2(8) + 0.5 * math.log2(8 / 3))
    assert parallel_gaussian_capacity([1.0, 2.0], 0.0) == 0


@pytest.mark.parametrize(("p", "distortion"), [(0.5, 0.1), (0.5, 0.49), (0.3, 0.1), (0.3, 1e-5), (0.3, 0.29)])
def test_the_rate_of_a_biased_coin_is_h_p_less_h_d(p, distortion):
    found = rate_distortion([1 - p, p], HAMMING, distortion)
    assert found.lower_bits - 1e-12 <= h(p) - h(distortion) <= found.upper_bits + 1e-12
    assert found.upper_bits - found.lower_bits <= 1e-9


@pytest.mark.parametrize(("distortion", "rate"), [(0.0, h(0.3)), (0.3, 0.0), (1.0, 0.0)])
def test_the_rate_ends_at_the_entropy_and_at_zero(distortion, rate):
    found = rate_distortion([0.7, 0.3], HAMMING, distortion)
    assert found.lower_bits == pytest.approx(rate, abs=1e-9)
    assert found.upper_bits == pytest.approx(rate, abs=1e-9)


def test_a_distortion_out_of_reach_has_an_infinite_rate():
    assert rate_distortion([0.5, 0.5], HAMMING + 1, 0.9).lower_bits == math.inf


def test_a_uniform_source_of_m_symbols():
    # CT problem 10.5: lg m − h(D) − D lg(m − 1)
    found = rate_distortion(np.full(5, 0.2), 1 - np.eye(5), 0.3)
    assert found.upper_bits == pytest.approx(math.log2(5) - h(0.3) - 0.3 * 2, abs=2e-9)


def test_an_erasure_distortion_gives_a_straight_line():
    # a reproduction "do not know" costs 1, a wrong one very much: R(D) = 1 − D, CT problem 10.7
    found = rate_distortion([0.5, 0.5], [[0, 1, 1e9], [1e9, 1, 0]], 0.25)
    assert found.lower_bits - 1e-9 <= 0.75 <= found.upper_bits + 1e-9
    assert found.upper_bits - found.lower_bits <= 1e-8


@given(seeds, st.integers(2, 4), st.integers(2, 4))
@settings(max_examples=8, deadline=None)
def test_the_rate_falls_is_convex_and_is_reached_by_the_test_channel(seed, X, Z):
    rng = np.random.default_rng(seed)
    p_X, distortion_XZ = rng.dirichlet(np.ones(X)), rng.random((X, Z))
    least, most = p_X @ distortion_XZ.min(axis=1), (p_X @ distortion_XZ).min()
    a, b = sorted(rng.uniform(least, most, size=2))
    at_a, middle, at_b = (rate_distortion(p_X, distortion_XZ, d, 1e-7) for d in (a, (a + b) / 2, b))
    assert at_a.upper_bits >= middle.lower_bits - 1e-9
    assert middle.upper_bits >= at_b.lower_bits - 1e-9
    assert middle.lower_bits <= (at_a.upper_bits + at_b.upper_bits) / 2 + 1e-9
    test_channel = at_a.test_channel_XZ
    assert p_X @ (test_channel * distortion_XZ).sum(axis=1) <= a + 1e-9
    assert information(p_X, test_channel) <= at_a.upper_bits + 1e-9
    assert at_a.upper_bits - at_a.lower_bits <= 1e-7


@given(seeds)
@settings(max_examples=8, deadline=None)
def test_distortion_rate_is_the_inverse(seed):
    rng = np.random.default_rng(seed)
    p_X, distortion_XZ = rng.dirichlet(np.ones(3)), rng.random((3, 3))
    least, most = p_X @ distortion_XZ.min(axis=1), (p_X @ distortion_XZ).min()
    d = (least + most) / 2
    rate = rate_distortion(p_X, distortion_XZ, d, 1e-8)
    back = distortion_rate(p_X, distortion_XZ, rate.upper_bits, 1e-8)
    slope = max((most - d) / max(rate.upper_bits, 1e-9), 1)
    assert back.lower - 1e-7 * slope <= d <= back.upper + 1e-7 * slope


def test_the_distortion_of_a_fair_coin_at_a_rate():
    found = distortion_rate([0.5, 0.5], HAMMING, 1 - h(0.1))
    assert found.lower - 1e-12 <= 0.1 <= found.upper + 1e-12
    assert found.upper - found.lower <= 1e-9
    assert distortion_rate([0.5, 0.5], HAMMING, 0.0).upper == 0.5
    assert distortion_rate([0.5, 0.5], HAMMING, 2.0).upper == 0


def test_every_bit_a_weight_quarters_the_error_of_a_gaussian():
    assert gaussian_distortion_rate(3.0, 2) == 3 / 16
    assert gaussian_rate_distortion(3.0, 3 / 16) == pytest.approx(2)
    assert gaussian_rate_distortion(3.0, 5.0) == 0
    assert gaussian_rate_distortion(3.0, 0.0) == math.inf


def test_water_fills_the_small_variances_first():
    # θ = 1 floods the variance ½: D = 1 + 1 + ½
    assert gaussian_rate_distortion([4.0, 0.5, 2.0], 2.5) == pytest.approx(0.5 * 2 + 0.5 * 1)


def test_a_quantiser_of_gaussian_weights_stays_above_the_bound():
    x = np.random.default_rng(0).normal(size=100_000)
    edges = np.array([-0.9816, 0, 0.9816])  # Max 1960, four levels: error .1175
    cells = np.digitize(x, edges)
    error = sum(((x[cells == k] - x[cells == k].mean()) ** 2).sum() for k in range(4)) / len(x)
    assert gaussian_distortion_rate(1.0, 2) < error < 2 * gaussian_distortion_rate(1.0, 2)


@pytest.mark.parametrize(
    "call",
    [
        lambda: awgn_capacity(-1),
        lambda: rate_distortion([0.5, 0.5], [[0, -1], [1, 0]], 0.1),
        lambda: rate_distortion([0.5, 0.5], [0, 1], 0.1),
        lambda: rate_distortion([0.5, 0.4], HAMMING, 0.1),
        lambda: distortion_rate([0.5, 0.5], HAMMING, math.nan),
        lambda: rate_distortion([0.5, 0.5], HAMMING, math.nan),
        lambda: parallel_gaussian_capacity([0.0], 1),
        lambda: parallel_gaussian_capacity([[1.0]], 1),
        lambda: gaussian_rate_distortion([-1.0], 1),
    ],
)
def test_what_makes_no_sense_is_refused(call):
    with pytest.raises(ValueError, match="must"):
        call()
