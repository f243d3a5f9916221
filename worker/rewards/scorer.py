"""What PPO's responses are scored by: a reward model of one of three kinds behind one method."""

from typing import Protocol

import torch


class Scorer(Protocol):
    """How good each of B responses is. Texts are told twice: as tokens for a model here, as strings for one elsewhere."""

    def score(
        self, input_ids_BT: torch.Tensor, attention_mask_BT: torch.Tensor, prompts: list[str], responses: list[str]
    ) -> torch.Tensor:
        """[B] fp32 on the tokens' device, without gradients. A row is prompt and response; padding may stand on either side."""
        ...


def padded_right(input_ids_BT: torch.Tensor, attention_mask_BT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same rows with what padding there is behind them, as a reward model saw its texts in training."""
    order_BT = torch.argsort(attention_mask_BT, dim=1, descending=True, stable=True)
    longest = int(attention_mask_BT.sum(1).max())
    return input_ids_BT.gather(1, order_BT)[:, :longest], attention_mask_BT.gather(1, order_BT)[:, :longest]
