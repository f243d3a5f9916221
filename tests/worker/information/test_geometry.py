import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.information.geometry import (
    box_counting_dimension,
    cell_probabilities,
    correlation_dimension,
    effective_rank,
    information_dimension,
    low_rank_singular_values,
    matrix_entropy_bias,
    power_spectrum,
    spectral_entropy,
    spectral_participation_ratio,
    twonn_dimension,
)

SCALES = [3.0**-n for n in range(2, 8)]

spectra = st.lists(st.floats(0, 1e6), min_size=2, max_size=20).filter(lambda values: max(values) > 1e-3)


def cantor(p, level):
    """Masses of the 2^level intervals of length 3^−level."""
    masses = np.array([1.0])
    for _ in range(level):
        masses = np.concatenate([p * masses, (1 - p) * masses])
    return masses


def middle_thirds(p, N, rng):
    """Middles of intervals of level 20, so that no rounding carries one into the next cell."""
    digits = 2 * (rng.random((N, 20)) > p)
    return digits @ 3.0 ** -np.arange(1, 21) + 3.0**-20 / 2


@pytest.mark.parametrize(("p", "information"), [(0.5, 0.63093), (0.2, 0.45549)])
def test_the_cantor_set_has_one_box_dimension_and_as_many_information_dimensions_as_laws(p, information):
    laws = [cantor(p, level) for level in range(2, 8)]
    assert information_dimension(laws, SCALES) == pytest.approx(information, abs=5e-6)
    assert box_counting_dimension(laws, SCALES) == pytest.approx(math.log(2) / math.log(3))


def test_samples_of_the_cantor_law_have_its_dimensions():
    x_N = middle_thirds(0.2, 100_000, np.random.default_rng(0))
    laws = [cell_probabilities(x_N, scale) for scale in SCALES[:5]]
    assert len(laws[0]) == 4
    assert information_dimension(laws, SCALES[:5]) == pytest.approx(0.45549, abs=0.005)
    assert box_counting_dimension(laws, SCALES[:5]) == pytest.approx(0.63093, abs=0.005)


@pytest.mark.parametrize("D", [1, 2])
def test_a_density_has_the_dimension_of_its_space(D):
    samples_ND = np.random.default_rng(1).random((100_000, D))
    scales = [1 / 4, 1 / 8, 1 / 16]
    assert information_dimension([cell_probabilities(samples_ND, e) for e in scales], scales) == pytest.approx(D, abs=0.01)
    assert correlation_dimension(samples_ND[:3000], [0.01, 0.02, 0.04]) == pytest.approx(D, abs=0.07)


def test_a_mixture_of_an_atom_and_a_density_has_the_density_s_share():
    rng = np.random.default_rng(2)
    x_N = np.where(rng.random(100_000) < 0.3, rng.random(100_000), 0.5)
    scales = [2.0**-n for n in range(6, 11)]
    assert information_dimension([cell_probabilities(x_N, e) for e in scales], scales) == pytest.approx(0.3, abs=0.01)
    assert box_counting_dimension([cell_probabilities(x_N, e) for e in scales], scales) == pytest.approx(1, abs=0.01)


@given(st.floats(0.01, 0.99))
@settings(max_examples=50, deadline=None)
def test_the_information_dimension_is_at_most_the_box_dimension(p):
    laws = [cantor(p, level) for level in range(2, 8)]
    assert information_dimension(laws, SCALES) <= box_counting_dimension(laws, SCALES) + 1e-9


def test_cells_are_the_shares_of_the_grid():
    # cells −1, 0, 0 and 2 of width ½
    assert sorted(cell_probabilities([-0.1, 0.0, 0.49, 1.0], 0.5)) == [0.25, 0.25, 0.5]
    assert sorted(cell_probabilities([[0, 0], [0, 1], [0.2, 0.2]], 0.5)) == pytest.approx([1 / 3, 2 / 3])


def test_the_correlation_dimension_of_the_cantor_law_is_renyis_of_order_two():
    # D_2 = −lg(p² + (1−p)²)/lg 3
    x_N = middle_thirds(0.2, 5000, np.random.default_rng(3))
    expected = -math.log(0.2**2 + 0.8**2) / math.log(3)
    # radii in the gaps between intervals: every pair closer than 3^−n shares its first n digits
    assert correlation_dimension(x_N, [1.2 * 3.0**-n for n in range(1, 6)]) == pytest.approx(expected, abs=0.03)


def test_correlation_dimension_counts_pairs():
    # four corners of a square: 4 of the 6 pairs within 1, all within 1.5
    slope = math.log(6 / 4) / math.log(1.5)
    assert correlation_dimension([[0, 0], [0, 1], [1, 0], [1, 1]], [1.0, 1.5]) == pytest.approx(slope)
    with pytest.raises(ValueError, match=r"no two samples lie within 0\.5"):
        correlation_dimension([[0, 0], [0, 1]], [0.5, 2])


