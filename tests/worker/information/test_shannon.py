import math

import numpy as np
import pytest
from hypothesis import given

from tests.worker.information.draws import EACH, ORDINARY, channels, distributions, joints, several
from worker.information.shannon import (
    conditional_entropy,
    conditional_mutual_information,
    cross_entropy,
    entropy,
    entropy_decrease,
    hartley_entropy,
    joint_entropy,
    mutual_information,
    negentropy_from_uniform,
    normalized_entropy,
    partitioned_entropy,
    perplexity,
    pointwise_mutual_information,
    relative_entropy,
    reversed_relative_entropy,
    shannon_wiener,
    varentropy,
    variation_of_information,
)

# Cover and Thomas, example 2.2.1, blood type (columns) and risk of skin cancer (rows): axis 0 is X, axis 1 is Y
CT_XY = np.array([[1 / 8, 1 / 16, 1 / 32, 1 / 32], [1 / 16, 1 / 8, 1 / 32, 1 / 32], [1 / 16] * 4, [1 / 4, 0, 0, 0]]).T
XOR = np.array([[[0.25, 0], [0, 0.25]], [[0, 0.25], [0.25, 0]]])


def bsc(error):
    """Uniform input and output of the binary symmetric channel."""
    return np.array([[1 - error, error], [error, 1 - error]]) / 2


# -- by hand


def test_entropies_of_one_distribution_by_hand():
    assert entropy([1 / 2, 1 / 4, 1 / 8, 1 / 8]) == 1.75
    assert entropy(np.full(8, 1 / 8)) == 3
    assert entropy([1.0, 0.0]) == 0
    assert normalized_entropy([1 / 2, 1 / 4, 1 / 8, 1 / 8]) == 0.875
    assert negentropy_from_uniform([1 / 2, 1 / 4, 1 / 8, 1 / 8]) == pytest.approx(0.25, abs=1e-15)
    assert hartley_entropy([1 / 2, 1 / 4, 1 / 8, 1 / 8, 0, 0]) == 2
    assert hartley_entropy(np.full(6, 1 / 6)) == math.log2(6)
    assert shannon_wiener(np.full(4, 1 / 4)) == pytest.approx(math.log(4), rel=1e-15)


def test_varentropy_by_hand():
    # surprisals 1, 2, 2 with mean 1.5
    assert varentropy([1 / 2, 1 / 4, 1 / 4]) == 0.25
    assert varentropy([1 / 2, 1 / 2, 0]) == 0


def test_cover_and_thomas_2_2_1():
    assert joint_entropy(CT_XY) == 27 / 8
    assert joint_entropy(CT_XY, of=0) == 7 / 4
    assert joint_entropy(CT_XY, of=1) == 2
    assert conditional_entropy(CT_XY, given=1) == 11 / 8
    assert conditional_entropy(CT_XY, given=0) == 13 / 8
    assert mutual_information(CT_XY) == pytest.approx(3 / 8, rel=1e-14)
    assert variation_of_information(CT_XY) == 3


def test_divergences_of_two_coins():
    assert relative_entropy([0.5, 0.5], [0.25, 0.75]) == pytest.approx(1 - math.log2(3) / 2, rel=1e-14)
    assert relative_entropy([0.5, 0.5], [0.25, 0.75]) == pytest.approx(0.20752, abs=5e-6)
    assert reversed_relative_entropy([0.5, 0.5], [0.25, 0.75]) == pytest.approx(0.18872, abs=5e-6)
    assert relative_entropy([0.25, 0.75], [0.5, 0.5]) == reversed_relative_entropy([0.5, 0.5], [0.25, 0.75])


def test_cross_entropy_and_perplexity_by_hand():
    p, q = [1 / 2, 1 / 4, 1 / 4], [1 / 4, 1 / 4, 1 / 2]
    assert cross_entropy(p, q) == 1.75
    assert perplexity(p, q) == pytest.approx(2**1.75, rel=1e-15)
    assert perplexity(np.full(50, 1 / 50)) == pytest.approx(50, rel=1e-14)


def test_what_the_other_distribution_holds_impossible_is_infinite():
    assert relative_entropy([0.5, 0.5], [1, 0]) == math.inf
    assert relative_entropy([1, 0], [0.5, 0.5]) == 1
    assert reversed_relative_entropy([1, 0], [0.5, 0.5]) == math.inf
    assert cross_entropy([0.5, 0.5], [1, 0]) == math.inf
    assert perplexity([0.5, 0.5], [1, 0]) == math.inf


