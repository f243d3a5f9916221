import math

import numpy as np
import pytest
from scipy import stats

from worker.information.intervals import ratio
from worker.information.significance import (
    alpha_spent,
    bootstrapped,
    clopper_pearson,
    lower_bound,
    mann_whitney,
    mcnemar,
    upper_bound_of_ratio,
)


def test_what_is_spent_adds_up_to_alpha():
    assert alpha_spent(0.01, 1) == pytest.approx(0.06 / math.pi**2)
    assert alpha_spent(0.01, 4) == pytest.approx(alpha_spent(0.01, 1) / 16)
    assert sum(alpha_spent(0.01, k) for k in range(1, 100_001)) == pytest.approx(0.01, rel=1e-4)
    with pytest.raises(ValueError, match="counted from 1"):
        alpha_spent(0.01, 0)


def test_a_lower_bound_is_the_one_sided_t_test_turned_round():
    values_D = np.random.default_rng(0).normal(0.3, 1, size=40)
    estimate = ratio(values_D * 10, np.full(40, 10))
    p = stats.ttest_1samp(values_D, 0.1, alternative="greater").pvalue
    assert lower_bound(estimate, p) == pytest.approx(0.1)
    assert lower_bound(estimate, 0.5) == pytest.approx(estimate.value)
    assert lower_bound(ratio([1.0], [1]), 0.05) is None


def test_auc_counts_pairs_and_halves_equals():
    # of 6 pairs 3 > 1, 3 > 2, 2 > 1 are won, 2 = 2 is halved
    assert mann_whitney([3, 2, 0], [1, 2]).auc == pytest.approx((2 + 1.5 + 0) / 6)
    # all of 4 above all of 4: one order of ranks in 8 choose 4
    assert mann_whitney([5, 6, 7, 8], [1, 2, 3, 4]).p_value == pytest.approx(1 / 70)
    assert mann_whitney([1, 2, 3, 4], [5, 6, 7, 8]).p_value == 1.0


@pytest.mark.parametrize("sample", [[], [1.0, math.nan], [[1.0]]])
def test_what_is_no_sample_is_refused(sample):
    with pytest.raises(ValueError, match="a sample is a list of finite numbers"):
        mann_whitney([1.0], sample)


def test_an_exact_interval_of_a_rate():
    low, high = clopper_pearson(3, 20)
    assert stats.binom.sf(2, 20, low) == pytest.approx(0.025)  # three or more, if the rate were so low
    assert stats.binom.cdf(3, 20, high) == pytest.approx(0.025)
    assert clopper_pearson(0, 20) == (0.0, pytest.approx(1 - 0.025 ** (1 / 20)))
    assert clopper_pearson(20, 20)[1] == 1.0
    with pytest.raises(ValueError, match="no count of successes"):
        clopper_pearson(3, 2)


def test_a_bootstrap_draws_documents():
    drawn = []
    values_B = bootstrapped(lambda times_D: drawn.append(times_D) or float(times_D @ [1, 2, 3]), 3, np.random.default_rng(0), 50)
    assert {int(times_D.sum()) for times_D in drawn} == {3}
    assert len(values_B) == 50
    assert len(set(values_B)) > 1


def test_the_bootstrap_s_deviation_is_the_standard_error_and_bounds_a_ratio():
    values_D = np.random.default_rng(1).normal(5, 1, size=50)
    logs_B = bootstrapped(lambda times_D: math.log(times_D @ values_D / 50), 50, np.random.default_rng(2), 2000)
    error = values_D.std() / math.sqrt(50) / values_D.mean()
    assert logs_B.std() == pytest.approx(error, rel=0.1)
    bound = upper_bound_of_ratio(math.log(values_D.mean()), logs_B, 0.025, 50)
    assert bound == pytest.approx(values_D.mean() * math.exp(stats.t.isf(0.025, 49) * error), rel=0.01)


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"), [(0, 0, 1), (1, 0, 1), (5, 0, 2 / 32), (0, 5, 2 / 32), (3, 1, 10 / 16)]
)
def test_mcnemars_p_is_a_fair_coins(only_first, only_second, p):
    assert mcnemar(only_first, only_second) == pytest.approx(p)


def test_mcnemars_test_keeps_its_level():
    """Two models of one accuracy differ with p below 0.05 in at most so many benchmarks."""
    generator = np.random.default_rng(0)
    alarms = 0
    for _ in range(1000):
        n = generator.binomial(200, 0.3)
        first = int(generator.binomial(n, 0.5))
        alarms += mcnemar(first, n - first) <= 0.05
    assert alarms <= 55


def test_counts_below_0_are_refused():
    with pytest.raises(ValueError, match="no counts"):
        mcnemar(-1, 2)
