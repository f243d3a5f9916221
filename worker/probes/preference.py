"""What the measures of preferences are fed: held-out pairs through a reward model, and what it makes of each.

A score s is a log-odds in nats: the model's probability that the first of two answers is the better is sigma(s1 - s2) (Bradley
and Terry 1952). A document is a pair.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from worker.data.collate import Collator, PairCollator, features
from worker.data.pairs import PairExample
from worker.probes.token import evaluating


@dataclass(frozen=True)
class PairSums:
    """For each pair; `nll` in bits, scores in nats."""

    nll: list[float]  # -lg of the probability that the chosen answer is the better
    won: list[int]  # 1 where its score is strictly the higher
    chosen: list[float]
    rejected: list[float]


@torch.no_grad()
def measure_pairs(model: Any, pairs: Sequence[PairExample], batch_pairs: int) -> PairSums:
    """One pass through a `RewardModel`, in batches of like lengths; the answers are in the order of the pairs."""
    collate, device = PairCollator(Collator(pad_id=0)), next(model.parameters()).device
    order = sorted(range(len(pairs)), key=lambda i: -len(pairs[i].input_ids))
    scored: dict[int, tuple[float, float]] = {}
    with evaluating(model):
        for start in range(0, len(order), batch_pairs):
            places = order[start : start + batch_pairs]
            batch = collate(features([pairs[i] for i in places]))
            scores = model(batch["input_ids"].to(device), batch["attention_mask"].to(device)).view(2, -1).double().T
            scored |= dict(zip(places, map(tuple, scores.tolist()), strict=True))
    chosen, rejected = ([scored[i][side] for i in range(len(pairs))] for side in (0, 1))
    margins = torch.tensor(chosen, dtype=torch.float64) - torch.tensor(rejected, dtype=torch.float64)
    nll = -torch.nn.functional.logsigmoid(margins) / math.log(2)
    return PairSums(nll.tolist(), (margins > 0).long().tolist(), chosen, rejected)