def test_informations_by_hand():
    h = entropy([0.11, 0.89])
    assert mutual_information(bsc(0.11)) == pytest.approx(1 - h, rel=1e-14)
    assert mutual_information(bsc(0.11)) == pytest.approx(0.50008, abs=1e-5)
    assert conditional_mutual_information(XOR) == pytest.approx(1, rel=1e-14)
    assert mutual_information(XOR, 0, 2) == 0
    assert mutual_information(XOR, (0, 1), 2) == pytest.approx(1, rel=1e-14)
    assert variation_of_information(np.eye(4) / 4) == 0


def test_the_two_readings_of_variational_information_differ():
    """Two clusterings that are independent are as far apart as can be; of their marginals, which are equal, TV is 0."""
    assert variation_of_information(np.full((2, 2), 1 / 4)) == 2


def test_the_blocks_of_a_partition():
    assert partitioned_entropy(np.full(6, 1 / 6), ["a", "a", "b", "a", "b", "c"]) == pytest.approx(1.45915, abs=5e-6)
    assert partitioned_entropy([0.5, 0.25, 0.25], [0, 0, 0]) == 0
    assert partitioned_entropy([0.5, 0.25, 0.25], [0, 1, 2]) == 1.5
    with pytest.raises(ValueError, match=r"2 blocks cannot go with probabilities of shape \(3,\)"):
        partitioned_entropy([0.5, 0.25, 0.25], [0, 1])


def test_pointwise_information_says_which_pairs_occur_together():
    pmi_XY = pointwise_mutual_information([[0.5, 0.0], [0.25, 0.25]])
    assert pmi_XY[0] == pytest.approx([math.log2(0.5 / (0.5 * 0.75)), -math.inf])
    assert pmi_XY[1] == pytest.approx([math.log2(0.25 / (0.5 * 0.75)), 1])


def test_an_observation_may_leave_one_less_sure():
    assert entropy_decrease([0.9, 0.1], [0.5, 0.5]) == entropy([0.9, 0.1]) - 1 < 0


def test_one_symbol_has_no_normalised_entropy():
    with pytest.raises(ValueError, match="0/0"):
        normalized_entropy([1.0])


def test_what_the_notebook_wrote_is_not_what_is_computed():
    p = np.full(4, 1 / 4)
    assert -np.sum(p / np.log(p)) == pytest.approx(0.721, abs=5e-4)  # its Shannon-Wiener index
    assert shannon_wiener(p) == pytest.approx(1.386, abs=5e-4)


# -- at 1e-300


def test_probabilities_of_1e_300_count_as_they_should():
    p = np.array([1.0, 1e-300])
    surprise = 300 * math.log2(10)
    assert entropy(p) == pytest.approx(1e-300 * surprise, rel=1e-14)
    assert relative_entropy([0.5, 0.5], [1e-300, 1.0]) == pytest.approx(surprise / 2 - 1, rel=1e-14)
    assert cross_entropy([0.5, 0.5], [1e-300, 1.0]) == pytest.approx(surprise / 2, rel=1e-14)
    assert relative_entropy([1e-300, 1.0], [0.5, 0.5]) == 1


def test_the_information_of_a_pair_of_1e_300_is_its_surprise():
    """P(x) P(y) of such a pair is 1e-600, which fp64 does not have."""
    joint_XY = np.diag([1.0, 1e-300])
    surprise = 300 * math.log2(10)
    assert mutual_information(joint_XY) == pytest.approx(1e-300 * surprise, rel=1e-14)
    assert pointwise_mutual_information(joint_XY)[1, 1] == pytest.approx(surprise, rel=1e-14)
    assert conditional_entropy(joint_XY, given=1) == 0
    assert conditional_mutual_information(np.stack([joint_XY, joint_XY], axis=2) / 2) == pytest.approx(
        1e-300 * surprise, rel=1e-13
    )


# -- theorems


@EACH
@given(several(1))
def test_entropy_lies_between_certain_and_uniform(p_):
    (p,) = p_
    assert 0 <= entropy(p) <= hartley_entropy(p) + 1e-12 <= math.log2(len(p)) + 2e-12
    assert negentropy_from_uniform(p) == pytest.approx(math.log2(len(p)) - entropy(p), abs=1e-12)
    assert 0 <= normalized_entropy(p) <= 1 + 1e-12


@EACH
@given(several(2))
def test_entropy_is_concave(p_):
    p, q = p_
    mixture = entropy((p + q) / 2)
    assert (entropy(p) + entropy(q)) / 2 - 1e-12 <= mixture <= (entropy(p) + entropy(q)) / 2 + 1 + 1e-12


@EACH
@given(several(2))
def test_gibbs_inequality_and_what_cross_entropy_is_made_of(p_):
    p, q = p_
    assert relative_entropy(p, q) >= 0
    assert relative_entropy(p, p) == 0
    assert cross_entropy(p, q) >= entropy(p) - 1e-12
    assert cross_entropy(p, q) == pytest.approx(entropy(p) + relative_entropy(p, q), rel=1e-12, abs=1e-12)


