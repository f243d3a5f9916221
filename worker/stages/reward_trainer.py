"""Training on pairs: their loss, what is told of it, and a model of two files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer

from worker.data.blanks import is_blank
from worker.data.collate import PairCollator
from worker.data.tokenize import MASKED
from worker.models import value_head
from worker.models.reward_model import RewardModel
from worker.stages.series import Series


def pairwise_losses(chosen_B: torch.Tensor, rejected_B: torch.Tensor) -> torch.Tensor:
    """-log sigma(s_c - s_r) of each pair, in nats (arXiv 2203.02155, equation 1)."""
    return -torch.nn.functional.logsigmoid(chosen_B - rejected_B)


class RewardCollator:
    """A batch of B pairs as 2B texts, the chosen ones first. The trainer counts labels, one a pair: the loss is their mean."""

    def __init__(self, pairs: PairCollator):
        self._pairs = pairs

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = self._pairs(rows)
        labels = torch.tensor([MASKED if is_blank(row) else 0 for row in rows])
        return {name: batch[name] for name in ("input_ids", "attention_mask")} | {"labels": labels}


class RewardTrainer(Trainer):
    """A trainer's own loss, saving and loading are of one language model: here there is a head on it, in a file beside."""

    model: RewardModel
    loss_is_scaled_for_ga = True  # by the pairs of all the batches of an update

    def __init__(self, series: Series, **arguments: Any):
        super().__init__(**arguments)
        self._series = series

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """The mean over the pairs of an update, of which this batch has a part. Scores are told in nats."""
        scores_2B = model(inputs["input_ids"], inputs["attention_mask"])
        chosen_B, rejected_B = scores_2B.view(2, -1)[:, inputs["labels"] != MASKED]
        if len(chosen_B):
            self._series.add(
                **{
                    "rewards/chosen": chosen_B.mean(),
                    "rewards/rejected": rejected_B.mean(),
                    "rewards/margins": (chosen_B - rejected_B).mean(),
                    "rewards/accuracies": (chosen_B > rejected_B).float().mean(),
                }
            )
        losses = pairwise_losses(chosen_B, rejected_B)
        if num_items_in_batch is None:
            return losses.mean()
        # the pairs were counted in all ranks, and the gradients will be averaged over these
        return losses.sum() / num_items_in_batch * self.accelerator.num_processes

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        folder = Path(output_dir or self.args.output_dir or "")
        self.model.backbone.save_pretrained(str(folder))
        value_head.save(self.model.head, folder)
        self.processing_class.save_pretrained(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, self.model.backbone)
        head = value_head.load(Path(resume_from_checkpoint), self.model.head.summary.in_features)
        assert head is not None, "the manifest lists it, and was held against the files"
        self.model.head.load_state_dict(head.state_dict())
