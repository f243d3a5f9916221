"""The losses of preference training, each a pure function of log-ratios in nats.

A log-ratio is log π(y|x) − log π_ref(y|x), summed over the tokens of the answer y. Shapes: B pairs or answers, T tokens.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from worker.data.tokenize import MASKED

# chosen and rejected log-ratios, and beta -> the loss of each pair
PairLoss = Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]


def sigmoid(chosen_B: torch.Tensor, rejected_B: torch.Tensor, beta: float) -> torch.Tensor:
    """−log σ(β z), z being the chosen log-ratio less the rejected. Rafailov et al. 2023, arXiv 2305.18290, equation 7."""
    return -F.logsigmoid(beta * (chosen_B - rejected_B))


def hinge(chosen_B: torch.Tensor, rejected_B: torch.Tensor, beta: float) -> torch.Tensor:
    """max(0, 1 − β z). Zhao et al. 2023 (SLiC-HF), arXiv 2305.10425, with the margin taken from the reference."""
    return torch.relu(1 - beta * (chosen_B - rejected_B))


def ipo(chosen_B: torch.Tensor, rejected_B: torch.Tensor, beta: float) -> torch.Tensor:
    """(z − 1/(2β))², of sums over tokens, not of means. Azar et al. 2023, arXiv 2310.12036, equation 17 with τ = β."""
    return (chosen_B - rejected_B - 1 / (2 * beta)) ** 2


def kto_pair(chosen_B: torch.Tensor, rejected_B: torch.Tensor, beta: float) -> torch.Tensor:
    """KTO of both halves of a batch of pairs, each half's reference point from the other: the mean of two losses in [0, 1].

    Ethayarajh et al. 2023, Human-Centered Loss Functions (the report that came before KTO): 1 − σ(β(c − z_r)) for a chosen answer
    and 1 − σ(β(z_c − r)) for a rejected one, z being the mean log-ratio of the half, 0 at least, and not differentiated.
    """
    z_chosen, z_rejected = reference_point(chosen_B), reference_point(rejected_B)
    return (torch.sigmoid(beta * (z_rejected - chosen_B)) + torch.sigmoid(beta * (rejected_B - z_chosen))) / 2


def kto(log_ratio_B: torch.Tensor, desirable_B: torch.Tensor, z: torch.Tensor, beta: float) -> torch.Tensor:
    """1 − σ(β(r − z)) for a desirable answer, 1 − σ(β(z − r)) for another. Ethayarajh et al. 2024, arXiv 2402.01306.

    Both kinds weigh alike (λ_D = λ_U = 1).
    """
    above_B = log_ratio_B - z
    return torch.sigmoid(-beta * torch.where(desirable_B, above_B, -above_B))


def reference_point(log_ratio_B: torch.Tensor) -> torch.Tensor:
    """max(0, mean log-ratio): the batch's estimate of KL(π‖π_ref), through which no gradient flows. Of nothing it is 0."""
    if not len(log_ratio_B):
        return log_ratio_B.new_zeros(())
    return log_ratio_B.detach().mean().clamp(min=0)


# `dpo_loss`; where answers are in pairs kto is what LLaMA-Factory calls kto_pair.
PAIR_LOSSES: dict[str, PairLoss] = {"sigmoid": sigmoid, "hinge": hinge, "ipo": ipo, "kto": kto_pair, "kto_pair": kto_pair}


def answer_log_probs(log_probs_BT: torch.Tensor, labels_BT: torch.Tensor) -> torch.Tensor:
    """Σ log p over the tokens of each answer: [B]. `log_probs_BT` is [B, T−1], of the tokens from the second on."""
    return log_probs_BT.where(_is_answer(labels_BT), 0).sum(1)


def answer_nll_per_token(log_probs_BT: torch.Tensor, labels_BT: torch.Tensor) -> torch.Tensor:
    """The mean of −log p over the tokens of each answer: [B]. What `dpo_ftx` weighs."""
    answer_BT = _is_answer(labels_BT)
    return -log_probs_BT.where(answer_BT, 0).sum(1) / answer_BT.sum(1).clamp(min=1)


def _is_answer(labels_BT: torch.Tensor) -> torch.Tensor:
    return labels_BT[:, 1:] != MASKED