@EACH
@given(several(4, ORDINARY))
def test_relative_entropy_is_jointly_convex(p_):
    p, q, r, s = p_
    assert relative_entropy((p + r) / 2, (q + s) / 2) <= (relative_entropy(p, q) + relative_entropy(r, s)) / 2 + 1e-12


@EACH
@given(distributions((3,)), distributions((3,)), channels(3))
def test_no_channel_tells_two_distributions_better_apart(p, q, rows):
    assert relative_entropy(p @ rows, q @ rows) <= relative_entropy(p, q) * (1 + 1e-12) + 1e-12


@EACH
@given(joints(3))
def test_chain_rules(joint):
    assert joint_entropy(joint) == pytest.approx(joint_entropy(joint, 0) + conditional_entropy(joint, given=0), abs=1e-12)
    given_both = conditional_entropy(joint, given=(0, 1))
    two = joint_entropy(joint, (0, 1))
    assert joint_entropy(joint) == pytest.approx(two + given_both, abs=1e-12)
    information = mutual_information(joint, 0, 2) + conditional_mutual_information(joint, 1, 2, given=0)
    assert mutual_information(joint, (0, 1), 2) == pytest.approx(information, abs=1e-12)


@EACH
@given(joints(2))
def test_information_is_what_the_entropies_say(joint_XY):
    H_X, H_Y = joint_entropy(joint_XY, 0), joint_entropy(joint_XY, 1)
    information = mutual_information(joint_XY)
    assert 0 <= information <= min(H_X, H_Y) + 1e-12
    assert information == pytest.approx(mutual_information(joint_XY, 1, 0), abs=1e-14)
    assert information == pytest.approx(H_X + H_Y - joint_entropy(joint_XY), abs=1e-12)
    assert information == pytest.approx(H_X - conditional_entropy(joint_XY, given=1), abs=1e-12)
    assert conditional_entropy(joint_XY, given=1) <= H_X + 1e-12
    assert variation_of_information(joint_XY) == pytest.approx(H_X + H_Y - 2 * information, abs=1e-12)
    pmi_XY = pointwise_mutual_information(joint_XY)
    assert information == pytest.approx(np.sum(joint_XY * np.where(joint_XY > 0, pmi_XY, 0)), abs=1e-12)


@EACH
@given(joints(3))
def test_entropy_is_submodular(joint):
    assert conditional_mutual_information(joint) >= 0
    assert joint_entropy(joint) + joint_entropy(joint, 2) <= joint_entropy(joint, (0, 2)) + joint_entropy(joint, (1, 2)) + 1e-12


@EACH
@given(joints(2), channels(3))
def test_processing_does_not_add_information(joint_XY, rows):
    processed_XZ = joint_XY @ rows[: joint_XY.shape[1]]
    assert mutual_information(processed_XZ) <= mutual_information(joint_XY) + 1e-12


@EACH
@given(joints(3))
def test_variation_of_information_is_a_metric(joint):
    direct = variation_of_information(joint, 0, 2)
    assert direct <= variation_of_information(joint, 0, 1) + variation_of_information(joint, 1, 2) + 1e-12
    assert direct == pytest.approx(variation_of_information(joint, 2, 0), abs=1e-14)


@EACH
@given(joints(2, ORDINARY))
def test_what_observations_teach_is_the_information_on_average(joint_TY):
    prior, p_Y = joint_TY.sum(axis=1), joint_TY.sum(axis=0)
    posteriors = list((joint_TY / p_Y).T)
    decrease = sum(p * entropy_decrease(prior, posterior) for p, posterior in zip(p_Y, posteriors, strict=True))
    gain = sum(p * relative_entropy(posterior, prior) for p, posterior in zip(p_Y, posteriors, strict=True))
    assert decrease == pytest.approx(mutual_information(joint_TY), abs=1e-12)
    assert gain == pytest.approx(mutual_information(joint_TY), abs=1e-12)


@EACH
@given(distributions((6,)))
def test_coarser_blocks_have_less_entropy(p):
    finer, coarser = [0, 1, 2, 2, 3, 3], [0, 0, 1, 1, 1, 1]
    assert partitioned_entropy(p, coarser) <= partitioned_entropy(p, finer) + 1e-12 <= entropy(p) + 2e-12


@EACH
@given(several(1))
def test_varentropy_is_within_the_bound_of_reeb_and_wolf(p_):
    """Var[−ln p] ≤ ¼ ln²(n−1) + 1, in nats² (2015)."""
    (p,) = p_
    assert 0 <= varentropy(p) * math.log(2) ** 2 <= math.log(len(p) - 1) ** 2 / 4 + 1
