"""Tiles of logits, and room for them and for what is made of them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Tiles:
    """The logits of N tokens in C columns, some rows at a time."""

    C: int
    device: torch.device
    # (rows, room) -> [R, C], not to be written to; made in the room, a flat piece of fp32 memory, where it is not at hand
    of: Callable[[slice, torch.Tensor], torch.Tensor]
    at_hand: bool = False

    def room(self, rows: int) -> torch.Tensor:
        return torch.empty(0 if self.at_hand else rows * self.C, dtype=torch.float32, device=self.device)


def given(logits_NC: torch.Tensor, convert: bool) -> Tiles:
    """Of logits that are there already; what is not fp32 is converted in the room, unless the reader does that itself."""
    C, device = logits_NC.shape[1], logits_NC.device
    if convert and logits_NC.dtype != torch.float32:
        return Tiles(C, device, lambda part, room: shaped(room, part, C).copy_(logits_NC[part]))
    return Tiles(C, device, lambda part, _: logits_NC[part], at_hand=True)


def shaped(room: torch.Tensor, part: slice, C: int) -> torch.Tensor:
    R = part.stop - part.start
    return room[: R * C].view(R, C)


class Buffers:
    """Of one tile: its logits, where they are not at hand, u, 2^u and products; of a base its logits, v and 2^v."""

    def __init__(self, elements: int, base: bool, device: torch.device) -> None:
        self._flat = torch.empty(7 if base else 4, elements, dtype=torch.float32, device=device)

    @property
    def logits(self) -> torch.Tensor:
        return self._flat[0]

    @property
    def base_logits(self) -> torch.Tensor:
        return self._flat[4]

    def of_model(self, R: int, C: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        u_RC, e_RC, x_RC = (flat[: R * C].view(R, C) for flat in self._flat[1:4])
        return u_RC, e_RC, x_RC

    def of_base(self, R: int, C: int) -> tuple[torch.Tensor, torch.Tensor]:
        v_RC, f_RC = (flat[: R * C].view(R, C) for flat in self._flat[5:7])
        return v_RC, f_RC
