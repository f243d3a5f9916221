import math

import pytest

from worker.writing.scores import row_scores, scores, words


def test_a_prediction_that_is_its_label_has_100_and_one_that_shares_no_word_0():
    same = row_scores("The cat sat on the mat.", "the cat sat on the mat.")
    assert {name: value for name, value in same.items() if "rouge" in name} == pytest.approx(
        {"predict_rouge-1": 100, "predict_rouge-2": 100, "predict_rouge-l": 100}
    )
    assert row_scores("the cat sat on the mat", "the cat sat on the mat")["predict_bleu-4"] == pytest.approx(100)
    other = row_scores("dogs bark", "the cat sat on the mat")
    assert other["predict_rouge-1"] == other["predict_rouge-2"] == other["predict_rouge-l"] == 0
    assert other["predict_bleu-4"] < 10  # smoothed, so not 0


def test_rouge_is_f_of_words_of_pairs_and_of_the_longest_common_subsequence():
    """Label a b c d, prediction a c b x y: words 3 of 5 and of 4, F = 2/3; no pair; a c (or a b) is common, F = 4/9."""
    found = row_scores("a c b x y", "a b c d")
    assert found["predict_rouge-1"] == pytest.approx(100 * 6 / 9)
    assert found["predict_rouge-2"] == 0
    assert found["predict_rouge-l"] == pytest.approx(100 * 4 / 9)


def test_bleu_is_the_geometric_mean_of_the_precisions_with_the_brevity_penalty():
    """Prediction a b c d, label a b c d e: every n-gram is there, and exp(1 − 5/4) is for the missing word."""
    assert row_scores("a b c d", "a b c d e")["predict_bleu-4"] == pytest.approx(100 * math.exp(-1 / 4))


def test_a_chinese_character_is_a_word_of_its_own():
    assert words("我是GPT 4。") == ["我", "是", "gpt", "4"]
    found = row_scores("我是学生", "我是老师")
    assert found["predict_rouge-1"] == pytest.approx(50)
    assert found["predict_rouge-2"] == pytest.approx(100 / 3)
    assert row_scores("我是学生们", "我是学生们")["predict_bleu-4"] == pytest.approx(100)
    assert words("Füße, naïve") == ["füße", "naïve"]


def test_the_mean_over_rows_has_an_interval_and_a_row_without_a_label_does_not_count():
    found = scores(["a b", "x", "anything", ""], ["a b", "a", "", "a"], 9)["predict_rouge-1"]
    assert found.estimate.value == pytest.approx(100 / 3)
    assert (found.n_documents, found.estimate.n_tokens) == (3, 9)
    assert scores(["a"], [" . "], 1)["predict_bleu-4"].why_no_interval == "No document has a value."
