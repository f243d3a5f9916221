import math

import numpy as np
import pytest
from scipy import stats

from worker.information.intervals import difference, interval, ratio, standard_error, transform, why_no_interval


def test_two_documents_by_hand():
    # m = 4/4 = 1 bit; r = (1−2, 3−2)/4 = (−¼, ¼); SE = sqrt(2/1 · 2/16) = ½; t(1 df, 95 %) = 12.7062
    estimate = ratio([1.0, 3.0], [2, 2])
    assert estimate.value == 1.0
    assert estimate.influence_D.tolist() == [-0.25, 0.25]
    assert (estimate.n_documents, estimate.n_tokens) == (2, 4)
    assert standard_error(estimate) == 0.5
    low, high = interval(estimate)
    assert (low, high) == (pytest.approx(1 - 12.7062047 / 2), pytest.approx(1 + 12.7062047 / 2))
    assert why_no_interval(estimate) is None


def test_documents_of_equal_length_give_the_ordinary_standard_error_of_a_mean():
    means_D = np.random.default_rng(0).normal(3, 1, size=25)
    estimate = ratio(means_D * 40, np.full(25, 40))
    assert standard_error(estimate) == pytest.approx(means_D.std(ddof=1) / 5)


def test_standard_error_is_the_textbook_linearisation():
    rng = np.random.default_rng(1)
    n_D = rng.integers(1, 90, size=30)
    S_D = 2.5 * n_D + rng.normal(0, 9, size=30)
    # Cochran (6.13) with sampling fraction 0: v(R) = (s_y² + R² s_x² − 2R s_yx) / (D x̄²)
    R = S_D.sum() / n_D.sum()
    covariance = np.cov(S_D, n_D)
    variance = (covariance[0, 0] + R**2 * covariance[1, 1] - 2 * R * covariance[0, 1]) / (30 * n_D.mean() ** 2)
    assert standard_error(ratio(S_D, n_D)) == pytest.approx(math.sqrt(variance))


def test_influence_sums_to_zero():
    rng = np.random.default_rng(2)
    assert ratio(rng.random(50), rng.integers(1, 9, size=50)).influence_D.sum() == pytest.approx(0, abs=1e-15)


def test_an_interval_at_a_lower_level_is_narrower():
    estimate = ratio([1.0, 3.0, 2.5], [2, 2, 2])
    narrow, wide = interval(estimate, 0.5), interval(estimate, 0.99)
    assert wide[0] < narrow[0] < estimate.value < narrow[1] < wide[1]


def test_clustered_intervals_cover_where_token_level_intervals_do_not():
    """60 documents of 20 to 500 tokens; a document's own level has half the spread of a token: correlation 0.2 within."""
    rng = np.random.default_rng(3)
    trials, clustered, by_token = 300, 0, 0
    for _ in range(trials):
        n_D = rng.integers(20, 500, size=60)
        level_D = rng.normal(2.0, 0.5, size=60)
        tokens = [level + rng.normal(0, 1, size=n) for level, n in zip(level_D, n_D, strict=True)]
        low, high = interval(ratio([x.sum() for x in tokens], n_D))
        clustered += low <= 2.0 <= high
        flat = np.concatenate(tokens)
        by_token += abs(flat.mean() - 2.0) <= 1.96 * flat.std(ddof=1) / math.sqrt(len(flat))
    assert clustered / trials >= 0.88
    assert by_token / trials < 0.5


def test_pairing_shrinks_the_standard_error():
    rng = np.random.default_rng(4)
    n_D = rng.integers(20, 200, size=60)
    hardness_D = rng.normal(3, 1, size=60)
    a = ratio(n_D * hardness_D, n_D)
    b = ratio(n_D * (hardness_D - 0.2 + rng.normal(0, 0.05, size=60)), n_D)
    unpaired = math.hypot(standard_error(a), standard_error(b))
    assert difference(a, b).value == pytest.approx(a.value - b.value)
    assert standard_error(difference(a, b)) < unpaired / 15


def test_a_paired_difference_is_the_ratio_of_the_differences():
    n_D, S_D, T_D = [3, 5, 9], np.array([4.0, 5.0, 20.0]), np.array([3.0, 6.0, 10.0])
    paired, direct = difference(ratio(S_D, n_D), ratio(T_D, n_D)), ratio(S_D - T_D, n_D)
    assert paired.value == pytest.approx(direct.value)
    assert standard_error(paired) == pytest.approx(standard_error(direct))


def test_the_difference_to_itself_is_exactly_zero():
    estimate = ratio([1.0, 3.0], [2, 2])
    assert interval(difference(estimate, estimate)) == (0.0, 0.0)


@pytest.mark.parametrize("other", [ratio([1.0], [4]), ratio([1.0, 3.0, 0.0], [2, 2, 1]), ratio([1.0, 3.0], [2, 3])])
def test_other_documents_are_not_paired(other):
    with pytest.raises(ValueError, match="paired"):
        difference(ratio([1.0, 3.0], [2, 2]), other)


def test_delta_method_agrees_with_leaving_a_little_of_each_document_out():
    """r_i of 2^m is the numeric derivative of 2^(ΣS/Σn) by the weight of document i."""
    S_D, n_D = np.array([4.0, 9.0, 20.0, 7.0]), np.array([3, 5, 9, 4])
    perplexity = transform(ratio(S_D, n_D), lambda m: 2**m, lambda m: math.log(2) * 2**m)

    def at(weight_D):
        return 2 ** ((weight_D * S_D).sum() / (weight_D * n_D).sum())

    step = 1e-6
    numeric_D = [(at(1 + step * e) - at(1 - step * e)) / (2 * step) for e in np.eye(4)]
    assert perplexity.value == pytest.approx(2 ** (40 / 21))
    np.testing.assert_allclose(perplexity.influence_D, numeric_D, rtol=1e-6)


def test_a_document_without_tokens_changes_nothing():
    without, with_one = ratio([1.0, 3.0, 5.0], [2, 2, 3]), ratio([1.0, 0.0, 3.0, 5.0], [2, 0, 2, 3])
    assert with_one.value == without.value
    assert with_one.n_documents == 3
    assert with_one.influence_D[1] == 0
    assert interval(with_one) == interval(without)


def test_one_document_has_a_value_and_no_interval():
    estimate = ratio([3.0, 0.0], [2, 0])
    assert estimate.value == 1.5
    assert standard_error(estimate) is None
    assert interval(estimate) is None
    assert why_no_interval(estimate) == "An interval needs at least two documents; there is 1."


def test_student_t_not_the_normal():
    estimate = ratio([1.0, 2.0, 4.0], [1, 1, 1])
    low, high = interval(estimate, 0.9)
    assert (high - low) / 2 == pytest.approx(stats.t.ppf(0.95, 2) * standard_error(estimate))


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_what_is_not_finite_has_no_interval_and_a_reason(broken):
    estimate = ratio([1.0, broken, 0.0], [2, 2, 0])
    assert not math.isfinite(estimate.value)
    for each in (estimate, difference(estimate, ratio([1.0, 2.0, 0.0], [2, 2, 0])), difference(estimate, estimate)):
        assert standard_error(each) is interval(each) is None
        assert why_no_interval(each).startswith("The value is not a finite number")


def test_nothing_counted_is_an_error():
    with pytest.raises(ValueError, match="no mean"):
        ratio([0.0, 0.0], [0, 0])


def test_sums_and_counts_belong_together():
    with pytest.raises(ValueError, match="one of each a document"):
        ratio([1.0, 2.0], [1])
