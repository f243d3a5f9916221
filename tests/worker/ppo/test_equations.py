"""Each equation against numbers that are worked out by hand in the comments, with a mask that has something to hide."""

import math

import pytest
import torch

from worker.ppo import equations
from worker.ppo.equations import Moments

# Two texts of four predictions: a prompt of one more token and a response of two, then padding; a prompt of two and one of one.
MASK = torch.tensor([[0.0, 1, 1, 0], [0, 0, 1, 0]])


def rows(*numbers):
    return torch.tensor(numbers, dtype=torch.float32)


def test_the_penalty_is_the_difference_of_the_log_probabilities_in_the_response_alone():
    logp = rows([-9, -1.0, -2.0, -9], [-9, -9, -0.5, -9])
    ref = rows([-7, -1.5, -1.0, -7], [-7, -7, -0.5, -7])
    torch.testing.assert_close(equations.kl_penalty(logp, ref, MASK), rows([0, 0.5, -1, 0], [0, 0, 0, 0]))


def test_the_score_stands_on_the_last_token_and_the_penalty_on_each():
    # beta 0.2: −0.2 · 0.5 = −0.1; −0.2 · −1 + 3 = 3.2; −0.2 · 2 − 1 = −1.4
    kl = rows([7, 0.5, -1, 7], [7, 7, 2, 7])
    rewards = equations.token_rewards(torch.tensor([3.0, -1.0]), kl, MASK, 0.2)
    torch.testing.assert_close(rewards, rows([0, -0.1, 3.2, 0], [0, 0, -1.4, 0]))


def test_a_response_of_no_tokens_has_no_place_for_a_score():
    rewards = equations.token_rewards(torch.tensor([3.0]), rows([1, 1]), rows([0, 0]), 0.2)
    assert rewards.tolist() == [[0, 0]]


def test_advantages_are_discounted_differences_from_the_end():
    # gamma 1, lambda 0.95. First text: at 2, delta = 1 − 0.4 = 0.6, A = 0.6, R = 1.0; at 1, delta = 0.5 + 0.4 − 0.2 = 0.7,
    # A = 0.7 + 0.95 · 0.6 = 1.27, R = 1.47. Second: delta = A = 2 − 0.5 = 1.5, R = 2. Values behind the end (9) count as 0.
    rewards = rows([5, 0.5, 1.0, 5], [5, 5, 2.0, 5])
    values = rows([9, 0.2, 0.4, 9], [9, 9, 0.5, 9])
    advantages, returns = equations.advantages_and_returns(rewards, values, MASK)
    torch.testing.assert_close(advantages, rows([0, 1.27, 0.6, 0], [0, 0, 1.5, 0]))
    torch.testing.assert_close(returns, rows([0, 1.47, 1.0, 0], [0, 0, 2.0, 0]))


def test_with_gamma_a_later_reward_is_worth_less():
    # gamma 0.5, lambda 1, no values: R_1 = 1 + 0.5 · 2 = 2, R_2 = 2
    advantages, _ = equations.advantages_and_returns(rows([9, 1, 2, 9]), rows([0, 0, 0, 0]), MASK[:1], gamma=0.5, lam=1.0)
    torch.testing.assert_close(advantages, rows([0, 2, 2, 0]))


def test_mean_and_variance_are_of_what_the_mask_has():
    # 1, 2 and 6: mean 3, squares 4 + 1 + 9 = 14, over 3 − 1 = 7
    values = rows([99, 1, 2, 99], [99, 99, 6, 99])
    assert float(equations.masked_mean(values, MASK)) == 3
    assert float(equations.masked_variance(values, MASK)) == 7


def test_an_empty_mask_has_mean_and_variance_0():
    nothing = torch.zeros_like(MASK)
    assert float(equations.masked_mean(MASK + 5, nothing)) == float(equations.masked_variance(MASK + 5, nothing)) == 0


def test_whitening_gives_mean_0_and_spread_1_or_the_old_mean():
    # as above: (1 − 3)/√7, (2 − 3)/√7, (6 − 3)/√7, and 3 more where the mean stays
    values, root = rows([99, 1, 2, 99], [99, 99, 6, 99]), math.sqrt(7)
    white = rows([0, -2 / root, -1 / root, 0], [0, 0, 3 / root, 0])
    torch.testing.assert_close(equations.whiten(values, MASK), white)
    torch.testing.assert_close(equations.whiten(values, MASK, shift_mean=False), white + 3 * MASK)


