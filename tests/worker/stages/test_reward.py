"""The stage rm: pairs through one model with a value head."""

import errno
import json
import math

import pytest
import torch

from service.specs.reasons import Reason
from tests.worker.stages.attempts import a_preference_job, changed, training
from worker import checkpoints
from worker.child import explained
from worker.models import value_head
from worker.models.value_head import ValueHead
from worker.run import Stopped
from worker.stages.reward_trainer import pairwise_losses

LN2 = math.log(2)
TYPES = {
    "lora": {"lora_rank": 2},
    "freeze": {"finetuning_type": "freeze", "num_layer_trainable": 1},
    "full": {"finetuning_type": "full"},
}


def a_job(finetuning=None, **groups):
    """An rm job of four updates on `better`, with checkpoints at 2 and 4."""
    return a_preference_job(finetuning={"stage": "rm"} | (finetuning or {}), **groups)


def head_of(folder):
    return value_head.load(folder, 32).state_dict()


def test_a_loss_is_the_bradley_terry_code_length_in_nats():
    """sigma(ln 3) = 3/4."""
    losses = pairwise_losses(torch.tensor([math.log(3), 0.0]), torch.tensor([0.0, math.log(3)]))
    assert losses.tolist() == pytest.approx([math.log(4 / 3), math.log(4)])


@pytest.mark.parametrize("finetuning_type", TYPES)
def test_a_new_head_begins_at_ln_2_and_learns_which_answer_is_better(host, finetuning_type):
    attempt = host.done(a_job(TYPES[finetuning_type], training=training(max_steps=16, save_steps=16)))
    losses = attempt.losses()
    assert losses[0] == pytest.approx(LN2, abs=1e-7)
    assert losses[-1] < 0.2
    first, last = attempt.points()[1], attempt.points()[16]
    assert [first[f"rewards/{name}"] for name in ("chosen", "rejected", "margins", "accuracies")] == [0, 0, 0, 0]
    assert last["rewards/margins"] == pytest.approx(last["rewards/chosen"] - last["rewards/rejected"], abs=1e-5)
    assert last["rewards/accuracies"] == 1
    rows = attempt.rows()
    assert (rows[None, "preference_cross_entropy"]["value"], rows[None, "reward_accuracy"]["value"]) == (1, 0)
    assert rows[16, "preference_cross_entropy"]["value"] < 0.3
    assert rows[16, "reward_accuracy"]["value"] == 1
    assert rows[16, "preference_cross_entropy"]["versus_base"]["value"] < -0.7


# Of the seeded tiny model; a change of these numbers is a change of what is trained.
GOLDEN = {"lora": [], "freeze": [], "full": []}


@pytest.mark.parametrize("finetuning_type", TYPES)
def test_losses_are_what_they_were(host, finetuning_type):
    attempt = host.done(a_job(TYPES[finetuning_type], measures={"names": ""}))
    assert attempt.losses() == pytest.approx(GOLDEN[finetuning_type], abs=1e-5)