def test_two_neighbours_see_five_gaussian_dimensions_in_sixty_four():
    rng = np.random.default_rng(4)
    axes = np.linalg.qr(rng.normal(size=(64, 5)))[0]
    found = [twonn_dimension(rng.normal(size=(1500, 5)) @ axes.T) for _ in range(5)]
    assert np.mean(found) == pytest.approx(4.93, abs=0.25)  # one draw has a standard deviation of 0.17


def test_two_neighbours_by_hand():
    # samples 0, 1, 3, 7: r₁ = 1, 1, 2, 4 and r₂ = 3, 2, 3, 6; ratios sorted 3/2, 3/2, 2, 3, the last left out
    log_ratio = np.log([1.5, 1.5, 2])
    survival = -np.log([3 / 4, 2 / 4, 1 / 4])
    assert twonn_dimension([0, 1, 3, 7]) == pytest.approx(log_ratio @ survival / (log_ratio @ log_ratio))


def test_two_neighbours_do_not_depend_on_units_place_or_repeats():
    x_ND = np.random.default_rng(5).random((300, 3))
    before = twonn_dimension(x_ND)
    assert twonn_dimension(-7 * x_ND + 2) == pytest.approx(before)
    assert twonn_dimension(np.concatenate([x_ND, x_ND[:50]])) == before


def test_two_neighbours_need_something_to_tell_apart():
    with pytest.raises(ValueError, match="too few ratios"):
        twonn_dimension([1.0, 1.0, 2.0])
    with pytest.raises(ValueError, match="as on a grid"):
        twonn_dimension([[i, j] for i in range(5) for j in range(5)])
    with pytest.raises(ValueError, match="discard of 1"):
        twonn_dimension(np.arange(10.0), discard=1)


@pytest.mark.parametrize("scales", [[0.5], [0.5, 0.5], [0.5, 0], [0.5, math.inf], [[0.5, 1]]])
def test_a_slope_needs_two_scales(scales):
    with pytest.raises(ValueError, match="two different scales"):
        information_dimension([[0.5, 0.5]] * len(scales), scales)


def test_dimensions_refuse_what_is_no_law():
    with pytest.raises(ValueError, match="sum to 1"):
        information_dimension([[0.5, 0.5], [0.5, 0.6]], [0.5, 0.25])
    with pytest.raises(ValueError, match="1 partitions cannot go with 2 scales"):
        box_counting_dimension([[1.0]], [0.5, 0.25])
    with pytest.raises(ValueError, match="positive and finite, not 0"):
        cell_probabilities([1.0], 0)


