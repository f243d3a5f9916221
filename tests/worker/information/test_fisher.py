import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, logsumexp, rel_entr, softmax

from worker.information.continuous import gaussian_mutual_information
from worker.information.fisher import (
    bernoulli_fisher_information,
    cramer_rao_bound,
    fisher_information,
    fisher_predicted_kl,
    gaussian_mean_fisher_information,
    gaussian_transfer_entropy,
    granger_causality,
    temperature_fisher_information,
)

logits = st.lists(st.floats(-30, 30), min_size=2, max_size=12)


def driven(T, rng, lag=1):
    """y_t = .5 y_{t−1} + .4 x_{t−lag} + e_t, x and e white of variance 1."""
    x_T, e_T = rng.normal(size=(2, T))
    y_T = np.zeros(T)
    for t in range(lag, T):
        y_T[t] = 0.5 * y_T[t - 1] + 0.4 * x_T[t - lag] + e_T[t]
    return x_T, y_T


@pytest.mark.parametrize("p", [0.5, 0.1, 0.999])
def test_a_coin_s_information_from_its_scores(p):
    # scores 1/p and −1/(1−p)
    information = fisher_information([1 / p, -1 / (1 - p)], [p, 1 - p])
    assert information == pytest.approx(np.array([[1 / (p * (1 - p))]]))
    assert bernoulli_fisher_information(p) == pytest.approx(1 / (p * (1 - p)))


def test_a_certain_coin_tells_infinitely_much():
    assert bernoulli_fisher_information(0) == bernoulli_fisher_information(1) == math.inf
    with pytest.raises(ValueError, match="between 0 and 1"):
        bernoulli_fisher_information(1.1)


def test_scores_of_a_softmax_give_minus_the_mean_hessian():
    """E[s sᵀ] = −E[∂² ln p] = diag p − p pᵀ, the second by torch's autograd."""
    z = torch.tensor([0.3, -1.2, 2.0, 0.1], dtype=torch.float64)
    p_V = torch.softmax(z, 0).numpy()
    scores_NP = np.eye(4) - p_V
    hessians = [torch.autograd.functional.hessian(lambda z, y=y: torch.log_softmax(z, 0)[y], z).numpy() for y in range(4)]
    expected = -sum(p * hessian for p, hessian in zip(p_V, hessians, strict=True))
    np.testing.assert_allclose(fisher_information(scores_NP, p_V), expected, atol=1e-12)
    np.testing.assert_allclose(expected, np.diag(p_V) - np.outer(p_V, p_V), atol=1e-12)


def test_scores_of_draws_approach_the_information():
    rng = np.random.default_rng(0)
    covariance = np.array([[2.0, 0.5], [0.5, 1.0]])
    scores_NP = rng.multivariate_normal([0, 0], covariance, size=20_000) @ np.linalg.inv(covariance)
    np.testing.assert_allclose(fisher_information(scores_NP), gaussian_mean_fisher_information(covariance), atol=0.05)


def test_scores_and_probabilities_belong_together():
    with pytest.raises(ValueError, match="2 scores need as many probabilities, not 3"):
        fisher_information([1.0, -1.0], [0.5, 0.25, 0.25])
    with pytest.raises(ValueError, match="sum to 1"):
        fisher_information([1.0, -1.0], [0.5, 0.6])


def test_the_sample_mean_attains_the_bound():
    """Of a coin: Var = p(1−p)/n exactly, summed over all counts."""
    n, p = 12, 0.3
    k = np.arange(n + 1)
    law = np.array([math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in k])
    variance = (law * (k / n - p) ** 2).sum()
    assert variance == pytest.approx(cramer_rao_bound(bernoulli_fisher_information(p), n))


def test_an_unbiased_estimator_that_is_not_affine_in_the_score_stays_above_the_bound():
    """The first draw alone; and the median of five Gaussian draws."""
    assert cramer_rao_bound(bernoulli_fisher_information(0.3), 12) < 0.3 * 0.7
    medians = np.median(np.random.default_rng(1).normal(size=(20_000, 5)), axis=1)
    assert medians.var() > 1.2 * cramer_rao_bound(1.0, 5)


def test_the_bound_of_several_parameters_is_the_inverse_matrix():
    covariance = np.array([[2.0, 0.5], [0.5, 1.0]])
    bound = cramer_rao_bound(gaussian_mean_fisher_information(covariance), samples=10)
    np.testing.assert_allclose(bound, covariance / 10)
    # other parameters that are unknown too can only raise the bound
    information = np.array([[3.0, 1.0], [1.0, 2.0]])
    assert cramer_rao_bound(information)[0, 0] == pytest.approx(2 / 5)
    assert cramer_rao_bound(information)[0, 0] > cramer_rao_bound(3.0)


def test_no_information_no_bound():
    assert cramer_rao_bound(0.0) == math.inf
    with pytest.raises(ValueError, match="cannot be estimated"):
        cramer_rao_bound([[1, 1], [1, 1]])
    with pytest.raises(ValueError, match="not negative"):
        cramer_rao_bound(-1.0)
    with pytest.raises(ValueError, match="samples must be at least 1"):
        cramer_rao_bound(1.0, 0)


