import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.information.directed import (
    causally_conditioned_entropy,
    delayed_directed_information,
    directed_information,
    directed_information_rate,
    empirical_directed_information_rate,
    empirical_transfer_entropy,
    model_directed_information,
    transfer_entropy,
)

seeds = st.integers(0, 2**32 - 1)


def h(p):
    return -p * math.log2(p) - (1 - p) * math.log2(1 - p)


def entropy(p):
    p = p[p > 0]
    return -(p * np.log2(p)).sum()


def mutual(joint):
    n = joint.ndim // 2
    flat = joint.reshape(2**n, 2**n)
    return entropy(flat.sum(axis=1)) + entropy(flat.sum(axis=0)) - entropy(flat)


def through(channel, n):
    """Fair coins x, each through the channel by itself: axes x_1..x_n, y_1..y_n."""
    pair = np.asarray(channel) / 2
    joint = np.ones(())
    for _ in range(n):
        joint = np.multiply.outer(joint, pair)
    return joint.transpose([*range(0, 2 * n, 2), *range(1, 2 * n, 2)])


def random_joint(seed, n):
    return np.random.default_rng(seed).dirichlet(np.full(4**n, 0.5)).reshape((2,) * (2 * n))


NOISY_COPY = [[0.9, 0.1], [0.1, 0.9]]


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_noisy_copy_passes_its_capacity_at_every_step(n):
    joint = through(NOISY_COPY, n)
    assert directed_information(joint) == pytest.approx(n * 0.53100, abs=n * 5e-6)
    assert causally_conditioned_entropy(joint) == pytest.approx(n * h(0.1))
    assert delayed_directed_information(joint) == pytest.approx(0, abs=1e-12)


def test_a_copy_of_coins_is_a_bit_a_step_and_no_transfer_entropy():
    window = through(np.eye(2), 2)
    assert directed_information_rate(window) == pytest.approx(1)
    assert transfer_entropy(window) == 0
    assert directed_information_rate(through(NOISY_COPY, 2)) == pytest.approx(1 - h(0.1))


def test_a_copy_one_step_late_is_a_bit_of_both():
    # x_1, x_2 fair, y_1 fair, y_2 = x_1
    window = np.zeros((2, 2, 2, 2))
    for x_1, x_2, y_1 in np.ndindex(2, 2, 2):
        window[x_1, x_2, y_1, x_1] = 1 / 8
    assert transfer_entropy(window) == pytest.approx(1)
    assert directed_information_rate(window) == pytest.approx(1)
    assert directed_information(window) == pytest.approx(1)
    # and back from y nothing flows
    assert delayed_directed_information(window) == pytest.approx(0, abs=1e-12)
    back = window.transpose(2, 3, 0, 1)
    assert directed_information(back) == pytest.approx(0, abs=1e-12)


@given(seeds, st.integers(1, 3))
@settings(max_examples=80, deadline=None)
def test_information_is_conserved(seed, n):
    joint = random_joint(seed, n)
    forward, back = directed_information(joint), delayed_directed_information(joint)
    assert mutual(joint) == pytest.approx(forward + back, abs=1e-10)
    assert 0 <= forward <= mutual(joint) + 1e-10
    of_y = entropy(joint.sum(axis=tuple(range(n))).ravel())
    assert causally_conditioned_entropy(joint) == pytest.approx(of_y - forward, abs=1e-10)
    # hearing all of x at once leaves less
    assert of_y - mutual(joint) <= causally_conditioned_entropy(joint) + 1e-10


@given(seeds)
@settings(max_examples=50, deadline=None)
def test_the_present_adds_to_transfer_entropy(seed):
    window = random_joint(seed, 3)
    assert 0 <= transfer_entropy(window) <= directed_information_rate(window) + 1e-12
    assert directed_information_rate(window) <= 1 + 1e-12


def test_what_is_sampled_leads_to_what_is_exact():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, size=50_000)
    y = x ^ (rng.random(50_000) < 0.1)
    assert empirical_directed_information_rate(x, y, 2) == pytest.approx(1 - h(0.1), abs=0.01)
    assert empirical_transfer_entropy(x, y, 2) == pytest.approx(0, abs=1e-3)
    late = np.roll(y, 1)
    assert empirical_transfer_entropy(x, late, 1) == pytest.approx(1 - h(0.1), abs=0.01)
    assert empirical_transfer_entropy(late, x, 1) == pytest.approx(0, abs=1e-3)
    assert empirical_directed_information_rate(x, x, 0) == pytest.approx(1, abs=1e-3)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=3, max_size=40))
@settings(max_examples=60, deadline=None)
def test_the_plug_in_is_the_exact_measure_of_the_windows_seen(pairs):
    x, y = np.array(pairs).T
    window = np.zeros((2, 2, 2, 2))
    for t in range(1, len(x)):
        window[x[t - 1], x[t], y[t - 1], y[t]] += 1 / (len(x) - 1)
    assert empirical_transfer_entropy(x, y, 1) == pytest.approx(transfer_entropy(window), abs=1e-10)
    assert empirical_directed_information_rate(x, y, 1) == pytest.approx(directed_information_rate(window), abs=1e-10)


def test_a_plug_in_of_few_symbols_is_biased_upwards():
    rng = np.random.default_rng(0)
    found = [empirical_transfer_entropy(*rng.integers(0, 4, size=(2, 100)), 1) for _ in range(20)]
    assert np.mean(found) > 0.3  # of 0


def test_a_model_gains_on_the_answers_from_the_turns():
    assert model_directed_information([3.0, 2.0], [1.0, 2.5]) == 1.5
    with pytest.raises(ValueError, match="paired"):
        model_directed_information([3.0], [1.0, 2.5])


def test_sequences_that_do_not_pair_are_refused():
    with pytest.raises(ValueError, match="2n axes"):
        directed_information(np.full((2, 2, 2), 1 / 8))
    with pytest.raises(ValueError, match="as long as each other"):
        empirical_transfer_entropy([0, 1, 0], [0, 1], 1)
    with pytest.raises(ValueError, match="more than 3"):
        empirical_transfer_entropy([0, 1, 0], [0, 1, 1], 3)
