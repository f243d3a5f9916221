"""Each loss at numbers worked out by hand. Log-ratios are multiples of ln 2 and ln 3, so that sigmoids are fractions."""

import math

import pytest
import torch

from worker.data.tokenize import MASKED
from worker.stages.preference_losses import (
    PAIR_LOSSES,
    answer_log_probs,
    answer_nll_per_token,
    kto,
    kto_pair,
    reference_point,
)

LN2, LN3 = math.log(2), math.log(3)


def of_pairs(name, chosen, rejected, beta):
    return PAIR_LOSSES[name](torch.tensor(chosen), torch.tensor(rejected), beta)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # z is 0, then 2 ln 3, then -2 ln 3, and beta 1/2: sigma(0) = 1/2, sigma(ln 3) = 3/4, sigma(-ln 3) = 1/4
        ("sigmoid", [LN2, math.log(4 / 3), math.log(4)]),
        # 1 - beta z; ln 3 is more than 1, so the second pair costs nothing
        ("hinge", [1.0, 0.0, 1 + LN3]),
        # z - 1 squared
        ("ipo", [1.0, (2 * LN3 - 1) ** 2, (2 * LN3 + 1) ** 2]),
    ],
)
def test_a_loss_of_the_margin_is_what_it_is_by_hand(name, expected):
    found = of_pairs(name, [1.5, LN3, -LN3], [1.5, -LN3, LN3], beta=0.5)
    assert found.tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["sigmoid", "hinge", "ipo"])
def test_such_a_loss_knows_the_margin_only(name):
    assert of_pairs(name, [3.0], [1.0], 0.3).item() == pytest.approx(of_pairs(name, [0.5], [-1.5], 0.3).item(), rel=1e-6)


@pytest.mark.parametrize(("name", "first"), [("sigmoid", LN2), ("hinge", 1.0), ("ipo", 25.0), ("kto", 0.5), ("kto_pair", 0.5)])
def test_where_the_model_is_the_reference_a_loss_has_its_closed_form(name, first):
    assert of_pairs(name, [0.0, 0.0], [0.0, 0.0], 0.1).tolist() == pytest.approx([first, first], rel=1e-6)


def test_kto_of_pairs_takes_each_halves_reference_point_from_the_other():
    """Chosen 0 and 2 ln 3, mean ln 3; rejected -ln 3 and -3 ln 3, mean below 0, so 0. beta is 1.

    Chosen: 1 - s(0) = 1/2, 1 - s(2 ln 3) = 1/10. Rejected: 1 - s(ln 3 + ln 3) = 1/10, 1 - s(ln 3 + 3 ln 3) = 1/82.
    """
    found = kto_pair(torch.tensor([0.0, 2 * LN3]), torch.tensor([-LN3, -3 * LN3]), 1.0)
    assert found.tolist() == pytest.approx([(1 / 2 + 1 / 10) / 2, (1 / 10 + 1 / 82) / 2], rel=1e-6)


def test_kto_is_the_loss_of_either_kind_beside_the_reference_point():
    """z = ln 2, beta 2: r - z is ln 3 for both: 1 - s(2 ln 3) = 1/10 where it is wanted, 1 - s(-2 ln 3) = 9/10 where not."""
    ratios = torch.tensor([LN2 + LN3, LN2 + LN3])
    found = kto(ratios, torch.tensor([True, False]), torch.tensor(LN2), 2.0)
    assert found.tolist() == pytest.approx([1 / 10, 9 / 10], rel=1e-6)


@pytest.mark.parametrize(("ratios", "expected"), [([1.0, 4.0], 2.5), ([-3.0, 1.0], 0.0), ([], 0.0)])
def test_a_reference_point_is_a_mean_that_is_never_below_0(ratios, expected):
    assert reference_point(torch.tensor(ratios)).item() == expected


def test_no_gradient_flows_through_the_reference_point():
    """d/dc of (1 - s(c - 0)) / 2 at c = 0 is -1/8; through the mean of one the rejected half would add to it."""
    chosen = torch.tensor([0.5], requires_grad=True)
    kto_pair(chosen, torch.tensor([0.5]), 1.0).sum().backward()
    assert chosen.grad.item() == pytest.approx(-1 / 8)


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_each_loss_pulls_the_chosen_answer_up_and_the_rejected_one_down(name):
    chosen, rejected = torch.zeros(2, requires_grad=True), torch.zeros(2, requires_grad=True)
    PAIR_LOSSES[name](chosen, rejected, 0.1).sum().backward()
    assert (chosen.grad < 0).all()
    assert (rejected.grad > 0).all()


def test_the_log_probability_of_an_answer_is_that_of_its_own_tokens():
    """Labels of five tokens, three of which are the answer's; what stands at the prompt and in the padding does not count."""
    labels = torch.tensor([[MASKED, MASKED, 7, 8, 9], [MASKED, 7, MASKED, MASKED, MASKED]])
    log_probs = torch.tensor([[-100.0, -1.0, -2.0, -4.0], [-5.0, math.nan, -100.0, -math.inf]])
    assert answer_log_probs(log_probs, labels).tolist() == [-7.0, -5.0]
    assert answer_nll_per_token(log_probs, labels).tolist() == pytest.approx([7 / 3, 5.0])
