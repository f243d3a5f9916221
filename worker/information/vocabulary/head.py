"""From hidden states to logits, tile by tile, in fp32.

Shapes: N tokens, R rows and C columns of one tile, V vocabulary, D width of the hidden states.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from worker.information.vocabulary.tiles import Tiles, shaped

HALF = (torch.bfloat16, torch.float16)

CPU_COLUMNS = 4096  # of the weight, which are made fp32 at once where a CPU multiplies


@dataclass(frozen=True)
class Head:
    """From hidden states to logits: softcap · tanh(scale · (h W^T + b) / softcap)."""

    weight_VD: torch.Tensor
    bias_V: torch.Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None
    vocabulary: int | None = None  # the rows that are tokens; the ones beyond pad the matrix and get no probability

    @property
    def size(self) -> int:
        """V: how many tokens share the probability."""
        rows = self.weight_VD.shape[0]
        return rows if self.vocabulary is None else min(self.vocabulary, rows)

    @torch.no_grad()
    def logits(self, hidden_RD: torch.Tensor) -> torch.Tensor:
        """[R, V] in fp32, for a few rows at a time; `token_statistics` is for many."""
        columns = self.size if self.weight_VD.is_cuda else min(self.size, CPU_COLUMNS)
        tiles, rows = HeadTiles(hidden_RD, self, columns), slice(0, len(hidden_RD))
        parts = []
        with full_precision_products():
            for first in range(0, self.size, columns):
                part = tiles.over(first, min(first + columns, self.size))
                parts.append(part.of(rows, part.room(len(hidden_RD))))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    @torch.no_grad()
    def logits_of(self, hidden_ND: torch.Tensor, tokens_N: torch.Tensor, rows: int = 1024) -> torch.Tensor:
        """[N] in fp32: the logit of one token for each state, from N rows of the weight instead of V."""
        made = torch.empty(len(tokens_N), dtype=torch.float32, device=self.weight_VD.device)
        for start in range(0, len(tokens_N), rows):
            tokens_R = tokens_N[start : start + rows].to(made.device)
            states_RD = hidden_ND[start : start + rows].to(made.device).float()
            z_R = (states_RD * self.weight_VD[tokens_R].float()).sum(1)
            made[start : start + rows] = self.transform_(z_R, None if self.bias_V is None else self.bias_V[tokens_R])
        return made

    def transform_(self, product: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """h W^T to logits, in place."""
        if bias is not None:
            product.add_(bias.float())
        if self.scale != 1.0:
            product.mul_(self.scale)
        if self.softcap is not None:
            product.div_(self.softcap).tanh_().mul_(self.softcap)
        return product


class HeadTiles:
    """The logits of N hidden states, by columns.

    bf16 products are exact in fp32 and are summed there: on a GPU by `torch.mm(out_dtype=float32)` straight from the bf16
    numbers, elsewhere from columns of the weight that are made fp32 once for all rows.
    """

    def __init__(self, hidden_ND: torch.Tensor, head: Head, columns: int) -> None:
        self._head = head
        self._hidden_ND = hidden_ND.to(head.weight_VD.device)
        dtype = head.weight_VD.dtype
        self._straight = self._hidden_ND.is_cuda and dtype in HALF and hidden_ND.dtype == dtype
        as_is = self._straight or dtype == torch.float32
        self._room_CD = head.weight_VD.new_empty(0 if as_is else columns, hidden_ND.shape[1], dtype=torch.float32)

    def over(self, first: int, last: int) -> Tiles:
        """Of columns first to last − 1, until the next columns are asked for."""
        weight_CD = self._head.weight_VD[first:last]
        if len(self._room_CD):
            weight_CD = self._room_CD[: last - first].copy_(weight_CD)
        bias_C = None if self._head.bias_V is None else self._head.bias_V[first:last]

        def product(part: slice, room: torch.Tensor) -> torch.Tensor:
            out_RC = shaped(room, part, last - first)
            if self._straight:
                torch.mm(self._hidden_ND[part], weight_CD.T, out_dtype=torch.float32, out=out_RC)
            else:
                torch.mm(self._hidden_ND[part].float(), weight_CD.T, out=out_RC)
            return self._head.transform_(out_RC, bias_C)

        return Tiles(last - first, weight_CD.device, product)


@contextmanager
def full_precision_products() -> Iterator[None]:
    """fp32 products in fp32. A trainer may have allowed TF32 or bf16 inside them, which is 1e-3 of a logit: too coarse here."""
    settings: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    before = [setting.fp32_precision for setting in settings]
    try:
        for setting in settings:
            setting.fp32_precision = "ieee"
        yield
    finally:
        for setting, precision in zip(settings, before, strict=True):
            setting.fp32_precision = precision
