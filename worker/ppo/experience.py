"""A buffer of texts that the policy wrote, and what was said of them then."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch

from worker.ppo.prompts import Prompt


@dataclass(frozen=True)
class Experience:
    """B texts of at most N tokens and T = N − 1 predictions, padded on the right; the shapes are those of equations.py."""

    input_ids_BN: torch.Tensor
    attention_mask_BN: torch.Tensor
    mask_BT: torch.Tensor  # 1 where the predicted token is of the response
    logp_BT: torch.Tensor
    ref_logp_BT: torch.Tensor
    entropy_BT: torch.Tensor
    values_BT: torch.Tensor
    scores_B: torch.Tensor

    @property
    def n_tokens(self) -> int:
        return int(self.attention_mask_BN.sum())

    def to(self, device: torch.device) -> "Experience":
        return Experience(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    def rows(self, rows_b: torch.Tensor) -> "Experience":
        """Some of the texts, no wider than the longest of them."""
        longest = int(self.attention_mask_BN[rows_b].sum(1).max())
        widths = {"N": longest, "T": longest - 1}
        picked = {}
        for field in fields(self):
            tensor = getattr(self, field.name)[rows_b]
            picked[field.name] = tensor if tensor.ndim == 1 else tensor[:, : widths[field.name[-1]]]
        return Experience(**picked)


def texts_of(
    prompts: Sequence[Prompt], responses: Sequence[list[int]], pad_id: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(input_ids [B, N], attention_mask [B, N], the responses' mask [B, T]), padded on the right."""
    lengths = [len(prompt) + len(response) for prompt, response in zip(prompts, responses, strict=True)]
    N = max(lengths)
    ids, attended, written = [], [], []
    for prompt, response, length in zip(prompts, responses, lengths, strict=True):
        ids.append([*prompt, *response, *[pad_id] * (N - length)])
        attended.append([1] * length + [0] * (N - length))
        written.append([0] * (len(prompt) - 1) + [1] * len(response) + [0] * (N - length))
    mask_BT = torch.tensor(written, dtype=torch.float32, device=device)
    return torch.tensor(ids, device=device), torch.tensor(attended, device=device), mask_BT


def joined(parts: Sequence[Experience]) -> Experience:
    """One buffer, as wide as its widest part."""
    return Experience(**{field.name: _joined([getattr(part, field.name) for part in parts]) for field in fields(Experience)})


def _joined(tensors: list[torch.Tensor]) -> torch.Tensor:
    if tensors[0].ndim == 1:
        return torch.cat(tensors)
    width = max(tensor.shape[1] for tensor in tensors)
    return torch.cat([torch.nn.functional.pad(tensor, (0, width - tensor.shape[1])) for tensor in tensors])