def test_a_two_level_softmax_has_the_variance_of_a_coin():
    # p = σ(1): p(1−p)
    p = 1 / (1 + math.exp(-1))
    assert temperature_fisher_information([0, 1]) == pytest.approx(p * (1 - p))


@given(logits)
@settings(max_examples=100, deadline=None)
def test_it_is_the_second_derivative_of_the_log_partition(z):
    z_V, step = np.array(z), 1e-3
    low, mid, high = (logsumexp(beta * (z_V - z_V.mean())) for beta in (1 - step, 1, 1 + step))
    assert temperature_fisher_information(z_V) == pytest.approx((high - 2 * mid + low) / step**2, rel=1e-2, abs=1e-3)


@given(logits)
@settings(max_examples=50, deadline=None)
def test_it_is_the_varentropy(z):
    p_V, logp_V = softmax(z), log_softmax(z)
    varentropy = (p_V * logp_V**2).sum() - (p_V * logp_V).sum() ** 2
    assert temperature_fisher_information(z) == pytest.approx(varentropy, rel=1e-6, abs=1e-9)


@given(logits, st.sampled_from([1e4, -1e4]))
@settings(max_examples=50, deadline=None)
def test_a_shift_of_the_logits_changes_nothing(z, shift):
    exact = np.round(np.array(z) * 1024) / 1024  # so that the shift itself rounds nothing
    assert temperature_fisher_information(exact + shift) == pytest.approx(temperature_fisher_information(exact), rel=1e-9)


def test_excluded_tokens_add_nothing_and_rows_are_apart():
    rows = np.array([[0, 1, -np.inf], [0, 1, 2.0], [5, -np.inf, -np.inf]])
    values = temperature_fisher_information(rows)
    assert values.shape == (3,)
    assert values[0] == temperature_fisher_information([0.0, 1.0])
    assert values[1] == pytest.approx(softmax([0, 1, 2.0]) @ (np.arange(3) - softmax([0, 1, 2.0]) @ np.arange(3)) ** 2)
    assert values[2] == 0


def test_probabilities_of_1e_minus_300_are_no_trouble():
    assert temperature_fisher_information([0, -690.8]) == pytest.approx(690.8**2 * math.exp(-690.8), rel=1e-9)


@pytest.mark.parametrize("broken", [[math.nan, 0], [math.inf, 0], [-math.inf, -math.inf]])
def test_logits_are_numbers(broken):
    with pytest.raises(ValueError, match="logits must be numbers"):
        temperature_fisher_information(broken)


def test_the_predicted_divergence_of_a_softmax_is_right_to_second_order():
    rng = np.random.default_rng(2)
    z_V, delta_V = rng.normal(size=6), 1e-3 * rng.normal(size=6)
    p_V = softmax(z_V)
    exact = rel_entr(p_V, softmax(z_V + delta_V)).sum() / math.log(2)
    F = np.diag(p_V) - np.outer(p_V, p_V)
    assert fisher_predicted_kl(delta_V, F) == pytest.approx(exact, rel=5e-3)
    # a change of temperature: δ = ε z
    along = fisher_predicted_kl(1e-3 * z_V, F)
    assert along == pytest.approx(0.5e-6 * temperature_fisher_information(z_V) / math.log(2))


def test_a_diagonal_is_a_matrix_without_the_rest():
    delta, diagonal = np.array([1.0, -2.0, 0.5]), np.array([2.0, 1.0, 4.0])
    # ½ (2 + 4 + 1) nats
    assert fisher_predicted_kl(delta, diagonal) == pytest.approx(3.5 / math.log(2))
    assert fisher_predicted_kl(delta, np.diag(diagonal)) == pytest.approx(3.5 / math.log(2))
    with pytest.raises(ValueError, match=r"\(2,\) does not go with.*\(3,\)"):
        fisher_predicted_kl(delta[:2], diagonal)


def test_the_autoregression_s_information_by_its_covariances():
    """var y = 1.16/.75; y_t against x_{t−1}, given y_{t−1}: ½ lg 1.16."""
    var = 1.16 / 0.75
    covariance = [[var, 0.4, 0.5 * var], [0.4, 1, 0], [0.5 * var, 0, var]]
    assert gaussian_mutual_information(covariance, [0], [1], given=[2]) == pytest.approx(0.10706, abs=5e-6)


def test_series_have_the_transfer_entropy_of_their_law():
    x_T, y_T = driven(40_000, np.random.default_rng(3))
    test = granger_causality(x_T, y_T, lags=1)
    assert gaussian_transfer_entropy(x_T, y_T, lags=1) == pytest.approx(0.10706, abs=0.004)
    assert test.geweke_bits == pytest.approx(2 * gaussian_transfer_entropy(x_T, y_T, lags=1))
    assert test.p_value < 1e-12
    assert gaussian_transfer_entropy(y_T, x_T, lags=1) < 1e-3
    assert granger_causality(y_T, x_T, lags=1).p_value > 0.01


