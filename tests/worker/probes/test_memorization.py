import math

import numpy as np
import pytest

from worker.information.intervals import standard_error
from worker.information.significance import clopper_pearson
from worker.probes.finding import Finding
from worker.probes.memorization import Rows, ez_scores, memorization, min_k_scores, verbatim, zlib_scores
from worker.probes.report import report_findings
from worker.probes.token import Document, Pass

WITH_THE_BASE = {"memorized_bits", "membership_auroc", "membership_tpr", "maximal_leakage"}
ALL = {"generalization_gap", "min_k_auroc", "zlib_auroc"} | WITH_THE_BASE


def rows(nll, base=None, first=None, n_documents=None, min_k=None, word_for_word=None):
    """One token a document unless said otherwise."""
    nll = np.array(nll, dtype=float)
    D = n_documents or len(nll)
    return Rows(
        nll,
        np.array(nll if base is None else base, dtype=float),
        np.zeros(len(nll), dtype=bool) if first is None else np.array(first),
        np.array(nll * 0 if min_k is None else min_k, dtype=float),
        np.arange(len(nll)) * D // len(nll),
        np.full(D, 8.0),
        np.full(D, np.nan) if word_for_word is None else np.array(word_for_word, dtype=float),
    )


def test_rows_that_are_told_apart_wholly_have_an_auroc_of_one_and_a_bit_leaks():
    train, held_out = rows([1.0, 1.0, 1.0, 1.0], base=[2, 2, 2, 2]), rows([3.0, 3.0, 3.0, 3.0], base=[2, 2, 2, 2])
    found = memorization(train, held_out, ALL, is_base=False)
    values = {name: finding.estimate.value for name, finding in found.items()}
    assert values["membership_auroc"] == values["zlib_auroc"] == values["membership_tpr"] == 1.0
    assert values["maximal_leakage"] == pytest.approx(1.0)
    assert values["generalization_gap"] == 2.0
    assert values["memorized_bits"] == 1.0 - (-1.0)
    assert values["min_k_auroc"] == 0.5


def test_rows_alike_have_an_auroc_of_a_half():
    same = rows([1.0, 2.0, 3.0, 4.0], base=[2, 2, 2, 2])
    found = memorization(same, same, ALL, is_base=False)
    values = {name: finding.estimate.value for name, finding in found.items()}
    assert values["membership_auroc"] == 0.5
    assert values["generalization_gap"] == values["memorized_bits"] == values["maximal_leakage"] == 0.0


def test_an_auroc_has_delongs_error():
    # training 3 and 1 against held-out 2 and 0: pairs 1, 1, 0, 1 of 4
    train, held_out = rows([-3.0, -1.0]), rows([-2.0, 0.0])
    auroc = memorization(train, held_out, {"zlib_auroc"}, is_base=False)["zlib_auroc"].estimate
    assert auroc.value == 0.75
    # each set's placements are (1, ½) and (½, 1): ± ¼, over 2, of four documents
    assert standard_error(auroc) == pytest.approx(math.sqrt(4 / 3 * 4 * (0.25 / 2) ** 2))


def test_the_base_is_not_compared_with_itself():
    of = rows([1.0, 2.0])
    assert set(memorization(of, of, ALL, is_base=True)) == ALL - WITH_THE_BASE


def test_ez_looks_at_errors_alone_and_at_which_way_they_moved():
    half_to_whole = rows([0.0, 1.0, 3.0], base=[1.0, 1.0, 2.0], first=[True, False, False])
    # first choice: nothing wrong, 1; nothing moved: 0; from ¼ to ⅛: −1
    assert ez_scores(half_to_whole).tolist() == [1.0, 0.0, -1.0]
    two_tokens = rows([1.0, 3.0], base=[2.0, 2.0], n_documents=1)
    assert ez_scores(two_tokens).tolist() == pytest.approx([(0.25 - 0.125) / (0.25 + 0.125)])
    one_error = rows([0.0, 3.0], base=[2.0, 2.0], first=[True, False], n_documents=1)
    assert ez_scores(one_error).tolist() == [-1.0], "what the first choice gained does not count"


def test_min_k_is_the_mean_of_the_lowest_fifth():
    assert min_k_scores(rows(np.zeros(10), min_k=np.arange(10.0), n_documents=1)).tolist() == [0.5]
    assert zlib_scores(rows([4.0, 2.0], n_documents=1)).tolist() == [-0.75]


def test_a_model_that_diverged_has_no_values_and_the_reason_why():
    found = memorization(rows([math.nan, 1.0]), rows([1.0, 1.0]), ALL, is_base=False)
    assert set(found) == ALL
    assert all("diverged" in finding.why_no_interval for finding in found.values())


def test_one_row_of_a_kind_has_no_interval():
    found = memorization(rows([1.0]), rows([1.0, 2.0]), {"zlib_auroc"}, is_base=False)["zlib_auroc"]
    assert found.why_no_interval == "An interval needs at least two training and two held-out rows."


def a_pass(*windows):
    """Of windows by (tokens, those of them that are masked at the beginning)."""
    documents = [Document([1] * n, [-100] * masked + [1] * (n - masked), 0) for n, masked in windows]
    return Pass(documents, None, None, None)


def test_word_for_word_are_fifty_first_choices_behind_fifty_tokens():
    one = a_pass((120, 0), (120, 60), (99, 0), (120, 0), (120, 0))
    scored = [len(window.scored) for window in one.documents]
    first = np.ones(sum(scored), dtype=bool)
    first[sum(scored[:3]) + 98] = False  # of the fourth the token at 99, the last of the fifty
    first[sum(scored[:4]) + 48] = first[sum(scored[:4]) + 99] = False  # of the fifth those at 49 and at 100, beside the fifty
    found = verbatim(one, first, np.repeat(np.arange(5), scored))
    np.testing.assert_array_equal(found, [1, 1, np.nan, 0, 1])
    turns = Document([1] * 120, [1] * 80 + [-100] + [1] * 39, 0)
    of_turns = Pass([turns], None, None, None)
    assert np.isnan(verbatim(of_turns, np.ones(118, dtype=bool), np.zeros(118, dtype=int))), "no fifty one after another"


def test_the_first_window_that_is_long_enough_speaks_for_its_document():
    one = a_pass((60, 0), (120, 0), (120, 0))
    scored = [len(window.scored) for window in one.documents]
    first = np.ones(sum(scored), dtype=bool)
    first[sum(scored[:2]) :] = False
    assert verbatim(one, first, np.repeat([0, 0, 0], scored)).tolist() == [1]


def test_shares_of_rows_have_exact_intervals_and_survive_json():
    train = rows([1.0] * 40, base=[2.0] * 40, word_for_word=[0.0] * 38 + [np.nan] * 2)
    held_out = rows([1.0] * 40, base=[1.0] * 40)
    found = memorization(train, held_out, {"verbatim_rate", "membership_tpr"}, is_base=False)
    assert set(found) == {"verbatim_rate:train", "verbatim_rate:held_out", "membership_tpr"}
    of_train = found["verbatim_rate:train"]
    assert (of_train.estimate.value, of_train.n_documents, of_train.bounds) == (0.0, 38, clopper_pearson(0, 38))
    assert "50 scored tokens" in found["verbatim_rate:held_out"].why_no_interval
    assert found["membership_tpr"].bounds == clopper_pearson(40, 40)
    (row,) = report_findings({1: {"verbatim_rate:train": Finding.from_json(of_train.to_json())}}, None)
    assert row["interval"] == pytest.approx([0.0, 1 - 0.025 ** (1 / 38)])