def test_the_policys_loss_takes_the_worse_of_the_ratio_and_the_clipped_one():
    # Ratios 1.5, 0.5 and 1.5 with advantages 1, 1 and −1: min(1.5, 1.2) = 1.2; min(0.5, 0.8) = 0.5; min(−1.5, −1.2) = −1.5.
    # −(1.2 + 0.5 − 1.5)/3 = −0.0667
    old = torch.full_like(MASK, -2.0)
    logp = old + rows([3, math.log(1.5), math.log(0.5), 3], [3, 3, math.log(1.5), 3])
    advantages = rows([8, 1, 1, 8], [8, 8, -1, 8])
    assert float(equations.policy_loss(logp, old, advantages, MASK)) == pytest.approx(-0.2 / 3, abs=1e-6)


def test_a_ratio_that_is_clipped_passes_no_gradient():
    old = torch.zeros(1, 2)
    logp = torch.tensor([[math.log(1.5), math.log(0.5)]], requires_grad=True)
    equations.policy_loss(logp, old, torch.ones(1, 2), torch.ones(1, 2)).backward()
    # −d/dlogp of mean ρA is −ρA/2: 0 for the clipped one, −0.25 for the other
    assert logp.grad.tolist()[0] == pytest.approx([0, -0.25])


def test_the_values_loss_takes_the_worse_of_the_value_and_the_clipped_one():
    # Old values 0. V 1.0 clips to 0.2: R 1 gives max(0, 0.64) = 0.64. V 0.1 is not clipped: R 0.5 gives 0.16. V −1.0 clips to
    # −0.2: R 0 gives max(1, 0.04) = 1. ½ (0.64 + 0.16 + 1)/3 = 0.3
    values, returns = rows([9, 1.0, 0.1, 9], [9, 9, -1.0, 9]), rows([5, 1, 0.5, 5], [5, 5, 0, 5])
    assert float(equations.value_loss(values, torch.zeros(2, 4), returns, MASK)) == pytest.approx(0.3)


def test_entropy_is_ln_2_for_a_coin_and_0_for_certainty():
    entropy = equations.token_entropy(torch.tensor([[[0.0, 0.0], [100.0, 0.0]]]))
    assert entropy.tolist()[0] == pytest.approx([math.log(2), 0], abs=1e-6)


def test_the_approximate_kl_is_half_the_mean_square_of_the_log_ratio():
    # ½ (0.1² + 0.2² + 0.2²)/3 = 0.015
    change = rows([9, 0.1, -0.2, 9], [9, 9, 0.2, 9])
    assert float(equations.approximate_kl(change, torch.zeros(2, 4), MASK)) == pytest.approx(0.015)


def test_the_clip_fraction_counts_ratios_outside_the_range():
    # 1.1 is inside, 1.3 and 0.7 are not
    change = rows([9, math.log(1.1), math.log(1.3), 9], [9, 9, math.log(0.7), 9])
    assert float(equations.clip_fraction(change, torch.zeros(2, 4), MASK)) == pytest.approx(2 / 3)


def test_the_variance_that_values_explain_is_1_for_the_returns_and_0_for_a_constant():
    # Returns 1, 2, 6 have variance 7. Values 1, 2, 5 leave 0, 0, 1: mean 1/3, squares 2/3, over 2 is 1/3. 1 − 1/21
    returns = rows([99, 1, 2, 99], [99, 99, 6, 99])
    assert float(equations.explained_variance(returns, returns, MASK)) == 1
    assert float(equations.explained_variance(torch.full_like(MASK, 4), returns, MASK)) == 0
    values = rows([0, 1, 2, 0], [0, 0, 5, 0])
    assert float(equations.explained_variance(values, returns, MASK)) == pytest.approx(1 - 1 / 21)


@pytest.mark.parametrize(
    ("kl", "coefficient"),
    [
        (6.0, 0.2),  # on target
        (6.6, 0.2 * (1 + 0.1 * 0.05)),  # a tenth above, 500 of 10 000 texts
        (60.0, 0.2 * (1 + 0.2 * 0.05)),  # far above: a fifth at most
        (0.0, 0.2 * (1 - 0.2 * 0.05)),
    ],
)
def test_the_coefficient_follows_the_kl_towards_its_target(kl, coefficient):
    assert equations.next_kl_coefficient(0.2, kl, 6.0, 500) == pytest.approx(coefficient)


def test_running_moments_are_those_of_all_scores_at_once():
    # 1, 2, 6 as above: mean 3, deviation √7; (6 − 3)/√7
    moments = Moments().after(torch.tensor([1.0, 2.0])).after(torch.tensor([6.0]))
    assert (moments.n, moments.mean) == (3, 3)
    assert moments.deviation == pytest.approx(math.sqrt(7))
    assert float(moments.normalised(torch.tensor([6.0]))) == pytest.approx(3 / math.sqrt(7))


def test_scores_that_are_all_one_number_are_normalised_to_0():
    for scores in (torch.tensor([5.0]), torch.tensor([5.0, 5.0])):
        assert Moments().after(scores).normalised(scores).tolist() == [0] * len(scores)
