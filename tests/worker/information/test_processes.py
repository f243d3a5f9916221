import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.information.processes import (
    block_entropies,
    block_entropy_rates,
    iid_nll,
    markov_entropy_rate,
    markov_nll,
    match_length_entropy_rate,
    parry_measure,
    sample_entropy_rate,
    self_consistency,
    stationary_distribution,
)

TWO_STATES = np.array([[0.9, 0.1], [0.3, 0.7]])
seeds = st.integers(0, 2**32 - 1)


def h(p):
    return -p * math.log2(p) - (1 - p) * math.log2(1 - p)


def sample(transitions, T, rng):
    states, draws = np.zeros(T, dtype=int), rng.random(T)
    cumulative = transitions.cumsum(axis=1)
    for t in range(1, T):
        states[t] = np.searchsorted(cumulative[states[t - 1]], draws[t])
    return states


def test_the_two_state_chain_by_hand():
    assert stationary_distribution(TWO_STATES) == pytest.approx([0.75, 0.25])
    assert markov_entropy_rate(TWO_STATES) == pytest.approx(0.75 * h(0.1) + 0.25 * h(0.3))
    assert markov_entropy_rate(TWO_STATES) == pytest.approx(0.57207, abs=5e-6)


def test_transient_states_weigh_nothing_and_a_cycle_makes_no_bits():
    leads_in = np.array([[0.5, 0.5, 0], [0, 0, 1], [0, 1, 0]])
    assert stationary_distribution(leads_in).tolist() == [0, 0.5, 0.5]
    assert markov_entropy_rate(leads_in) == 0


def test_two_closed_classes_have_no_one_stationary_distribution():
    with pytest.raises(ValueError, match="2 closed classes"):
        stationary_distribution(np.eye(2))


def test_a_state_that_is_left_with_1e_300_keeps_all_digits():
    stationary = stationary_distribution([[1.0, 1e-300], [0.5, 0.5]])
    assert stationary[1] == pytest.approx(2e-300, rel=1e-12)


