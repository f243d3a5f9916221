import math

import numpy as np
import pytest
from hypothesis import given, strategies

from tests.worker.information.draws import EACH, several
from worker.information.generalized import renyi_entropy
from worker.information.quantum import (
    density_matrix,
    matrix_based_conditional_entropy,
    matrix_based_entropy,
    matrix_based_joint_entropy,
    matrix_based_mutual_information,
    partial_trace,
    quantum_conditional_entropy,
    quantum_effective_rank,
    quantum_mutual_information,
    quantum_relative_entropy,
    reversed_quantum_relative_entropy,
    von_neumann_entropy,
)
from worker.information.shannon import conditional_entropy, entropy, mutual_information, relative_entropy

BELL = np.array([[1, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1]]) / 2
PLUS = np.array([[1, 1], [1, 1]]) / 2
SEEDS = strategies.integers(0, 2**32 - 1)


def states(seed, d, number=1, rank=None):
    """Random complex density matrices G G* / Tr, of this rank or full."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(number):
        G = rng.normal(size=(d, rank or d)) + 1j * rng.normal(size=(d, rank or d))
        rho = G @ G.conj().T
        made.append(rho / np.trace(rho).real)
    return made


def unitary(seed, d):
    rng = np.random.default_rng(seed)
    return np.linalg.qr(rng.normal(size=(d, d)) + 1j * rng.normal(size=(d, d)))[0]


def gaussian_gram(seed, n, width=1.0):
    x_ND = np.random.default_rng(seed).normal(size=(n, 3))
    return np.exp(-np.square(x_ND[:, None] - x_ND[None]).sum(axis=2) / 2 / width**2)


# -- by hand


def test_a_bell_pair_is_certain_as_a_whole_and_uncertain_in_its_parts():
    assert von_neumann_entropy(BELL) == pytest.approx(0, abs=1e-14)
    assert von_neumann_entropy(partial_trace(BELL, (2, 2), keep=0)) == pytest.approx(1, rel=1e-14)
    assert quantum_conditional_entropy(BELL, (2, 2)) == pytest.approx(-1, rel=1e-14)
    assert quantum_mutual_information(BELL, (2, 2)) == pytest.approx(2, rel=1e-14)


def test_a_werner_state_by_hand():
    """Half a Bell pair, half noise: eigenvalues 5/8 and three of 1/8."""
    werner = BELL / 2 + np.eye(4) / 8
    assert von_neumann_entropy(werner) == pytest.approx(1.54879, abs=5e-6)
    assert quantum_effective_rank(werner) == pytest.approx(2**1.5487949407, rel=1e-10)


def test_relative_entropies_by_hand():
    p, q = np.diag([0.5, 0.5]), np.diag([0.25, 0.75])
    assert quantum_relative_entropy(p, q) == pytest.approx(relative_entropy([0.5, 0.5], [0.25, 0.75]), rel=1e-13)
    assert reversed_quantum_relative_entropy(p, q) == pytest.approx(relative_entropy([0.25, 0.75], [0.5, 0.5]), rel=1e-13)
    assert quantum_relative_entropy(PLUS, np.eye(2) / 2) == pytest.approx(1, rel=1e-14)


def test_what_the_other_state_holds_impossible_is_infinite():
    assert quantum_relative_entropy(np.eye(2) / 2, PLUS) == math.inf
    assert reversed_quantum_relative_entropy(PLUS, np.eye(2) / 2) == math.inf
    assert quantum_relative_entropy(PLUS, PLUS) == pytest.approx(0, abs=1e-12)
    assert quantum_relative_entropy(np.diag([1.0, 0.0]), PLUS) == math.inf  # supports that cross


def test_what_rounding_leaves_of_a_kernel_is_a_kernel_and_a_small_eigenvalue_is_not():
    for seed in range(20):
        rho = states(seed, 5, rank=(2, 4)[seed % 2])[0]
        assert quantum_relative_entropy(np.eye(5) / 5, rho) == math.inf
        assert quantum_relative_entropy(rho, rho) == pytest.approx(0, abs=1e-10)
    p, q = np.array([0.5, 0.25, 0.25]), np.array([0.5, 0.5 - 7e-13, 7e-13])
    assert quantum_relative_entropy(np.diag(p), np.diag(q)) == pytest.approx(relative_entropy(p, q), rel=1e-12)


def test_the_parts_of_three_systems():
    a, b, c = (states(seed, d)[0] for seed, d in [(1, 2), (2, 3), (3, 2)])
    whole = np.kron(np.kron(a, b), c)
    for keep, part in enumerate((a, b, c)):
        assert partial_trace(whole, (2, 3, 2), keep) == pytest.approx(part, abs=1e-14)
    with pytest.raises(ValueError, match="have 8 together, the matrix has 12"):
        partial_trace(whole, (2, 2, 2), 0)
    with pytest.raises(ValueError, match="numbered 0 to 2, there is no 3"):
        partial_trace(whole, (2, 3, 2), 3)


@pytest.mark.parametrize(
    ("rho", "what"),
    [
        (np.eye(2), r"has trace 1, this one has 2\.0"),
        (np.diag([0.5, 0.5 + 1e-8]), "has trace 1"),
        (np.array([[0.5, 0.1], [0.0, 0.5]]), "is Hermitian"),
        (np.array([[0.5, 0.1j], [0.1j, 0.5]]), "is Hermitian"),
        (np.diag([1.1, -0.1]), r"no eigenvalue below 0, those of this one that are sum to -0\.1"),
        (np.diag([math.nan, 1.0]), "not finite"),
        (np.full((2, 3), 0.5), r"must be square, it is \(2, 3\)"),
        (np.zeros((0, 0)), "must be square"),
    ],
)
def test_what_is_no_density_matrix_is_refused_with_what_is_wrong(rho, what):
    for measure in (density_matrix, von_neumann_entropy):
        with pytest.raises(ValueError, match=what):
            measure(rho)


def test_states_of_different_spaces_have_no_relative_entropy():
    with pytest.raises(ValueError, match=r"same space, they are \(2, 2\) and \(4, 4\)"):
        quantum_relative_entropy(PLUS, BELL)


def test_rounding_below_zero_is_not_refused():
    rho = states(0, 30, rank=3)[0]
    assert np.linalg.eigvalsh(rho).min() < 0
    assert 0 <= von_neumann_entropy(rho) <= math.log2(3)


# -- theorems


@EACH
@given(several(2))
def test_of_matrices_that_commute_all_is_shannon_s(p_):
    p, q = p_
    U = unitary(5, len(p))
    rho, sigma = ((U * weights) @ U.conj().T for weights in (p, q))
    assert von_neumann_entropy(rho) == pytest.approx(entropy(p), abs=1e-12)
    if q.min() > 1e-9:
        assert quantum_relative_entropy(rho, sigma) == pytest.approx(relative_entropy(p, q), abs=1e-5)


@EACH
@given(SEEDS)
def test_klein_s_inequality(seed):
    rho, sigma = states(seed, 4, 2)
    assert quantum_relative_entropy(rho, sigma) > 0
    assert quantum_relative_entropy(rho, rho) == pytest.approx(0, abs=1e-12)
    assert 0 <= von_neumann_entropy(rho) <= 2


@EACH
@given(SEEDS)
def test_entropy_is_concave_and_the_same_in_every_basis(seed):
    rho, sigma = states(seed, 3, 2)
    mean = (von_neumann_entropy(rho) + von_neumann_entropy(sigma)) / 2
    assert mean <= von_neumann_entropy((rho + sigma) / 2) <= mean + 1
    U = unitary(seed, 3)
    assert von_neumann_entropy(U @ rho @ U.conj().T) == pytest.approx(von_neumann_entropy(rho), abs=1e-12)


@EACH
@given(SEEDS)
def test_subadditivity_and_the_triangle_of_araki_and_lieb(seed):
    rho = states(seed, 6, rank=1 + seed % 6)[0]
    A, B = (von_neumann_entropy(partial_trace(rho, (2, 3), keep)) for keep in (0, 1))
    assert abs(A - B) - 1e-12 <= von_neumann_entropy(rho) <= A + B + 1e-12
    assert -1 - 1e-12 <= quantum_conditional_entropy(rho, (2, 3)) <= 1 + 1e-12
    assert 0 <= quantum_mutual_information(rho, (2, 3)) <= 2 * min(A, B) + 1e-12


@EACH
@given(SEEDS)
def test_entropy_is_strongly_subadditive(seed):
    """S(ABC) + S(B) ≤ S(AB) + S(BC), Lieb and Ruskai 1973."""
    rho = states(seed, 8, rank=1 + seed % 8)[0]
    AB, BC = partial_trace(rho, (4, 2), 0), partial_trace(rho, (2, 4), 1)
    whole, B = von_neumann_entropy(rho), von_neumann_entropy(partial_trace(rho, (2, 2, 2), 1))
    assert whole + B <= von_neumann_entropy(AB) + von_neumann_entropy(BC) + 1e-12


@EACH
@given(SEEDS)
def test_the_part_is_no_easier_to_tell_apart_than_the_whole(seed):
    rho, sigma = states(seed, 4, 2)
    parts = (partial_trace(rho, (2, 2), 0), partial_trace(sigma, (2, 2), 0))
    assert quantum_relative_entropy(*parts) <= quantum_relative_entropy(rho, sigma) + 1e-12
    product = np.kron(partial_trace(rho, (2, 2), 0), partial_trace(rho, (2, 2), 1))
    assert quantum_mutual_information(rho, (2, 2)) == pytest.approx(quantum_relative_entropy(rho, product), abs=1e-10)


@EACH
@given(SEEDS)
def test_of_two_classical_systems_all_is_shannon_s(seed):
    joint_XY = np.random.default_rng(seed).dirichlet(np.ones(6)).reshape(2, 3)
    rho = np.diag(joint_XY.ravel())
    assert quantum_conditional_entropy(rho, (2, 3)) == pytest.approx(conditional_entropy(joint_XY, given=1), abs=1e-12)
    assert quantum_mutual_information(rho, (2, 3)) == pytest.approx(mutual_information(joint_XY), abs=1e-12)


# -- Gram matrices


def test_gram_matrices_by_hand():
    assert matrix_based_entropy(np.eye(8) * 3) == pytest.approx(3, rel=1e-14)
    assert matrix_based_entropy(np.ones((8, 8))) == pytest.approx(0, abs=1e-13)
    clusters = np.kron(np.eye(2), np.ones((4, 4)))
    assert matrix_based_entropy(clusters, order=2) == pytest.approx(1, rel=1e-13)
    assert matrix_based_conditional_entropy(np.eye(8), clusters) == pytest.approx(2, rel=1e-13)
    assert matrix_based_conditional_entropy(clusters, np.eye(8)) == pytest.approx(0, abs=1e-13)
    assert matrix_based_mutual_information(np.eye(8), clusters) == pytest.approx(1, rel=1e-13)


def test_a_gram_matrix_of_clusters_has_the_entropy_of_their_shares():
    label_N = np.array([0, 0, 0, 1, 1, 2])
    gram_NN = (label_N[:, None] == label_N).astype(float)
    assert matrix_based_entropy(gram_NN) == pytest.approx(1.45915, abs=5e-6)


@EACH
@given(SEEDS, strategies.sampled_from([0.5, 1, 1.01, 2, math.inf]))
def test_matrix_based_entropies_behave_as_entropies(seed, order):
    """Sánchez Giraldo, Rao and Príncipe 2015: at least each part, at most their sum, and nothing on top of itself repeated."""
    X, Y = gaussian_gram(seed, 7), gaussian_gram(seed + 1, 7, width=0.5)
    separate = matrix_based_entropy(X, order), matrix_based_entropy(Y, order)
    joint = matrix_based_joint_entropy(X, Y, order)
    assert max(separate) - 1e-12 <= joint <= math.log2(7) + 1e-12
    assert matrix_based_conditional_entropy(X, Y, order) == pytest.approx(joint - separate[1], abs=1e-12)
    assert matrix_based_joint_entropy(X, np.ones((7, 7)), order) == pytest.approx(separate[0], abs=1e-11)
    assert matrix_based_entropy(X, order) == pytest.approx(renyi_entropy(np.linalg.eigvalsh(X / 7), order), abs=1e-11)
    if order == 1:
        assert 0 <= matrix_based_mutual_information(X, Y) <= min(separate) + 1e-12


def test_the_vendi_score_is_the_effective_rank_of_the_kernel_over_n():
    gram_NN = gaussian_gram(3, 20)
    assert quantum_effective_rank(gram_NN / 20) == pytest.approx(2 ** matrix_based_entropy(gram_NN), rel=1e-13)


@pytest.mark.parametrize(
    ("gram", "what"),
    [
        (np.diag([1.0, 0.0]), "the diagonal of a Gram matrix is positive, at 1 stands 0.0"),
        (np.array([[1.0, 2.0], [2.0, 1.0]]), "no eigenvalue below 0"),
        (np.array([[1.0, 0.5], [0.4, 1.0]]), "is Hermitian"),
    ],
)
def test_what_is_no_gram_matrix_is_refused(gram, what):
    with pytest.raises(ValueError, match=what):
        matrix_based_entropy(gram)


def test_gram_matrices_of_different_samples_are_refused():
    with pytest.raises(ValueError, match=r"same samples, they are \(2, 2\) and \(3, 3\)"):
        matrix_based_mutual_information(np.eye(2), np.eye(3))
