import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.information.hidden_markov import fitted_chain, hidden_markov_rate_bounds, state_posterior_entropy
from worker.information.processes import markov_entropy_rate, stationary_distribution

TWO_STATES = np.array([[0.9, 0.1], [0.3, 0.7]])
NOISY = np.array([[0.9, 0.1], [0.1, 0.9]])
seeds = st.integers(0, 2**32 - 1)


def test_states_that_are_seen_make_a_markov_chain():
    bounds = hidden_markov_rate_bounds(TWO_STATES, np.eye(2), 4)
    assert bounds.lower_N[1:] == pytest.approx(np.full(3, markov_entropy_rate(TWO_STATES)))
    assert bounds.upper_N[1:] == pytest.approx(np.full(3, markov_entropy_rate(TWO_STATES)))
    # and the entropy of a state by itself is not the rate
    assert bounds.upper_N[0] == pytest.approx(0.81128, abs=5e-6)


def test_the_bounds_meet_at_twelve_symbols():
    bounds = hidden_markov_rate_bounds(TWO_STATES, NOISY, 12)
    assert 0 <= bounds.upper_N[-1] - bounds.lower_N[-1] < 1e-9


def test_symbols_that_say_nothing_of_the_states_are_independent():
    bounds = hidden_markov_rate_bounds(TWO_STATES, [[0.3, 0.7], [0.3, 0.7]], 5)
    assert bounds.lower_N == pytest.approx(np.full(5, -0.3 * math.log2(0.3) - 0.7 * math.log2(0.7)))


@given(seeds, st.integers(1, 3), st.integers(1, 3))
@settings(max_examples=50, deadline=None)
def test_the_lower_bounds_rise_the_upper_fall_and_they_do_not_cross(seed, S, Y):
    rng = np.random.default_rng(seed)
    bounds = hidden_markov_rate_bounds(rng.dirichlet(np.ones(S), size=S), rng.dirichlet(np.ones(Y), size=S), 6)
    assert (np.diff(bounds.lower_N) >= -1e-12).all()
    assert (np.diff(bounds.upper_N) <= 1e-12).all()
    assert (bounds.lower_N <= bounds.upper_N + 1e-12).all()
    assert (bounds.lower_N >= -1e-12).all()
    assert (bounds.upper_N <= math.log2(Y) + 1e-12).all()


def test_the_first_bounds_against_a_sum_over_everything():
    states = stationary_distribution(TWO_STATES)
    joint = np.einsum("i,ia,ij,jb->iab", states, NOISY, TWO_STATES, NOISY)

    def entropy(p):
        return -(p * np.log2(p)).sum()

    bounds = hidden_markov_rate_bounds(TWO_STATES, NOISY, 2)
    assert bounds.upper_N[1] == pytest.approx(entropy(joint.sum(0)) - entropy(joint.sum((0, 2))))
    assert bounds.lower_N[1] == pytest.approx(entropy(joint) - entropy(joint.sum(2)))


def test_words_that_memory_does_not_hold_are_refused():
    with pytest.raises(ValueError, match="too many"):
        hidden_markov_rate_bounds(TWO_STATES, NOISY, 60)


def every_path(initial, transitions, emissions, observations):
    weights = []
    for path in itertools.product(range(len(initial)), repeat=len(observations)):
        weight = initial[path[0]] * emissions[path[0], observations[0]]
        for t in range(1, len(path)):
            weight *= transitions[path[t - 1], path[t]] * emissions[path[t], observations[t]]
        weights.append(weight)
    p = np.array(weights) / sum(weights)
    p = p[p > 0]
    return -(p * np.log2(p)).sum()


@given(seeds, st.integers(2, 3))
@settings(max_examples=50, deadline=None)
def test_the_entropy_of_the_paths_is_that_of_all_paths_written_out(seed, S):
    rng = np.random.default_rng(seed)
    initial, transitions = rng.dirichlet(np.full(S, 0.5)), rng.dirichlet(np.full(S, 0.5), size=S)
    emissions, observations = rng.dirichlet(np.ones(2), size=S), rng.integers(0, 2, size=5)
    assert state_posterior_entropy(initial, transitions, emissions, observations) == pytest.approx(
        every_path(initial, transitions, emissions, observations), abs=1e-9
    )


