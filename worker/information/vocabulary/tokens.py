"""What one model's logits, and a base model's, say about each token: the pass over the vocabulary from end to end.

Shapes: N tokens, R rows and C columns of one tile, V vocabulary, D width of the hidden states. Columns are the outer loop and
rows the inner one, so that a tile of the head's weight is read, and made fp32, once.
"""

from collections.abc import Callable
from dataclasses import replace

import torch

from worker.information.vocabulary.head import Head, HeadTiles, full_precision_products
from worker.information.vocabulary.on_numpy import float64
from worker.information.vocabulary.on_torch import Buffers, Tiles
from worker.information.vocabulary.result import TokenStatistics
from worker.information.vocabulary.statistics import Backend, VocabularyStatistics, best_backend, given, tile_elements
from worker.information.vocabulary.sums import needs_target_logits, sums_for

OF_MODEL: tuple[str, ...] = ()  # beside NLL and entropy
WITH_A_BASE = ("kl_from_base", "kl_to_base", "base_nll", "base_entropy")
TWO_PASSES = ("total_variation", "jensen_shannon")

Columns = Callable[[int, int], Tiles]  # (first, last) -> the tiles of columns first to last − 1


def token_statistics(
    hidden_ND: torch.Tensor,
    head: Head,
    targets_N: torch.Tensor,
    base_hidden_ND: torch.Tensor | None = None,
    base_head: Head | None = None,
    want: tuple[str, ...] | None = None,
    rows: int | None = None,
    columns: int | None = None,
    backend: Backend | None = None,
) -> TokenStatistics:
    """The statistics of head(hidden), and of base_head(base_hidden) beside it, whatever the dtype, in fp32.

    Works where the head's weight is. The base may have another width, not another V. Without `want`: NLL and entropy, with a
    base the two divergences, its NLL and its entropy too. Total variation and Jensen–Shannon cost a second pass.
    """
    if (base_hidden_ND is None) != (base_head is None):
        raise ValueError("a base is hidden states and a head: one came without the other")
    device = head.weight_VD.device
    columns = min(columns or (4096 if device.type == "cpu" else 2048), head.size)
    rows = max(1, min(rows or tile_elements(device) // columns, len(hidden_ND)))
    base = None
    if base_hidden_ND is not None and base_head is not None:
        _require_equal("tokens", len(hidden_ND), len(base_hidden_ND))
        _require_equal("vocabulary", head.size, base_head.size)
        base = HeadTiles(base_hidden_ND.to(device), base_head, rows, columns).over
    want = _wanted(want, base is not None)
    _require_targets(targets_N, head.size)
    target_logits_N = None
    with full_precision_products():
        if needs_target_logits(sums_for(_of_one_pass(want))):
            target_logits_N = head.logits_of(hidden_ND, targets_N)
        tiles = HeadTiles(hidden_ND, head, rows, columns).over
        return _passes(tiles, base, targets_N, target_logits_N, head.size, want, rows, columns, backend, device)


def token_statistics_from_logits(
    logits_NV: torch.Tensor,
    targets_N: torch.Tensor,
    base_logits_NV: torch.Tensor | None = None,
    vocabulary: int | None = None,
    want: tuple[str, ...] | None = None,
    rows: int | None = None,
    columns: int | None = None,
    backend: Backend | None = None,
) -> TokenStatistics:
    """The same statistics of logits that are there already. A token whose logit is −∞ has no probability."""
    V = logits_NV.shape[1] if vocabulary is None else min(vocabulary, logits_NV.shape[1])
    device = logits_NV.device
    # long rows: they are read from memory, which is slower in short pieces
    columns = min(columns or (2**15 if device.type == "cpu" else 2**17), V)
    rows = max(1, min(rows or tile_elements(device) // columns, len(logits_NV)))
    base = None
    if base_logits_NV is not None:
        _require_equal("tokens", len(logits_NV), len(base_logits_NV))
        _require_equal("vocabulary", V, V if vocabulary else base_logits_NV.shape[1])
        base = _columns_of(base_logits_NV, rows)
    _require_targets(targets_N, V)
    target_logits_N = logits_NV.gather(1, targets_N.to(device)[:, None])[:, 0].float()
    want = _wanted(want, base is not None)
    return _passes(_columns_of(logits_NV, rows), base, targets_N, target_logits_N, V, want, rows, columns, backend, device)


def _require_equal(what: str, model: int, base: int) -> None:
    if model != base:
        raise ValueError(f"the model's {what} ({model}) and the base's ({base}) differ, so they cannot be compared")


def _require_targets(targets_N: torch.Tensor, V: int) -> None:
    if len(targets_N) and (int(targets_N.min()) < 0 or int(targets_N.max()) >= V):
        raise ValueError(f"targets must lie in 0 to {V - 1}, those here go from {targets_N.min()} to {targets_N.max()}")


def _wanted(want: tuple[str, ...] | None, base: bool) -> tuple[str, ...]:
    return want if want is not None else WITH_A_BASE if base else OF_MODEL


def _of_one_pass(want: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in want if name not in TWO_PASSES)


def _columns_of(logits_NV: torch.Tensor, rows: int) -> Columns:
    return lambda first, last: given(logits_NV[:, first:last], rows)


@torch.no_grad()
def _passes(
    columns_of: Columns,
    base_columns_of: Columns | None,
    targets_N: torch.Tensor,
    target_logits_N: torch.Tensor | None,
    V: int,
    want: tuple[str, ...],
    rows: int,
    columns: int,
    backend: Backend | None,
    device: torch.device,
) -> TokenStatistics:
    twice = tuple(name for name in want if name in TWO_PASSES)
    if twice and base_columns_of is None:
        raise ValueError(f"{' and '.join(twice)} compare with a base, and none came")
    once = _of_one_pass(want) + (("base_nll",) if twice else ())
    statistics = VocabularyStatistics(targets_N, once, backend or best_backend(device), target_logits_N)
    buffers = Buffers(rows * columns, base_columns_of is not None, device)
    for first in range(0, V, columns):
        last = min(first + columns, V)
        base_tiles = None if base_columns_of is None else base_columns_of(first, last)
        statistics.fold(columns_of(first, last), first, last - first, device, rows, buffers, base_tiles)
    result = replace(statistics.result(), **({} if "base_nll" in want else {"base_nll": None}))
    if not twice or base_columns_of is None:
        return result
    shares = []
    for first in range(0, V, columns):
        last = min(first + columns, V)
        shares.append(statistics.distances(columns_of(first, last), base_columns_of(first, last), last - first, rows, buffers))
    return replace(result, **{name: sum(float64(share[name]) for share in shares) for name in twice})
