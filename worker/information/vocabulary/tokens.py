"""What one model's logits, and a base model's, say about each token: the pass over the vocabulary from end to end.

Shapes: N tokens, R rows and C columns of one tile, V vocabulary, D width of the hidden states. Columns are the outer loop and
rows the inner one, so that a tile of the head's weight is read, and made fp32, once.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from worker.information.vocabulary.head import CPU_COLUMNS, Head, HeadTiles, full_precision_products
from worker.information.vocabulary.on_numpy import float64
from worker.information.vocabulary.result import TokenStatistics
from worker.information.vocabulary.statistics import TWO_PASSES, Backend, VocabularyStatistics, best_backend
from worker.information.vocabulary.sums import needs_target_logits, sums_for
from worker.information.vocabulary.tiles import Tiles, given

OF_MODEL: tuple[str, ...] = ()  # beside NLL and entropy
WITH_A_BASE = ("kl_from_base", "kl_to_base", "base_nll", "base_entropy")

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
    if base_hidden_ND is not None and base_head is not None:
        _require_equal("tokens", len(hidden_ND), len(base_hidden_ND))
        _require_equal("vocabulary", head.size, base_head.size)
        base_hidden_ND = base_hidden_ND.to(head.weight_VD.device)
    want = _wanted(want, base_head is not None)
    _require_targets(targets_N, head.size)
    columns = min(columns or (CPU_COLUMNS if head.weight_VD.device.type == "cpu" else 2048), head.size)
    tiles, base_tiles = HeadTiles(hidden_ND, head, columns).over, None
    if base_hidden_ND is not None and base_head is not None:
        base_tiles = HeadTiles(base_hidden_ND, base_head, columns).over
    with full_precision_products():
        ranked = needs_target_logits(sums_for(_of_one_pass(want)))
        target_logits_N = head.logits_of(hidden_ND, targets_N) if ranked else None
        backend = backend or best_backend(head.weight_VD.device)
        return _passes(tiles, base_tiles, targets_N, target_logits_N, head.size, want, rows, columns, backend)


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
    want, backend = _wanted(want, base_logits_NV is not None), backend or best_backend(logits_NV.device)
    # long rows: they are read from memory, which is slower in short pieces
    columns = min(columns or (2**15 if logits_NV.device.type == "cpu" else V), V)
    base_columns = None
    if base_logits_NV is not None:
        _require_equal("tokens", len(logits_NV), len(base_logits_NV))
        _require_equal("vocabulary", V, V if vocabulary else base_logits_NV.shape[1])
        base_columns = _columns_of(base_logits_NV, backend)
    _require_targets(targets_N, V)
    target_logits_N = logits_NV.detach().gather(1, targets_N.to(logits_NV.device)[:, None])[:, 0]
    return _passes(_columns_of(logits_NV, backend), base_columns, targets_N, target_logits_N, V, want, rows, columns, backend)


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


def _columns_of(logits_NV: torch.Tensor, backend: Backend) -> Columns:
    return lambda first, last: given(logits_NV.detach()[:, first:last], convert=backend == "torch")


@torch.no_grad()
def _passes(
    columns_of: Columns,
    base_columns_of: Columns | None,
    targets_N: torch.Tensor,
    target_logits_N: torch.Tensor | None,
    V: int,
    want: tuple[str, ...],
    rows: int | None,
    columns: int,
    backend: Backend,
) -> TokenStatistics:
    twice = tuple(name for name in want if name in TWO_PASSES)
    if twice and base_columns_of is None:
        raise ValueError(f"{' and '.join(twice)} compare with a base, and none came")
    once = _of_one_pass(want)
    statistics = VocabularyStatistics(targets_N, once + (("base_nll",) if twice else ()), backend, target_logits_N)
    first_tiles = columns_of(0, columns)
    rows = min(rows or statistics.rows(first_tiles), max(1, len(targets_N)))
    with statistics.threads(rows * columns, first_tiles.device) as threads:
        for first in range(0, V, columns):
            last = min(first + columns, V)
            base_tiles = None if base_columns_of is None else base_columns_of(first, last)
            statistics.fold(columns_of(first, last), first, rows, threads, base_tiles)
        result = statistics.result(once)
        if not twice or base_columns_of is None:
            return result
        shares = []
        for first in range(0, V, columns):
            last = min(first + columns, V)
            shares.append(statistics.distances(columns_of(first, last), base_columns_of(first, last), rows, threads))
    distances: dict[str, Any] = {name: sum(float64(share[name]) for share in shares) for name in twice}
    return replace(result, **distances)
