import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.information.coding import (
    COMPRESSORS,
    arithmetic_code_bits,
    block_code_bounds,
    code_redundancy,
    compressed_bits,
    compression_ratio,
    conditional_kolmogorov_upper_bound,
    expected_length,
    huffman_lengths,
    kolmogorov_upper_bound,
    kraft_sum,
    normalized_compression_distance,
    one_to_one_length,
    shannon_lengths,
)

DYADIC = [0.5, 0.25, 0.125, 0.125]


def distributions(most=8):
    weights = st.lists(st.just(0.0) | st.floats(1e-6, 1), min_size=1, max_size=most).filter(lambda w: sum(w) > 0)
    return weights.map(lambda w: np.array(w) / math.fsum(w))


def entropy(p):
    p = p[p > 0]
    return -(p * np.log2(p)).sum()


def noise(n, seed=0):
    return np.random.default_rng(seed).bytes(n)


def test_a_dyadic_source_is_coded_at_its_entropy():
    assert huffman_lengths(DYADIC).tolist() == [1, 2, 3, 3]
    assert shannon_lengths(DYADIC).tolist() == [1, 2, 3, 3]
    assert expected_length(DYADIC, huffman_lengths(DYADIC)) == 1.75
    assert code_redundancy(DYADIC, huffman_lengths(DYADIC)) == 0


def test_a_biased_coin_wastes_half_a_bit():
    assert code_redundancy([0.9, 0.1], huffman_lengths([0.9, 0.1])) == pytest.approx(0.53100, abs=5e-6)


def test_huffmans_code_of_cover_and_thomas():
    # example 5.6.1: .25 .25 .2 .15 .15 have 2, 2, 2, 3, 3: 2.3 bits
    assert expected_length([0.25, 0.25, 0.2, 0.15, 0.15], huffman_lengths([0.25, 0.25, 0.2, 0.15, 0.15])) == pytest.approx(2.3)


def test_blocks_waste_less():
    pairs = np.outer([0.9, 0.1], [0.9, 0.1]).ravel()
    low, high = block_code_bounds(entropy(np.array([0.9, 0.1])), 2)
    assert low <= expected_length(pairs, huffman_lengths(pairs)) / 2 < high
    assert expected_length(pairs, huffman_lengths(pairs)) / 2 == pytest.approx(0.645)


def test_what_never_comes_has_no_word_and_what_is_certain_needs_none():
    assert huffman_lengths([0.5, 0, 0.5]).tolist() == [1, math.inf, 1]
    assert shannon_lengths([1.0, 0.0]).tolist() == [0, math.inf]
    assert huffman_lengths([1.0, 0.0]).tolist() == [0, math.inf]
    assert expected_length([1.0, 0.0], [0, math.inf]) == 0
    assert expected_length([0.5, 0.5], [1, math.inf]) == math.inf
    assert shannon_lengths([1 - 1e-300, 1e-300]).tolist() == [0, 997]


@given(distributions())
@settings(max_examples=100, deadline=None)
def test_shannons_theorem_and_krafts_inequality(p):
    huffman, shannon = huffman_lengths(p), shannon_lengths(p)
    H = entropy(p)
    assert H - 1e-9 <= expected_length(p, huffman) <= expected_length(p, shannon)
    assert expected_length(p, shannon) < H + 1 + 1e-9
    assert kraft_sum(shannon) <= 1
    assert kraft_sum(huffman) == 1  # a full tree


@given(distributions(5))
@settings(max_examples=40, deadline=None)
def test_no_lengths_that_kraft_allows_are_shorter_than_huffmans(p):
    best = min(
        (
            expected_length(p, lengths)
            for lengths in np.array(np.meshgrid(*[range(5)] * len(p))).reshape(len(p), -1).T
            if kraft_sum(lengths) <= 1
        ),
    )
    assert expected_length(p, huffman_lengths(p)) <= best + 1e-12


def test_kraft_with_three_letters():
    assert kraft_sum([1, 1, 1], letters=3) == pytest.approx(1)
    assert kraft_sum([1, 1, 1]) == 1.5
    with pytest.raises(ValueError, match="letters"):
        kraft_sum([1], letters=1)


@given(distributions(40))
@settings(max_examples=80, deadline=None)
def test_one_to_one_codes_beat_the_entropy_but_not_by_much(p):
    H = entropy(p)
    assert H - math.log2(H + 1) - math.log2(math.e) - 1e-9 <= one_to_one_length(p) <= H + 1e-9


