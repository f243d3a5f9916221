"""A causal language model that scores: the value, by its head, of a text's last token."""

from typing import Any

import torch

from worker.models import value_head
from worker.models.adapters import Model
from worker.models.start import Start
from worker.models.value_head import ValueHead


class RewardModel(torch.nn.Module):
    """The language model in its place, with the adapters that are on, and the head. A trainer takes it for one model."""

    accepts_loss_kwargs = True  # so that the trainer counts the pairs of all the batches of an update

    def __init__(self, backbone: Model, head: ValueHead):
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """[B] fp32, a score for each of B texts, padded on the right."""
        return value_head.scores(self.backbone, self.head, input_ids, attention_mask)

    @property
    def config(self) -> Any:
        return self.backbone.config

    @property
    def generation_config(self) -> Any:
        return self.backbone.generation_config

    def get_input_embeddings(self) -> torch.nn.Module:
        embeddings: torch.nn.Module = self.backbone.get_input_embeddings()
        return embeddings


def language_model(model: Model | RewardModel) -> Model:
    """What speaks in it."""
    return model.backbone if isinstance(model, RewardModel) else model


def head_to_train(backbone: Model, start: Start) -> ValueHead:
    """The head that lies beside what training begins with, or a new one: its first scores are 0, and each pair costs 1 bit.

    Its bias stands in both scores of a pair and cancels. What gradient it has is rounding, which Adam would make steps of, so it
    does not train.
    """
    width = value_head.width(backbone)
    head = value_head.load(value_head.folder_of(start), width) or ValueHead(width)
    head.summary.bias.requires_grad_(False)
    return head.to(next(backbone.parameters()).device)
