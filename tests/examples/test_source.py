"""The source of known entropy rate, by the theorems that make it a ruler."""

import random
import subprocess
import sys
from itertools import product
from math import inf, log2

import pytest
from source import SOURCE, Chain, bits, entropy_of_text, entropy_rate, first_word_entropy, from_counts, sample, stationary

TWO_STATES = Chain(("calm", "storm"), {"calm": {"calm": 0.9, "storm": 0.1}, "storm": {"calm": 0.3, "storm": 0.7}})
FAIR_COIN = from_counts({"heads": {"heads": 1, "tails": 1}, "tails": {"heads": 1, "tails": 1}})


def reached(start, chain, steps):
    """The words that may stand exactly `steps` after `start`."""
    here = {start}
    for _ in range(steps):
        here = {successor for word in here for successor in chain.transitions[word]}
    return here


def test_every_row_is_a_distribution_over_the_words():
    assert set(SOURCE.transitions) == set(SOURCE.words)
    for row in SOURCE.transitions.values():
        assert sum(row.values()) == 1.0  # sixteenths: exact in binary
        assert set(row) <= set(SOURCE.words)
        assert 3 <= len(row) <= 6


def test_the_chain_is_irreducible_and_aperiodic():
    """Some power of P has no zero: from every word, every word can stand exactly 20 steps later."""
    assert all(reached(word, SOURCE, steps=20) == set(SOURCE.words) for word in SOURCE.words)


def test_the_stationary_distribution_is_kept_by_a_step():
    p = stationary()
    assert sum(p.values()) == pytest.approx(1, abs=1e-12)
    for word in SOURCE.words:
        flow = sum(p[before] * row.get(word, 0.0) for before, row in SOURCE.transitions.items())
        assert flow == pytest.approx(p[word], abs=1e-13)


def test_a_fair_coin_is_one_bit_a_word():
    assert entropy_rate(FAIR_COIN) == 1.0
    assert first_word_entropy(FAIR_COIN) == 1.0
    assert entropy_of_text(10, FAIR_COIN) == 10.0


def test_two_states_have_the_entropy_rate_of_the_textbook():
    """π = (.75, .25), so h = .75 H(.1) + .25 H(.3)."""
    assert stationary(TWO_STATES) == pytest.approx({"calm": 0.75, "storm": 0.25}, abs=1e-12)
    assert entropy_rate(TWO_STATES) == pytest.approx(0.57207, abs=5e-6)


def test_a_periodic_chain_is_refused():
    lopsided = {"a": {"b": 1.0}, "b": {"a": 0.5, "c": 0.5}, "c": {"b": 1.0}}
    with pytest.raises(ValueError, match="periodic"):
        stationary(Chain(("a", "b", "c"), lopsided))


def test_what_is_known_of_a_word_before_never_costs():
    """Conditioning does not increase entropy: h ≤ H(π) ≤ lg |words|."""
    assert entropy_rate() <= first_word_entropy() <= log2(len(SOURCE.words))
    assert entropy_of_text(1) == first_word_entropy()


def test_the_code_length_is_minus_lg_of_the_product_of_the_steps():
    expected = -log2(0.75 * 0.9 * 0.1 * 0.7 * 0.3)
    assert bits("calm calm storm storm calm", TWO_STATES) == pytest.approx(expected, abs=1e-12)


def test_code_lengths_of_all_texts_are_those_of_a_distribution():
    """By brute force over all texts of five words: Σ P = 1, and Σ P lg 1/P = H(π) + 4 h."""
    lengths = [bits(" ".join(words), TWO_STATES) for words in product(TWO_STATES.words, repeat=5)]
    assert sum(2**-length for length in lengths) == pytest.approx(1, abs=1e-12)
    assert sum(length * 2**-length for length in lengths) == pytest.approx(entropy_of_text(5, TWO_STATES), abs=1e-12)


@pytest.mark.parametrize("text", ["the the", "the old zebra sings", "zebra", "zebra the"])
def test_what_the_source_cannot_say_has_no_code(text):
    assert bits(text) == inf


def test_a_long_sample_costs_the_entropy_rate():
    """The Shannon–McMillan–Breiman theorem: −(1/n) lg P(X_1 ... X_n) → h."""
    n = 200_000
    assert bits(sample(n, random.Random(7))) / n == pytest.approx(entropy_rate(), rel=0.01)


def test_the_command_prints_the_rate(examples):
    command = [sys.executable, str(examples / "source.py"), "--rate"]
    printed = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    assert float(printed) == pytest.approx(entropy_rate(), abs=1e-6)


def test_the_source_needs_only_the_standard_library(examples):
    script = f"import sys; sys.path.insert(0, {str(examples)!r}); import source; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True).stdout.split()
    assert not {"numpy", "torch", "pydantic"} & set(loaded)