def test_a_one_to_one_code_of_four_symbols_by_hand():
    # words "", 0, 1, 00: (0 + 1 + 1 + 2)/4 = 1 bit, where H = 2
    assert one_to_one_length([0.25] * 4) == 1
    assert code_redundancy([0.25] * 4, [0, 1, 1, 2]) == -1


def test_an_arithmetic_code_is_within_two_bits():
    assert arithmetic_code_bits([1.5, 0.25]) == 3
    assert arithmetic_code_bits([2.0]) == 3
    assert arithmetic_code_bits([math.inf]) == math.inf
    with pytest.raises(ValueError, match="≥ 0"):
        arithmetic_code_bits([-1.0])


@given(st.lists(st.floats(0, 50), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_the_whole_bits_of_a_text_exceed_its_loss_by_one_to_two(nll):
    assert math.fsum(nll) + 1 <= arithmetic_code_bits(nll) <= math.fsum(nll) + 2


@given(st.binary(max_size=400))
@settings(max_examples=50, deadline=None)
def test_no_string_is_much_more_complex_than_it_is_long(data):
    assert 2 <= kolmogorov_upper_bound(data) <= 8 * len(data) + 2
    assert conditional_kolmogorov_upper_bound(data, b"") == kolmogorov_upper_bound(data)
    assert conditional_kolmogorov_upper_bound(data, noise(50)) <= kolmogorov_upper_bound(data)


def test_order_is_simple_noise_is_not_and_what_is_known_costs_little():
    assert kolmogorov_upper_bound(b"ab" * 5000) < 500
    assert kolmogorov_upper_bound(noise(5000)) == 8 * 5000 + 2
    assert conditional_kolmogorov_upper_bound(noise(5000), noise(5000)) < 2000
    assert conditional_kolmogorov_upper_bound(noise(5000), noise(5000, seed=1)) == 8 * 5000 + 2


def test_compressors_stay_above_the_entropy_of_a_chain_and_a_model_comes_near_it():
    rng = np.random.default_rng(0)
    turns = np.cumsum(rng.geometric(0.1, size=4000))
    text = (65 + np.searchsorted(turns, np.arange(20_000), side="right") % 2).astype(np.uint8).tobytes()
    truth = 20_000 * (-0.1 * math.log2(0.1) - 0.9 * math.log2(0.9))
    for name in COMPRESSORS:
        assert truth < compressed_bits(text, name) < 2 * truth
    changes = sum(a != b for a, b in itertools.pairwise(text))
    model = arithmetic_code_bits([1.0] + [-math.log2(0.1)] * changes + [-math.log2(0.9)] * (len(text) - 1 - changes))
    assert model < min(compressed_bits(text, name) for name in COMPRESSORS)
    assert model == pytest.approx(truth, rel=0.05)


@pytest.mark.parametrize("name", COMPRESSORS)
def test_copies_are_near_and_strangers_far(name):
    x, y = noise(3000), noise(3000, seed=1)
    # bz2 sorts its block and finds the copy, but must still say where each byte stands
    assert normalized_compression_distance(x, x, name) < (0.1 if name != "bz2" else 0.5)
    assert 0.85 < normalized_compression_distance(x, y, name) < 1.1


def test_a_loop_compresses_and_noise_does_not():
    assert compression_ratio(b"again and " * 1000) < 0.02
    assert 1 <= compression_ratio(noise(10_000)) < 1.01


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="has one axis"):
        huffman_lengths([[0.5, 0.5]])
    for lengths in ([math.nan, 1.0], [-1.0, 1.0]):
        with pytest.raises(ValueError, match="lengths are numbers"):
            expected_length([0.5, 0.5], lengths)
    for nll in ([math.nan], [-1.0, 3.0]):
        with pytest.raises(ValueError, match="bits of a loss"):
            arithmetic_code_bits(nll)
    assert arithmetic_code_bits([]) == 1
    with pytest.raises(ValueError, match="no compressor 'rar', only zlib, lzma, bz2"):
        compressed_bits(b"x", "rar")
    with pytest.raises(ValueError, match="no data"):
        compression_ratio(b"")
    with pytest.raises(ValueError, match="lengths"):
        expected_length([0.5, 0.5], [1])
    with pytest.raises(ValueError, match="at least one"):
        block_code_bounds(1.0, 0)
