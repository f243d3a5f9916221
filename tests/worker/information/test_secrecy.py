import math

import numpy as np
import pytest
from hypothesis import given

from tests.worker.information.draws import EACH, ORDINARY, distributions, joints
from worker.information.secrecy import equivocation, exposure, fano_bound, key_equivocation, message_equivocation
from worker.information.shannon import entropy

# Addition modulo 4: cipher[m, k] = m + k
SHIFT_MK = np.add.outer(np.arange(4), np.arange(4)) % 4


def test_equivocation_by_hand():
    joint_SO = np.array([[0.89, 0.11], [0.11, 0.89]]) / 2
    assert equivocation(joint_SO) == pytest.approx(0.49992, abs=5e-6)
    assert equivocation(np.eye(3) / 3) == 0
    assert equivocation(np.full((4, 2), 1 / 8)) == 2


def test_the_notebook_s_formula_is_the_key_s_and_not_the_message_s():
    """One key of two is used on a message of no uncertainty: the cryptogram tells the key, and there was no message to tell."""
    p_M, p_K = [1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]
    assert (message_equivocation(p_M, p_K, SHIFT_MK), key_equivocation(p_M, p_K, SHIFT_MK)) == (0, 0)
    p_M = np.full(4, 1 / 4)
    assert message_equivocation(p_M, p_K, SHIFT_MK) == 1
    assert key_equivocation(p_M, p_K, SHIFT_MK) == 1
    doubled_MK = np.repeat(SHIFT_MK, 2, axis=1)  # each key twice, under two names: the message is no better hidden
    assert message_equivocation(p_M, np.repeat(p_K, 2) / 2, doubled_MK) == 1
    assert key_equivocation(p_M, np.repeat(p_K, 2) / 2, doubled_MK) == 2


@EACH
@given(distributions((4,)))
def test_a_one_time_pad_is_perfect_for_every_message(p_M):
    assert message_equivocation(p_M, np.full(4, 1 / 4), SHIFT_MK) == pytest.approx(entropy(p_M), abs=1e-12)


@EACH
@given(distributions((4,)), distributions((4,)))
def test_shannon_s_equation_of_the_key(p_M, p_K):
    """H(K|C) = H(M) + H(K) − H(C), and the message is no less known than its key."""
    p_C = [sum(p_M[m] * p_K[(c - m) % 4] for m in range(4)) for c in range(4)]
    of_key = key_equivocation(p_M, p_K, SHIFT_MK)
    assert of_key == pytest.approx(entropy(p_M) + entropy(p_K) - entropy(p_C), abs=1e-12)
    assert message_equivocation(p_M, p_K, SHIFT_MK) <= of_key + 1e-12


def test_a_cipher_has_a_cryptogram_for_each_message_and_key():
    with pytest.raises(ValueError, match=r"is \(2, 4\), these are \(4, 4\)"):
        key_equivocation([0.5, 0.5], np.full(4, 1 / 4), SHIFT_MK)


@EACH
@given(joints(2, ORDINARY))
def test_no_guess_errs_less_than_fano_allows(joint_SO):
    best_guess_errs = 1 - joint_SO.max(axis=0).sum()
    assert fano_bound(equivocation(joint_SO), len(joint_SO)) <= best_guess_errs + 1e-9


def test_fano_is_met_where_all_errors_are_alike():
    """Right with probability .7, and each of the three wrong values .1."""
    joint_SO = (np.full((4, 4), 0.1) + 0.6 * np.eye(4)) / 4
    assert fano_bound(equivocation(joint_SO), 4) == pytest.approx(0.3, abs=1e-12)


def test_fano_at_its_ends():
    assert fano_bound(0, 5) == 0
    assert fano_bound(math.log2(5), 5) == pytest.approx(0.8, abs=1e-6)
    assert fano_bound(math.log2(5) + 5e-10, 5) == 0.8  # what rounding may leave of lg n
    assert fano_bound(1, 2) == 0.5
    assert fano_bound(0, 1) == 0
    for bits, values in [(1.1, 2), (-0.1, 2), (0.5, 1), (math.nan, 2)]:
        with pytest.raises(ValueError, match="cannot be the equivocation"):
            fano_bound(bits, values)


def test_exposure_is_what_the_rank_saves_of_a_search():
    assert exposure(1, 1024) == 10
    assert exposure(512, 1024) == 1
    assert exposure(1024, 1024) == 0
    for rank in (0, 1025):
        with pytest.raises(ValueError, match="between 1 and the number of candidates, 1024"):
            exposure(rank, 1024)