def test_a_cause_of_three_steps_ago_needs_three_lags():
    x_T, y_T = driven(2000, np.random.default_rng(4), lag=3)
    assert granger_causality(x_T, y_T, lags=2).p_value > 0.01
    assert granger_causality(x_T, y_T, lags=3).p_value < 1e-12


def test_the_f_test_is_the_textbook_one():
    """Residual sums of squares by the normal equations; F = ((RSS₀ − RSS₁)/m) / (RSS₁/(n − 2m − 1))."""
    x_T, y_T = driven(150, np.random.default_rng(5))
    own = np.stack([np.ones(148), y_T[1:-1], y_T[:-2]], axis=1)
    both = np.concatenate([own, np.stack([x_T[1:-1], x_T[:-2]], axis=1)], axis=1)
    rss = [np.square(y_T[2:] - Z @ np.linalg.solve(Z.T @ Z, Z.T @ y_T[2:])).sum() for Z in (own, both)]
    test = granger_causality(x_T, y_T, lags=2)
    assert test.degrees_of_freedom == (2, 143)
    assert test.statistic == pytest.approx((rss[0] - rss[1]) / 2 / (rss[1] / 143))
    assert test.geweke_bits == pytest.approx(math.log2(rss[0] / rss[1]))


def test_units_and_levels_change_nothing():
    x_T, y_T = driven(300, np.random.default_rng(6))
    before, after = granger_causality(x_T, y_T, 2), granger_causality(1e-5 * x_T + 3, -1e3 * y_T + 1e4, 2)
    assert after.statistic == pytest.approx(before.statistic)


def test_random_walks_must_be_differenced():
    """At 5 %: white noise 5 %, random walks some 15 %, their differences 5 %."""
    rng = np.random.default_rng(7)
    alarms = {"noise": 0, "walks": 0, "differenced": 0}
    trials = 400
    for _ in range(trials):
        a_T, b_T = rng.normal(size=(2, 150))
        alarms["noise"] += granger_causality(a_T, b_T, 1).p_value < 0.05
        alarms["walks"] += granger_causality(np.cumsum(a_T), np.cumsum(b_T), 1).p_value < 0.05
        alarms["differenced"] += granger_causality(np.cumsum(a_T), np.cumsum(b_T), 1, difference=True).p_value < 0.05
    assert 0.02 < alarms["noise"] / trials < 0.085
    assert 0.02 < alarms["differenced"] / trials < 0.085
    assert alarms["walks"] / trials > 0.10


def test_several_series_at_once_and_more_causes_tell_no_less():
    rng = np.random.default_rng(8)
    x_T, y_T = driven(3000, rng)
    both_TK = np.stack([x_T, rng.normal(size=3000)], axis=1)
    one = gaussian_transfer_entropy(x_T, y_T, 1)
    assert one <= gaussian_transfer_entropy(both_TK, y_T, 1) < one + 0.005
    # a mixture of the effect's series is the same information
    effects_TK = np.stack([y_T, rng.normal(size=3000)], axis=1)
    mixed_TK = effects_TK @ [[1, 2], [0.5, -1]]
    assert gaussian_transfer_entropy(x_T, mixed_TK, 2) == pytest.approx(gaussian_transfer_entropy(x_T, effects_TK, 2))


def test_a_hundred_points_or_no_test():
    x_T, y_T = np.random.default_rng(9).normal(size=(2, 102))
    granger_causality(x_T, y_T, lags=2)
    with pytest.raises(ValueError, match="99 points are left to fit, and the test needs at least 100"):
        granger_causality(x_T, y_T, lags=3)
    with pytest.raises(ValueError, match="99 points"):
        granger_causality(x_T, y_T, lags=2, difference=True)


def test_what_cannot_lead_or_be_led_is_refused():
    x_T, y_T = np.random.default_rng(10).normal(size=(2, 200))
    for series in ((x_T, np.ones(200)), (np.ones(200), y_T)):
        with pytest.raises(ValueError, match="does not vary"):
            granger_causality(*series, 1)
    with pytest.raises(ValueError, match="leaves no residual"):
        granger_causality(x_T, np.sin(np.arange(200)), 2)
    with pytest.raises(ValueError, match="determine one another"):
        gaussian_transfer_entropy(x_T, np.stack([y_T, 2 * y_T], axis=1), 1)
    with pytest.raises(ValueError, match="use gaussian_transfer_entropy"):
        granger_causality(np.stack([x_T, y_T], axis=1), y_T, 1)
    with pytest.raises(ValueError, match="200 steps cannot go with an effect of 199"):
        granger_causality(x_T, y_T[1:], 1)
    with pytest.raises(ValueError, match="lags must be at least 1"):
        granger_causality(x_T, y_T, 0)
    with pytest.raises(ValueError, match="too many lags"):
        granger_causality(x_T, y_T, 80)


def test_what_is_no_number_has_no_information():
    with pytest.raises(ValueError, match="no logits"):
        temperature_fisher_information([])
    for delta, fisher in (([math.nan, 1], np.eye(2)), ([1.0, 1.0], [math.inf, 1.0])):
        with pytest.raises(ValueError, match="finite numbers"):
            fisher_predicted_kl(delta, fisher)
