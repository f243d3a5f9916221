"""What one model's logits, and a base model's, say about each token: one pass over the vocabulary, in fp32.

Shapes: N tokens, R rows of one chunk, V vocabulary, D width of the hidden states. z are the model's logits, w the base's,
u = z − max z, v = w − max w; p = e^u/s and q = e^v/sq are the distributions, y is the target. Arrays in, bits out.

Every statistic is made of sums that a shift of the logits leaves alone:
    s = Σe^u   t1 = Σe^u u   sq = Σe^v   q1 = Σe^v v   xp = Σe^u (u−v)   xq = Σe^v (u−v)
    H(p) = ln s − t1/s                      both terms ≥ 0: nothing cancels
    NLL = ln s − (z_y − max z)
    D(p‖q) = xp/s − ln s + ln sq            0 exactly where z and w are the same numbers
    D(q‖p) = −xq/sq − ln sq + ln s
`lse − Σpz`, the usual form, is 2e-3 nats off where logits are offset by 1e4; these stay below 2e-5, or 5e-7 of a value
above 40 nats.

Sources: Shannon 1948; Kullback and Leibler 1951; Cover and Thomas, Elements of Information Theory, 2nd ed. 2006, ch. 2.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

# Where p and q are nearly one, rounding can carry a divergence below zero; what lies deeper is a mistake, and stays visible.
KL_ROUNDING_NATS = 1e-5

# write(start, stop, out_RV): put the logits of tokens start to stop into out_RV
Writer = Callable[[int, int, torch.Tensor], None]


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
        logits_RV = torch.empty(len(hidden_RD), self.size, dtype=torch.float32, device=self.weight_VD.device)
        _product(hidden_RD, self, len(hidden_RD))(0, len(hidden_RD), logits_RV)
        return logits_RV


@dataclass(frozen=True, eq=False)
class TokenStatistics:
    """For each of N tokens, in bits; what needs a base is None without one."""

    nll: np.ndarray  # −lg p(y)
    entropy: np.ndarray  # H(p)
    kl_from_base: np.ndarray | None = None  # D(q‖p), base to model: what the model forgot of the base
    kl_to_base: np.ndarray | None = None  # D(p‖q), model to base
    base_nll: np.ndarray | None = None  # −lg q(y)
    base_entropy: np.ndarray | None = None  # H(q)


def token_statistics(
    hidden_ND: torch.Tensor,
    head: Head,
    targets_N: torch.Tensor,
    base_hidden_ND: torch.Tensor | None = None,
    base_head: Head | None = None,
    rows: int = 64,
) -> TokenStatistics:
    """The statistics of head(hidden), and of base_head(base_hidden) beside it, whatever the dtype, in fp32.

    Works where the head's weight is; hidden states come there chunk by chunk. The base may have another width, not another V.
    """
    if (base_hidden_ND is None) != (base_head is None):
        raise ValueError("a base is hidden states and a head: one came without the other")
    base = None
    if base_hidden_ND is not None and base_head is not None:
        _require_equal("tokens", len(hidden_ND), len(base_hidden_ND))
        _require_equal("vocabulary", head.size, base_head.size)
        base = _product(base_hidden_ND, base_head, rows)
    return _stream(_product(hidden_ND, head, rows), base, targets_N, head.size, head.weight_VD.device, rows)


def token_statistics_from_logits(
    logits_NV: torch.Tensor,
    targets_N: torch.Tensor,
    base_logits_NV: torch.Tensor | None = None,
    vocabulary: int | None = None,
    rows: int = 64,
) -> TokenStatistics:
    """The same statistics of logits that are there already. They must be finite: a −inf gives nan, which is seen."""
    V = logits_NV.shape[1] if vocabulary is None else min(vocabulary, logits_NV.shape[1])
    base = None
    if base_logits_NV is not None:
        _require_equal("tokens", len(logits_NV), len(base_logits_NV))
        _require_equal("vocabulary", V, V if vocabulary else base_logits_NV.shape[1])
        base = _copy(base_logits_NV)
    return _stream(_copy(logits_NV), base, targets_N, V, logits_NV.device, rows)


def _require_equal(what: str, model: int, base: int) -> None:
    if model != base:
        raise ValueError(f"the model's {what} ({model}) and the base's ({base}) differ, so they cannot be compared")


def _product(hidden_ND: torch.Tensor, head: Head, rows: int) -> Writer:
    """Logits as the head makes them, from bf16 or fp32 states and weights, with fp32 products and sums."""
    exact = replace(head, weight_VD=head.weight_VD[: head.size].float())
    if head.bias_V is not None:
        exact = replace(exact, bias_V=head.bias_V[: head.size].float())
    states_RD = torch.empty(rows, hidden_ND.shape[1], dtype=torch.float32, device=head.weight_VD.device)

    def write(start: int, stop: int, out_RV: torch.Tensor) -> None:
        states = states_RD[: stop - start].copy_(hidden_ND[start:stop])
        torch.mm(states, exact.weight_VD.T, out=out_RV)
        if exact.bias_V is not None:
            out_RV.add_(exact.bias_V)
        if exact.scale != 1.0:
            out_RV.mul_(exact.scale)
        if exact.softcap is not None:
            out_RV.div_(exact.softcap).tanh_().mul_(exact.softcap)

    return write


def _copy(logits_NV: torch.Tensor) -> Writer:
    def write(start: int, stop: int, out_RV: torch.Tensor) -> None:
        out_RV.copy_(logits_NV[start:stop, : out_RV.shape[1]])

    return write


@torch.no_grad()
def _stream(
    write: Writer, write_base: Writer | None, targets_N: torch.Tensor, V: int, device: torch.device, rows: int
) -> TokenStatistics:
    """Chunks of rows through buffers that are allocated once: 3 of R·V floats for one model, 5 with a base."""
    N = len(targets_N)
    if N and (int(targets_N.min()) < 0 or int(targets_N.max()) >= V):
        raise ValueError(f"targets must lie in 0 to {V - 1}, those here go from {targets_N.min()} to {targets_N.max()}")
    names = ("nll", "entropy") if write_base is None else tuple(TokenStatistics.__dataclass_fields__)
    nats = {name: np.empty(N, dtype=np.float64) for name in names}
    buffers = torch.empty(3 if write_base is None else 5, rows, V, dtype=torch.float32, device=device)
    with full_precision_products():
        for start in range(0, N, rows):
            stop = min(start + rows, N)
            z, e, scratch, *of_base = (buffer[: stop - start] for buffer in buffers)
            write(start, stop, z)
            if write_base is not None:
                write_base(start, stop, of_base[0])
            chunk = _statistics(targets_N[start:stop].to(device), z, e, scratch, *of_base)
            for name, values_R in chunk.items():
                nats[name][start:stop] = values_R.cpu().numpy()
    return TokenStatistics(**{name: values_N / math.log(2) for name, values_N in nats.items()})


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


def _statistics(
    targets_R: torch.Tensor,
    z_RV: torch.Tensor,
    e_RV: torch.Tensor,
    scratch_RV: torch.Tensor,
    w_RV: torch.Tensor | None = None,
    f_RV: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """The statistics of one chunk in nats, float64 [R]. All [R, V] tensors are overwritten; none is allocated."""
    u_y, s, t1 = _sums(targets_R, z_RV, e_RV, scratch_RV)
    made = {"nll": s.log() - u_y, "entropy": s.log() - t1 / s}
    if w_RV is None or f_RV is None:
        return made
    v_y, sq, q1 = _sums(targets_R, w_RV, f_RV, scratch_RV)
    # u − v once, in v's place: its sums keep their digits where p and q are close, as Σe^u u − Σe^u v would not
    apart_RV = torch.sub(z_RV, w_RV, out=w_RV)
    xp, xq = _sum_of_product(e_RV, apart_RV, scratch_RV), _sum_of_product(f_RV, apart_RV, scratch_RV)
    return made | {
        "kl_from_base": _not_below_zero(-xq / sq - sq.log() + s.log()),
        "kl_to_base": _not_below_zero(xp / s - s.log() + sq.log()),
        "base_nll": sq.log() - v_y,
        "base_entropy": sq.log() - q1 / sq,
    }


def _sums(
    targets_R: torch.Tensor, z_RV: torch.Tensor, e_RV: torch.Tensor, scratch_RV: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """u_y, s = Σe^u and t1 = Σe^u u; z becomes u, e becomes e^u."""
    z_RV.sub_(z_RV.amax(dim=1, keepdim=True))
    torch.exp(z_RV, out=e_RV)
    u_y = z_RV.gather(1, targets_R[:, None]).squeeze(1)
    return u_y.double(), e_RV.sum(dim=1).double(), _sum_of_product(e_RV, z_RV, scratch_RV)


def _sum_of_product(a_RV: torch.Tensor, b_RV: torch.Tensor, scratch_RV: torch.Tensor) -> torch.Tensor:
    """Σ a b over the vocabulary. torch's sum adds pairwise, which a dot product does not: its fp32 error stays flat in V."""
    return torch.mul(a_RV, b_RV, out=scratch_RV).sum(dim=1).double()


def _not_below_zero(kl_R: torch.Tensor) -> torch.Tensor:
    """A divergence is ≥ 0 (Gibbs): what rounding took below becomes 0, and only that."""
    return torch.where((kl_R < 0) & (kl_R > -KL_ROUNDING_NATS), 0.0, kl_R)
