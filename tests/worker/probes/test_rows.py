import pytest

from worker.probes.rows import duplication, leakage, lengths, n_grams, pair_coverage, trained

WORDS = "the quick brown fox jumps over the lazy dog and then it runs back to its den in the forest"
OTHER = "all cats are grey at night says an old proverb that nobody in this town has ever believed"


def value(findings, name):
    return findings[name].estimate.value


def test_lengths_are_those_before_anything_is_cut():
    found = lengths([*range(1, 101)], cutoff_len=90)
    assert value(found, "row_length:mean") == 50.5
    assert value(found, "row_length:p50") == 50.5
    assert value(found, "row_length:p99") == pytest.approx(99.01)
    assert value(found, "row_length:max") == 100
    assert value(found, "overlong_share") == 0.1
    assert found["row_length:max"].why_no_interval is not None
    assert found["row_length:mean"].why_no_interval is None


def test_what_is_trained_is_a_share_of_all_tokens_and_not_a_mean_of_shares():
    assert value(trained([1, 9], [10, 90]), "trained_share") == 0.1


def test_coverage_of_pairs_counts_those_that_were_seen_once_and_none_across_rows():
    # 1-2 three times, 2-1 once: one of four pairs was seen once
    assert value(pair_coverage([[1, 2, 1, 2], [1, 2]]), "pair_coverage") == 0.75


def test_n_grams_of_a_short_text_are_the_text():
    assert n_grams("a b") == {("a", "b")}
    assert len(n_grams("a b c d e f")) == 2
    assert n_grams("") == set()


def test_exact_and_near_duplicates_are_counted_and_named():
    near = WORDS.replace("den", "hole")
    found, worst = duplication([WORDS, OTHER, WORDS, near], seed=0)
    assert value(found, "duplicate_share") == 0.25
    assert value(found, "near_duplicate_share") == 0.25, "one word of 19 spoils 5 of 15 n-grams"
    assert [(one.row, one.other) for one in worst] == [(2, 0), (3, 0)]
    assert worst[0].shared == 1
    assert worst[0].saved > 0.9
    assert worst[1].saved > 0.5
    long = " ".join(f"{WORDS} {number}" for number in range(4))
    assert value(duplication([long, f"{long} x"], seed=0)[0], "near_duplicate_share") == 0.5


def test_rows_that_have_nothing_in_common_save_nothing():
    found, worst = duplication([WORDS, OTHER], seed=0)
    assert value(found, "near_duplicate_share") == value(found, "redundant_share") == 0
    assert worst == []


def test_held_out_rows_that_stand_in_training_rows_are_named():
    found, worst = leakage([OTHER, WORDS], [WORDS, "something else that was never said before here"], seed=0)
    assert value(found, "leaked_share") == 0.5
    assert 0.4 < value(found, "leaked_bits_share") < 0.5
    ((row, other),) = [(one.row, one.other) for one in worst]
    assert (row, other) == (0, 1)


def test_without_held_out_rows_leakage_has_a_reason():
    found, worst = leakage([WORDS], [], seed=0)
    assert found["leaked_share"].nothing_sampled.startswith("Nothing is held out")
    assert worst == []