def test_what_is_seen_plainly_leaves_nothing_to_know_and_what_says_nothing_leaves_all():
    assert state_posterior_entropy([0.75, 0.25], TWO_STATES, np.eye(2), [0, 0, 1, 0]) == 0
    blind = state_posterior_entropy([0.75, 0.25], TWO_STATES, np.ones((2, 1)), [0] * 6)
    assert blind == pytest.approx(0.81127812 + 5 * markov_entropy_rate(TWO_STATES))


def test_long_texts_and_emissions_of_1e_300_do_not_underflow():
    rare = np.array([[1 - 1e-300, 1e-300], [1 - 3e-300, 3e-300]])
    assert state_posterior_entropy([0.5, 0.5], np.full((2, 2), 0.5), rare, [1] * 50) == pytest.approx(
        50 * (2 - 0.75 * math.log2(3))
    )


def test_observations_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="probability is 0"):
        state_posterior_entropy([1, 0], np.eye(2), np.eye(2), [0, 1])
    with pytest.raises(ValueError, match="0 to 1"):
        state_posterior_entropy([0.5, 0.5], TWO_STATES, NOISY, [0, 2])
    with pytest.raises(ValueError, match="emissions of 3"):
        hidden_markov_rate_bounds(TWO_STATES, np.eye(3), 2)


# -- a chain that is fitted ---------------------------------------------------------------------------------------------


def drawn(transitions, emissions, lengths, seed=0):
    rng = np.random.default_rng(seed)
    sequences = []
    for length in lengths:
        state, symbols = 0, []
        for _ in range(length):
            symbols.append(rng.choice(len(emissions[0]), p=emissions[state]))
            state = rng.choice(len(transitions), p=transitions[state])
        sequences.append(np.array(symbols))
    return sequences


def test_a_fit_finds_the_chain_that_the_sequences_are_from():
    transitions, emissions = [[0.95, 0.05], [0.1, 0.9]], [[0.9, 0.1, 0.0], [0.0, 0.2, 0.8]]
    fit = fitted_chain(drawn(transitions, emissions, [400] * 10), 2, 3)
    assert fit.transitions_SS == pytest.approx(np.array(transitions), abs=0.03)
    assert fit.emissions_SY == pytest.approx(np.array(emissions), abs=0.03)


def test_the_likelihood_of_a_fit_is_that_of_all_paths_and_no_iteration_lowers_it():
    sequences = [np.array([0, 1, 1, 0]), np.array([1, 0])]
    likelihoods = []
    for iterations in (1, 2, 5, 20):
        fit = fitted_chain(sequences, 2, 2, iterations)
        likelihoods.append(fit.log_likelihood_bits)
    assert likelihoods == sorted(likelihoods)
    before = fitted_chain(sequences, 2, 2, 4)  # the fifth iteration's likelihood is that of what the fourth left
    total = 0.0
    for sequence in sequences:
        paths = itertools.product(range(2), repeat=len(sequence))
        total += math.log2(sum(_path(before, path, sequence) for path in paths))
    assert fitted_chain(sequences, 2, 2, 5).log_likelihood_bits == pytest.approx(total)


def _path(fit, path, sequence):
    p = fit.initial_S[path[0]] * fit.emissions_SY[path[0], sequence[0]]
    for t in range(1, len(path)):
        p *= fit.transitions_SS[path[t - 1], path[t]] * fit.emissions_SY[path[t], sequence[t]]
    return p


def test_what_stands_behind_a_short_sequence_s_end_counts_nothing():
    short, long = np.array([0, 1]), np.array([0, 1, 1, 0, 1])
    together = fitted_chain([short, long], 2, 2, 1)
    apart = [fitted_chain([sequence], 2, 2, 1).log_likelihood_bits for sequence in (short, long)]
    assert together.log_likelihood_bits == pytest.approx(sum(apart))


def test_one_state_is_the_shares_of_the_symbols():
    fit = fitted_chain([np.array([0, 0, 1]), np.array([2])], 1, 3)
    assert fit.emissions_SY == pytest.approx(np.array([[0.5, 0.25, 0.25]]))


def test_a_fit_needs_a_sequence():
    with pytest.raises(ValueError, match="must be a sequence"):
        fitted_chain([], 2, 2)
