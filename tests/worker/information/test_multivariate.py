import numpy as np
import pytest
from hypothesis import given

from tests.worker.information.draws import EACH, distributions, joints
from worker.information.multivariate import (
    co_information,
    dual_total_correlation,
    interaction_information,
    multi_information,
    o_information,
)
from worker.information.shannon import conditional_mutual_information, entropy, joint_entropy, mutual_information

XOR = np.array([[[0.25, 0], [0, 0.25]], [[0, 0.25], [0.25, 0]]])
COPIES = np.zeros((2, 2, 2))
COPIES[0, 0, 0] = COPIES[1, 1, 1] = 0.5


def test_xor_and_copies_by_hand():
    measures = (multi_information, dual_total_correlation, co_information, interaction_information, o_information)
    assert [measure(XOR) for measure in measures] == pytest.approx([1, 2, -1, 1, -1], abs=1e-14)
    assert [measure(COPIES) for measure in measures] == pytest.approx([2, 1, 1, -1, 1], abs=1e-14)


@EACH
@given(distributions((2,)), distributions((3,)), distributions((2,)))
def test_independent_variables_share_nothing(p, q, r):
    joint = np.multiply.outer(np.multiply.outer(p, q), r)
    assert multi_information(joint) == pytest.approx(0, abs=1e-12)
    assert dual_total_correlation(joint) == pytest.approx(0, abs=1e-12)
    assert co_information(joint) == pytest.approx(0, abs=1e-12)


@EACH
@given(joints(2))
def test_of_two_variables_all_are_the_mutual_information(joint_XY):
    for measure in (multi_information, dual_total_correlation, co_information, interaction_information):
        assert measure(joint_XY) == pytest.approx(mutual_information(joint_XY), abs=1e-12)
    assert o_information(joint_XY) == pytest.approx(0, abs=1e-12)


@EACH
@given(joints(1))
def test_of_one_variable_they_are_nothing_or_its_entropy(p):
    assert multi_information(p) == pytest.approx(0, abs=1e-15)
    assert dual_total_correlation(p) == pytest.approx(0, abs=1e-14)
    assert co_information(p) == pytest.approx(entropy(p), abs=1e-12)


@EACH
@given(joints(3))
def test_of_three_variables_the_definitions_agree(joint):
    singles = sum(joint_entropy(joint, i) for i in range(3))
    assert multi_information(joint) == pytest.approx(singles - entropy(joint), abs=1e-12)
    assert multi_information(joint) >= 0
    assert dual_total_correlation(joint) >= 0
    of_three = mutual_information(joint, 0, 1) - conditional_mutual_information(joint, 0, 1, 2)
    assert co_information(joint) == pytest.approx(of_three, abs=1e-12)
    assert interaction_information(joint) == -co_information(joint)
    assert o_information(joint) == pytest.approx(co_information(joint), abs=1e-12)  # so it is, of three


@EACH
@given(joints(4))
def test_of_four_variables_the_total_correlation_is_a_chain_of_informations(joint):
    chain = sum(mutual_information(joint, tuple(range(i)), i) for i in range(1, 4))
    assert multi_information(joint) == pytest.approx(chain, abs=1e-12)
    assert interaction_information(joint) == co_information(joint)
    assert dual_total_correlation(joint) <= 3 * multi_information(joint) + 1e-12  # Austin 2018: TC/(n−1) ≤ DTC ≤ (n−1) TC
    assert multi_information(joint) <= 3 * dual_total_correlation(joint) + 1e-12


def test_pairs_that_are_rarer_than_fp64_can_multiply():
    joint = np.zeros((2, 2, 2))
    joint[0, 0, 0], joint[1, 1, 1] = 1.0, 1e-300
    assert multi_information(joint) == pytest.approx(2 * 1e-300 * 300 * np.log2(10), rel=1e-13)