@pytest.mark.parametrize("T", [64, 63])
def test_a_sine_on_a_bin_is_one_frequency_and_an_impulse_is_all(T):
    t = np.arange(T)
    sine = 3 + 5 * np.sin(2 * np.pi * 7 * t / T + 0.3)
    assert spectral_entropy(power_spectrum(sine)) == pytest.approx(0, abs=1e-12)
    impulse = power_spectrum((t == 11) * 1.0)
    assert spectral_entropy(impulse) == pytest.approx(math.log2(T // 2))
    assert spectral_entropy(impulse, normalized=True) == pytest.approx(1)


def test_two_sines_of_equal_power_are_one_bit():
    t = np.arange(128)
    series = np.sin(2 * np.pi * 5 * t / 128) + np.cos(2 * np.pi * 20 * t / 128)
    assert spectral_entropy(power_spectrum(series)) == pytest.approx(1)
    assert spectral_entropy(power_spectrum(series), normalized=True) == pytest.approx(1 / 6)


def test_a_series_spectrum_forgets_its_level_and_its_scale_goes_out_of_the_entropy():
    series = np.random.default_rng(6).normal(size=100)
    assert len(power_spectrum(series)) == 50
    np.testing.assert_allclose(power_spectrum(series + 40), power_spectrum(series), rtol=1e-9)
    assert spectral_entropy(power_spectrum(-9 * series)) == pytest.approx(spectral_entropy(power_spectrum(series)))


def test_no_power_has_no_entropy():
    flat_T = np.full(49, 0.7)
    assert (flat_T - flat_T.mean()).any()  # rounding, which must not pass for a spectrum
    with pytest.raises(ValueError, match="all 0"):
        spectral_entropy(power_spectrum(flat_T))
    with pytest.raises(ValueError, match="0/0"):
        spectral_entropy([1.0], normalized=True)
    with pytest.raises(ValueError, match="flat array of at least 2"):
        power_spectrum([[1, 2], [3, 4]])


def test_effective_rank_by_hand():
    # (½, ¼, ¼) has 1.5 bits
    assert effective_rank([2, 1, 1, 0]) == pytest.approx(2**1.5)
    assert effective_rank([3, 3, 3]) == pytest.approx(3)
    assert effective_rank([5, 0]) == 1


@given(spectra)
@settings(max_examples=100, deadline=None)
def test_ranks_lie_between_one_and_the_number_of_directions(values):
    rank = np.count_nonzero(values)
    of_variances = spectral_participation_ratio(np.diag(values))
    assert 1 - 1e-9 <= effective_rank(values) <= rank * (1 + 1e-9)
    assert 1 - 1e-9 <= of_variances <= rank * (1 + 1e-9)
    # Rényi's entropies fall with their order: exp H_2 ≤ exp H_1
    assert of_variances <= effective_rank(values) * (1 + 1e-9)


def test_participation_of_a_spectrum_by_hand():
    assert spectral_participation_ratio(np.diag([0.5, 0.25, 0.25])) == pytest.approx(8 / 3)


def test_participation_is_the_same_in_any_basis_and_of_the_gram_matrix():
    rng = np.random.default_rng(7)
    x_ND = rng.normal(size=(30, 12)) * np.arange(1, 13)
    turn = np.linalg.qr(rng.normal(size=(12, 12)))[0]
    C = x_ND.T @ x_ND
    eigenvalues = np.linalg.eigvalsh(C)
    expected = eigenvalues.sum() ** 2 / np.square(eigenvalues).sum()
    for same in (C, 1e-8 * C, turn @ C @ turn.T, x_ND @ x_ND.T):
        assert spectral_participation_ratio(same) == pytest.approx(expected)


def test_the_correction_finds_256_directions_in_few_samples():
    rng = np.random.default_rng(8)
    for N in (256, 1000, 4000):
        x_ND = rng.normal(size=(N, 256))
        raw, corrected = (spectral_participation_ratio(x_ND.T @ x_ND, samples) for samples in (None, N))
        assert raw < 256 * N / (N + 240)
        assert corrected == pytest.approx(256, abs=5)


def test_participation_as_large_as_the_sample_has_no_upper_end():
    assert spectral_participation_ratio(np.eye(5), samples=5) == math.inf


def test_what_does_not_vary_has_no_participation_ratio():
    with pytest.raises(ValueError, match="trace is 0"):
        spectral_participation_ratio(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="symmetric"):
        spectral_participation_ratio([[1, 1], [0, 1]])
    with pytest.raises(ValueError, match="square"):
        spectral_participation_ratio(np.ones((2, 3)))
    with pytest.raises(ValueError, match="samples must be at least 1"):
        spectral_participation_ratio(np.eye(2), samples=0)


@pytest.mark.parametrize("ratio", [4, 16])
def test_the_bias_of_matrix_entropy_is_minus_d_over_2n_nats(ratio):
    D = 100
    rng = np.random.default_rng(9)
    draws = [rng.normal(size=(ratio * D, D)) for _ in range(5)]
    spectra = [np.linalg.eigvalsh(x_ND.T @ x_ND) for x_ND in draws]
    measured = np.mean([math.log2(effective_rank(spectrum_D)) for spectrum_D in spectra]) - math.log2(D)
    assert matrix_entropy_bias(D, ratio * D) == pytest.approx(-1 / (2 * ratio) / math.log(2))
    assert measured == pytest.approx(matrix_entropy_bias(D, ratio * D), rel=0.04)
    # the design's measurement, one draw, of a standard deviation of 0.0018 and 0.0006 nats
    assert measured * math.log(2) == pytest.approx({4: -0.1272, 16: -0.0317}[ratio], abs={4: 0.004, 16: 0.0013}[ratio])


def test_a_bias_needs_samples_and_dimensions():
    with pytest.raises(ValueError, match="at least 1 dimension"):
        matrix_entropy_bias(0, 5)


@given(st.integers(1, 12), st.integers(1, 6), st.integers(1, 12), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_the_factors_have_the_singular_values_of_their_product(M, R, N, seed):
    rng = np.random.default_rng(seed)
    B_MR, A_RN = rng.normal(size=(M, R)), rng.normal(size=(R, N))
    values = low_rank_singular_values(B_MR, A_RN, scale=-2.0)
    assert values.shape == (min(M, R, N),)
    expected = np.linalg.svd(2 * B_MR @ A_RN, compute_uv=False)[: min(M, R, N)]
    np.testing.assert_allclose(values, expected, atol=1e-9)


def test_a_fresh_adapter_has_no_singular_value_but_0():
    assert low_rank_singular_values(np.zeros((8, 2)), np.ones((2, 6))).tolist() == [0, 0]
    with pytest.raises(ValueError, match="no product"):
        low_rank_singular_values(np.zeros((8, 2)), np.ones((3, 6)))