@given(seeds, st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_the_rate_is_at_most_the_stationary_entropy(seed, S):
    transitions = np.random.default_rng(seed).dirichlet(np.full(S, 0.5), size=S)
    stationary = stationary_distribution(transitions)
    assert stationary @ transitions == pytest.approx(stationary, abs=1e-14)
    assert stationary.sum() == pytest.approx(1)
    used = stationary[stationary > 0]
    assert 0 <= markov_entropy_rate(transitions) <= -(used * np.log2(used)).sum() + 1e-12


def test_the_golden_mean_shift_carries_at_most_lg_phi():
    phi = (1 + math.sqrt(5)) / 2
    transitions = parry_measure([[1, 1], [1, 0]])
    assert transitions == pytest.approx(np.array([[1 / phi, 1 / phi**2], [1, 0]]))
    assert markov_entropy_rate(transitions) == pytest.approx(math.log2(phi))
    assert markov_entropy_rate(transitions) == pytest.approx(0.694242, abs=5e-7)


@given(seeds)
@settings(max_examples=40, deadline=None)
def test_no_chain_on_the_same_edges_makes_more_than_parrys(seed):
    rng = np.random.default_rng(seed)
    edges = (rng.random((4, 4)) < 0.5).astype(float) + np.roll(np.eye(4), 1, axis=1)
    edges = np.minimum(edges, 1)
    most = markov_entropy_rate(parry_measure(edges))
    assert most == pytest.approx(math.log2(np.abs(np.linalg.eigvals(edges)).max()), abs=1e-9)
    other = edges * rng.random((4, 4))
    assert markov_entropy_rate(other / other.sum(axis=1, keepdims=True)) <= most + 1e-9


def test_a_graph_in_parts_has_no_parry_measure():
    with pytest.raises(ValueError, match="irreducible"):
        parry_measure(np.eye(2))


def test_blocks_by_hand():
    # 0 1 0 1 0: symbols 3:2, pairs 01 01 | 10 10
    assert block_entropies([[0, 1, 0, 1, 0]], 2) == pytest.approx([h(0.6), 1.0])
    # pairs begin with 0 twice and with 1 twice, and the beginning tells the end
    assert block_entropy_rates([[0, 1, 0, 1, 0]], 2) == pytest.approx([h(0.6), 0.0], abs=1e-12)


def test_no_block_crosses_sequences():
    assert block_entropies([[0, 0], [1, 1]], 2)[1] == 1
    with pytest.raises(ValueError, match="no sequence has 3"):
        block_entropies([[0, 0], [1, 1]], 3)


def test_the_block_entropies_of_a_long_sample_lead_to_the_rate():
    symbols = sample(TWO_STATES, 100_000, np.random.default_rng(0))
    rates = block_entropy_rates([symbols], 5)
    assert rates[0] == pytest.approx(h(0.25), abs=0.01)
    assert rates[1:] == pytest.approx(np.full(4, 0.57207), abs=0.01)


@given(st.lists(st.lists(st.integers(0, 2), min_size=4, max_size=30), min_size=1, max_size=3))
@settings(max_examples=60, deadline=None)
def test_conditional_block_entropies_are_not_negative(sequences):
    assert (block_entropy_rates(sequences, 4) >= -1e-12).all()


def test_another_estimator_may_count_the_blocks():
    assert block_entropies([[0, 1, 1]], 1, entropy_of_counts=lambda counts_K: float(counts_K.max())).tolist() == [2]


def test_match_lengths_by_hand():
    # a b a b: Λ = 1 (b is new), 3 (abab: from 2 on "ab" is known, and the text ends), 2
    assert match_length_entropy_rate([7, 9, 7, 9]) == pytest.approx(3 / (1 / 1 + 3 / math.log2(3) + 2 / 2))


def test_match_lengths_order_processes_but_are_biased():
    rng = np.random.default_rng(0)
    chain = match_length_entropy_rate(sample(TWO_STATES, 5_000, rng))
    coin = match_length_entropy_rate(rng.integers(0, 2, size=5_000))
    loop = match_length_entropy_rate(np.tile([0, 1, 2], 1000))
    assert loop < 0.05 < chain < coin
    assert chain < 0.55  # of .572


def test_the_likelihood_of_a_sample_leads_to_the_rate_iid_and_markov():
    rng = np.random.default_rng(0)
    p = np.array([0.5, 0.25, 0.125, 0.125])
    assert sample_entropy_rate(iid_nll(p, rng.choice(4, size=50_000, p=p))) == pytest.approx(1.75, abs=0.02)
    # in exact proportions the rate is exact
    assert sample_entropy_rate(iid_nll(p, [0, 0, 0, 0, 1, 1, 2, 3])) == 1.75
    chain = sample(TWO_STATES, 50_000, rng)
    assert sample_entropy_rate(markov_nll(TWO_STATES, chain)) == pytest.approx(0.57207, abs=0.02)


def test_the_likelihood_of_a_short_path_by_hand():
    assert markov_nll(TWO_STATES, [0, 1, 1]) == pytest.approx([-math.log2(0.75), -math.log2(0.1), -math.log2(0.7)])
    assert markov_nll(TWO_STATES, [0, 1], initial_S=[0.5, 0.5])[0] == 1
    assert markov_nll([[0, 1], [1, 0]], [0, 0])[1] == math.inf


def test_what_a_model_samples_from_itself_agrees_with_its_entropies():
    rng = np.random.default_rng(1)
    chain = sample(TWO_STATES, 20_000, rng)
    losses = -np.log2(TWO_STATES)
    entropy = np.array([h(0.1), h(0.3)])[chain[:-1]]
    variance_S = (TWO_STATES * losses**2).sum(axis=1) - np.array([h(0.1), h(0.3)]) ** 2
    nll = losses[chain[:-1], chain[1:]]
    own = self_consistency(nll, entropy, variance_S[chain[:-1]])
    assert abs(own.z) < 3
    assert abs(own.gap_bits) < 0.02
    # a model that thinks it is surer than it is
    sure = np.array([[0.99, 0.01], [0.1, 0.9]])
    losses = -np.log2(sure)
    entropy_S = (sure * losses).sum(axis=1)
    variance_S = (sure * losses**2).sum(axis=1) - entropy_S**2
    other = self_consistency(losses[chain[:-1], chain[1:]], entropy_S[chain[:-1]], variance_S[chain[:-1]])
    assert other.z > 10
    assert other.gap_bits > 0.2


def test_the_z_of_self_consistency_is_standard_normal():
    rng = np.random.default_rng(2)
    p = np.array([0.7, 0.2, 0.1])
    losses = -np.log2(p)
    entropy, variance = p @ losses, p @ losses**2 - (p @ losses) ** 2
    z = [self_consistency(losses[rng.choice(3, 200, p=p)], np.full(200, entropy), np.full(200, variance)).z for _ in range(400)]
    assert np.mean(z) == pytest.approx(0, abs=0.15)
    assert np.std(z) == pytest.approx(1, abs=0.12)


def test_certainty_that_is_right_is_consistent_and_that_is_wrong_is_not():
    assert self_consistency([0.0], [0.0], [0.0]).z == 0
    assert self_consistency([1.0], [0.0], [0.0]).z == math.inf


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda: markov_entropy_rate([[0.5, 0.5]]), "square"),
        (lambda: iid_nll([0.5, 0.5], [0, 2]), "0 to 1"),
        (lambda: iid_nll([0.5, 0.5], [0.5]), "whole numbers"),
        (lambda: sample_entropy_rate([]), "no losses"),
        (lambda: sample_entropy_rate([1.0, math.nan]), r"at \[1\] stands nan"),
        (lambda: self_consistency([1.0, 2.0], [1.0, math.inf], [1.0, 1.0]), "must be finite"),
        (lambda: block_entropies([[0, 1]], 0), "at least one symbol, not 0"),
        (lambda: block_entropy_rates([[0, 1]], -1), "at least one symbol, not -1"),
        (lambda: iid_nll([[0.5, 0.5]], [0]), "has one axis"),
        (lambda: match_length_entropy_rate([1]), "two symbols"),
        (lambda: block_entropies([1, 2], 1), "one-dimensional"),
        (lambda: self_consistency([1.0, 2.0], [1.0, 2.0], [1.0]), "same tokens"),
    ],
)
def test_what_makes_no_sense_is_refused(call, what):
    with pytest.raises(ValueError, match=what):
        call()
