import math

import numpy as np
import pytest

from worker.information.samples import covariance_matrix, sample_covariance, shrunk_covariance, vectors


def test_a_flat_array_is_samples_of_one_variable():
    assert vectors([1, 2, 3]).tolist() == [[1.0], [2.0], [3.0]]


def test_the_place_of_a_value_that_is_not_finite_is_named():
    with pytest.raises(ValueError, match="sample 1, variable 0 is nan"):
        vectors([[1, 2], [math.nan, 3]])


@pytest.mark.parametrize("broken", [[], np.zeros((2, 2, 2)), 3.0])
def test_samples_are_vectors(broken):
    with pytest.raises(ValueError, match="N vectors of D numbers"):
        vectors(broken)


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (np.ones((2, 3)), "square"),
        ([[1, 0.5], [0.4, 1]], "symmetric"),
        ([[1, 2], [2, 1]], "negative eigenvalue, this has -1"),
        ([[math.nan]], "finite"),
    ],
)
def test_what_is_no_covariance_is_refused_with_the_reason(broken, why):
    with pytest.raises(ValueError, match=why):
        covariance_matrix(broken)


def test_a_singular_covariance_is_one_whatever_its_size():
    x_ND = np.random.default_rng(0).normal(size=(20, 60)) * 1e4
    covariance_matrix(sample_covariance(x_ND))


def test_the_sample_covariance_divides_by_n():
    assert sample_covariance([[0, 0], [2, 4]]).tolist() == [[1, 2], [2, 4]]


def test_shrinkage_by_hand():
    # samples ±(2, 0), ±(0, 1): S = diag(2, ½), trace mean 5/4, d² = 9/8; Σ‖x‖⁴ = 34, N‖S‖² = 17, so b² = 17/16 and λ = 17/18
    covariance, shrinkage = shrunk_covariance([[2, 0], [-2, 0], [0, 1], [0, -1]])
    assert shrinkage == pytest.approx(17 / 18)
    np.testing.assert_allclose(covariance, np.diag([2, 0.5]) / 18 + 17 / 18 * 1.25 * np.eye(2))


def test_where_noise_explains_all_differences_nothing_but_the_target_is_left():
    covariance, shrinkage = shrunk_covariance([[3, 0], [-3, 0], [0, 3.1], [0, -3.1]])
    assert shrinkage == 1
    np.testing.assert_allclose(covariance, (9 + 9.61) / 4 * np.eye(2))


def test_the_noise_is_the_spread_of_the_single_samples_products():
    x_ND = np.random.default_rng(1).normal(size=(30, 4)) @ np.diag([3, 1, 1, 0.2]) + 7
    S = sample_covariance(x_ND)
    centred_ND = x_ND - x_ND.mean(axis=0)
    noise = sum(np.square(np.outer(x, x) - S).sum() for x in centred_ND) / 30**2
    apart = np.square(S - np.trace(S) / 4 * np.eye(4)).sum()
    assert shrunk_covariance(x_ND)[1] == pytest.approx(noise / apart)


def test_shrinking_keeps_the_trace_and_makes_the_matrix_invertible():
    x_ND = np.random.default_rng(2).normal(size=(20, 50))
    covariance, shrinkage = shrunk_covariance(x_ND)
    assert 0 < shrinkage <= 1
    assert np.trace(covariance) == pytest.approx(np.trace(sample_covariance(x_ND)))
    assert np.linalg.eigvalsh(covariance)[0] > 0.01


def test_shrinking_brings_the_estimate_nearer_and_fades_as_samples_come_in():
    rng = np.random.default_rng(3)
    truth_D = np.linspace(0.2, 3, 30)
    errors, shrinkages = [], []
    for N in (20, 2000):
        x_ND = rng.normal(size=(N, 30)) * np.sqrt(truth_D)
        covariance, shrinkage = shrunk_covariance(x_ND)
        errors.append([np.square(C - np.diag(truth_D)).sum() for C in (covariance, sample_covariance(x_ND))])
        shrinkages.append(shrinkage)
    assert errors[0][0] < errors[0][1] / 2
    assert errors[1][0] < errors[1][1]
    assert shrinkages[1] < 0.1 < shrinkages[0]


def test_shrinking_does_not_depend_on_where_the_samples_lie():
    x_ND = np.random.default_rng(4).normal(size=(40, 3))
    covariance, shrinkage = shrunk_covariance(x_ND)
    moved, same = shrunk_covariance(x_ND + np.array([100, -5, 3]))
    np.testing.assert_allclose(moved, covariance, atol=1e-10)
    assert same == pytest.approx(shrinkage)
    scaled, again = shrunk_covariance(10 * x_ND)
    np.testing.assert_allclose(scaled, 100 * covariance)
    assert again == pytest.approx(shrinkage)


def test_samples_that_do_not_vary_have_a_covariance_of_0():
    covariance, shrinkage = shrunk_covariance(np.ones((5, 2)))
    assert covariance.tolist() == [[0, 0], [0, 0]]
    assert shrinkage == 1
