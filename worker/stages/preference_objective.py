"""What the trainer of a dpo step calls on a batch: the policy's answers held against the reference's, their loss, and its series.

transformers' Trainer calls the model on a batch without its `labels`, and the loss on what came out and on those labels, which
may be anything. So a batch's `labels` are all that the loss needs: the reference must read the texts too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Trainer

from worker.data.blanks import is_blank
from worker.models.reference import Reference, next_token_log_probs
from worker.stages.preference_losses import PairLoss, answer_log_probs, answer_nll_per_token, kto, reference_point
from worker.stages.series import Series

Batch = dict[str, Any]


@dataclass(frozen=True)
class WithItself:
    """A collator's batch for the model, and all of it for the loss, in a tuple. It says how many rows it has.

    Blanks are left out where there are other rows, as a batch that is not full has none in one process.
    """

    batch_of: Callable[[Sequence[dict[str, Any]]], Batch]

    def __call__(self, rows: list[dict[str, Any]]) -> Batch:
        learned = [row for row in rows if not is_blank(row)]
        batch = self.batch_of(learned or rows[:1]) | {"n_rows": len(learned)}
        return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "labels": (batch,)}


@dataclass(frozen=True)
class OfUpdate:
    """An objective that is a mean over a batch, as the batch's part of a mean over the rows of an update, of all ranks.

    At an epoch's end a batch may have fewer rows than the others, and some of the ranks have none.
    """

    objective: Callable[[Any, tuple[Batch]], torch.Tensor]

    def __call__(self, outputs: Any, labels: tuple[Batch], num_items_in_batch: torch.Tensor) -> torch.Tensor:
        (batch,) = labels
        if not batch["n_rows"]:
            return outputs.logits.sum() * 0.0
        return self.objective(outputs, labels) * (batch["n_rows"] / num_items_in_batch)


class RowsTrainer(Trainer):
    """Counts the rows of an update, in all ranks, as transformers' own counts the tokens that it trains."""

    def get_batch_samples(self, *arguments: Any, **more: Any) -> tuple[list[Batch], torch.Tensor]:
        batches, _ = super().get_batch_samples(*arguments, **more)
        own = torch.tensor(sum(batch["labels"][0]["n_rows"] for batch in batches), device=self.args.device)
        return batches, self.accelerator.gather(own).sum()


@dataclass(frozen=True)
class PairedObjective:
    """The mean loss of a batch of B pairs, of whose 2B texts the first half are the chosen ones. Told: the rewards of both."""

    reference: Reference
    loss: PairLoss
    beta: float
    ftx: float
    series: Series

    def __call__(self, outputs: Any, labels: tuple[Batch]) -> torch.Tensor:
        (batch,) = labels
        log_probs = next_token_log_probs(outputs.logits, batch["input_ids"])
        own = answer_log_probs(log_probs, batch["labels"])
        chosen, rejected = (own - _reference_log_probs(self.reference, batch)).chunk(2)
        loss = self.loss(chosen, rejected, self.beta).mean()
        own_chosen, own_rejected = own.chunk(2)
        # rewards are β times the log-ratios; an accuracy counts strict wins
        self.series.add(
            **{
                "rewards/chosen": self.beta * chosen.mean(),
                "rewards/rejected": self.beta * rejected.mean(),
                "rewards/margins": self.beta * (chosen - rejected).mean(),
                "rewards/accuracies": (chosen > rejected).float().mean(),
                "logps/chosen": own_chosen.mean(),
                "logps/rejected": own_rejected.mean(),
            }
        )
        nll = answer_nll_per_token(log_probs, batch["labels"]).chunk(2)[0]
        return _with_supervised(loss, nll, self.ftx, self.series)


@dataclass(frozen=True)
class JudgedObjective:
    """The mean KTO loss of a batch of judged answers. Told: the rewards of each kind that it has, and the reference point.

    The point is estimated from mismatched texts, each prompt with another's answer, asked of the model as it is without its
    dropout and without gradients. In a batch of one answer there are none, and it is 0, which it never falls below.
    """

    reference: Reference
    policy: Reference  # the model itself
    beta: float
    ftx: float
    series: Series

    def __call__(self, outputs: Any, labels: tuple[Batch]) -> torch.Tensor:
        (batch,) = labels
        log_probs = next_token_log_probs(outputs.logits, batch["input_ids"])
        own, desirable = answer_log_probs(log_probs, batch["labels"]), batch["desirable"]
        log_ratio = own - _reference_log_probs(self.reference, batch)
        point = self._reference_point(batch["mismatched"], own)
        loss = kto(log_ratio, desirable, point, self.beta).mean()
        self.series.add(kl=point)
        for name, kind in (("chosen", desirable), ("rejected", ~desirable)):
            if kind.any():
                self.series.add(**{f"rewards/{name}": self.beta * log_ratio[kind].mean(), f"logps/{name}": own[kind].mean()})
        nll = answer_nll_per_token(log_probs, batch["labels"])[desirable]
        return _with_supervised(loss, nll, self.ftx, self.series)

    def _reference_point(self, mismatched: Batch | None, own: torch.Tensor) -> torch.Tensor:
        if mismatched is None:
            return own.new_zeros(())
        return reference_point(_reference_log_probs(self.policy, mismatched) - _reference_log_probs(self.reference, mismatched))


def _reference_log_probs(reference: Reference, batch: Batch) -> torch.Tensor:
    """Of each answer: [B]."""
    return answer_log_probs(reference.log_probs(batch["input_ids"], batch["attention_mask"]), batch["labels"])


def _with_supervised(loss: torch.Tensor, nll_B: torch.Tensor, ftx: float, series: Series) -> torch.Tensor:
    """+ ftx times the mean over the good answers of each one's mean NLL a token. None of them: nothing is added."""
    if not ftx or not len(nll_B):
        return loss
    series.add(**{"loss/preference": loss, "loss/sft": nll_B.mean()})
    return loss + ftx * nll_B.mean()
