import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from worker.information.continuous import exponential_entropy
from worker.information.processes import markov_entropy_rate
from worker.information.renewal import (
    continuous_renewal_entropy_rate,
    empirical_renewal_entropy_rate,
    gaps,
    kac_return_time,
    renewal_entropy_rate,
    return_times,
)


def h(p):
    return -p * math.log2(p) - (1 - p) * math.log2(1 - p)


def test_geometric_gaps_make_a_coin():
    geometric = 0.3 * 0.7 ** np.arange(500)
    assert renewal_entropy_rate(geometric) == pytest.approx(h(0.3))
    assert renewal_entropy_rate(geometric) == pytest.approx(0.88129, abs=5e-6)


def test_more_spread_gaps_do_not_mean_more_entropy():
    # 1 or 3 steps, and 1 or 99: a bit a gap both times
    narrow, wide = np.zeros(3), np.zeros(99)
    narrow[[0, 2]] = 0.5
    wide[[0, 98]] = 0.5
    assert (renewal_entropy_rate(narrow), renewal_entropy_rate(wide)) == (1 / 2, 1 / 50)
    assert renewal_entropy_rate([0, 0, 1]) == 0


@given(st.lists(st.floats(0.05, 1), min_size=2, max_size=5))
@settings(max_examples=50, deadline=None)
def test_the_rate_is_that_of_the_chain_of_ages(weights):
    """The age since the last event is a Markov chain: from age a an event comes with the hazard P(T = a+1)/P(T > a)."""
    gap_p = np.array(weights) / math.fsum(weights)
    K = len(gap_p)
    transitions = np.zeros((K, K))
    for age in range(K):
        hazard = 1.0 if age == K - 1 else gap_p[age] / gap_p[age:].sum()
        transitions[age, 0] = hazard
        if age < K - 1:
            transitions[age, age + 1] = 1 - hazard
    assert renewal_entropy_rate(gap_p) == pytest.approx(markov_entropy_rate(transitions))


def test_exponential_gaps():
    assert exponential_entropy(2) == pytest.approx(0.44270, abs=5e-6)
    integral = integrate.quad(lambda t: -2 * math.exp(-2 * t) * (1 - 2 * t / math.log(2)), 0, 40)[0]
    assert exponential_entropy(2) == pytest.approx(integral)
    assert continuous_renewal_entropy_rate(exponential_entropy(2), 1 / 2) == pytest.approx(2 * math.log2(math.e / 2))


def test_no_gaps_of_the_same_mean_are_more_random_than_exponential_ones():
    uniform = math.log2(1.0)  # on 0 to 1, mean ½
    assert uniform < exponential_entropy(2)
    assert continuous_renewal_entropy_rate(-math.inf, 1.0) == -math.inf


def test_gaps_of_events():
    assert gaps([1.0, 1.5, 4.0]).tolist() == [0.5, 2.5]
    with pytest.raises(ValueError, match="event 2"):
        gaps([1, 3, 2])


def test_the_empirical_rate_of_a_loop_is_zero_and_of_a_coin_is_its_entropy():
    loop = np.tile([5, 1, 2, 3], 50)
    assert empirical_renewal_entropy_rate(return_times(loop, 5)) == 0
    coin = np.random.default_rng(0).random(200_000) < 0.3
    assert empirical_renewal_entropy_rate(return_times(coin, True)) == pytest.approx(h(0.3), abs=0.01)
    for wrong in ([0.5], [[1, 2, 3]], [0], []):
        with pytest.raises(ValueError, match="flat array of whole numbers"):
            empirical_renewal_entropy_rate(wrong)
    with pytest.raises(ValueError, match="it is nan"):
        continuous_renewal_entropy_rate(math.nan, 1.0)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=50))
@settings(max_examples=60, deadline=None)
def test_kac_round_a_circle_the_mean_return_time_is_one_over_the_frequency(symbols):
    times = return_times(symbols, symbols[0], circular=True)
    assert times.mean() == pytest.approx(kac_return_time(symbols.count(symbols[0]) / len(symbols)))
    assert times.sum() == len(symbols)


def test_a_symbol_that_never_comes_never_returns():
    assert kac_return_time(0.0) == math.inf
    assert len(return_times([1, 2, 3], 9, circular=True)) == 0
    with pytest.raises(ValueError, match="0 to 1"):
        kac_return_time(1.5)
