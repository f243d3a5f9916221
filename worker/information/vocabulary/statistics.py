"""The state of one pass over the vocabulary: parts come in any tiling and order, and the result does not depend on them."""

from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch

from worker.information.vocabulary import on_numpy, on_torch
from worker.information.vocabulary.result import TokenStatistics, statistics_of
from worker.information.vocabulary.sums import Norm, Sums, merge, needs_base, needs_target_logits, sums_for
from worker.information.vocabulary.threads import Threads
from worker.information.vocabulary.tiles import Buffers, Tiles, given

Backend = Literal["numpy", "torch", "triton"]

TWO_PASSES = ("total_variation", "jensen_shannon")

CPU_TILE = 2**19  # logits, 2 MB in fp32: a few such buffers lie in the caches of a core
GPU_TILE = 2**23  # logits, 33 MB in fp32: meant to stay in an H100's 50 MB of L2


def tile_elements(device: torch.device) -> int:
    return CPU_TILE if device.type == "cpu" else GPU_TILE


def best_backend(device: torch.device) -> Backend:
    return "triton" if device.type == "cuda" and _has_triton() else "torch"


@dataclass(eq=False)
class VocabularyStatistics:
    """What the columns seen so far say of N tokens.

    `want` names fields of TokenStatistics beside NLL and entropy, which come always; those that compare with a base need its
    logits in every update. The rank of the target and the mass above it need `target_logits_N`, since what lies above can only be
    counted when the target's logit is known before the columns come.
    """

    targets_N: torch.Tensor
    want: tuple[str, ...] = ()
    backend: Backend = "torch"
    target_logits_N: torch.Tensor | None = None
    sums: Sums | None = None
    seen: list[tuple[int, int]] = field(default_factory=list)  # columns start to stop − 1
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.names = sums_for(self.want)
        if needs_target_logits(self.names) and self.target_logits_N is None:
            raise ValueError("the rank of the target and the mass above it need target_logits_N: the logit of each target")
        if self.target_logits_N is not None and len(self.target_logits_N) != len(self.targets_N):
            raise ValueError(f"{len(self.targets_N)} targets have {len(self.target_logits_N)} target logits")

    def update(self, logits_NC: Any, start: int, base_logits_NC: Any = None) -> None:
        """Take in the logits of columns start to start + C, and the base's of the same; numpy's arrays or torch's tensors."""
        self._require_shapes(logits_NC, base_logits_NC)
        tiles = self._given(logits_NC)
        rows = self.rows(tiles)
        with self.threads(rows * tiles.C, tiles.device) as threads:
            self.fold(tiles, start, rows, threads, None if base_logits_NC is None else self._given(base_logits_NC))

    def fold(self, tiles: Tiles, start: int, rows: int, threads: Threads, base_tiles: Tiles | None = None) -> None:
        """The same of logits that may be made only when they are asked for, `rows` tokens at a time, on any of the threads."""
        if needs_base(self.names) != (base_tiles is not None):
            raise ValueError("a base's logits are needed exactly where a statistic that compares with a base is wanted")
        if tiles.C == 0:
            return
        self._see(start, tiles.C)
        y_N = self.targets_N.to(tiles.device) - start
        threshold_N = self._thresholds(tiles.device)
        if self.backend == "triton":
            before = None if self.sums is None else {name: torch.as_tensor(sum_N) for name, sum_N in self.sums.items()}
            self.sums = _on_triton().column_sums(tiles, y_N, threshold_N, self.names, rows, before, base_tiles)
            return
        if self.backend == "numpy":
            part = on_numpy.column_sums(tiles, y_N, threshold_N, self.names, rows, base_tiles)
        else:
            part = on_torch.column_sums(tiles, y_N, threshold_N, self.names, rows, threads, base_tiles)
        self.sums = part if self.sums is None else merge(self.sums, _like(part, self.sums))

    def distances(self, tiles: Tiles, base_tiles: Tiles, rows: int, threads: Threads) -> Sums:
        """Of a second pass over the same logits, when the first is done: what these columns add to TWO_PASSES."""
        if self.sums is None or "sq" not in self.sums:
            raise ValueError("a second pass compares with a base, and the first had none")
        norm, base_norm = _norm(self.sums["m"], self.sums["s"]), _norm(self.sums["n"], self.sums["sq"])
        if self.backend == "triton":
            return _on_triton().column_distances(tiles, base_tiles, norm, base_norm, rows)
        if self.backend == "numpy":
            return on_numpy.column_distances(tiles, base_tiles, norm, base_norm, rows)
        return on_torch.column_distances(tiles, base_tiles, norm, base_norm, rows, threads)

    def rows(self, tiles: Tiles) -> int:
        """How many tokens at a time: as many as their tile fits a cache, or all where one kernel takes logits at hand."""
        if self.backend == "triton" and tiles.at_hand:
            return max(1, len(self.targets_N))
        return max(1, min(len(self.targets_N), tile_elements(tiles.device) // max(1, tiles.C)))

    def threads(self, elements: int, device: torch.device) -> Threads:
        """What `fold` works on, for tiles of at most so many logits."""
        base = needs_base(self.names)
        return Threads(lambda: Buffers(elements, base, device), device if self.backend == "torch" else None)

    def merge(self, other: "VocabularyStatistics") -> "VocabularyStatistics":
        """The statistics of both parts of the vocabulary. Neither is changed."""
        if self.want != other.want or not torch.equal(self.targets_N, other.targets_N):
            raise ValueError("only statistics of the same targets, of which the same is wanted, can be merged")
        made = VocabularyStatistics(self.targets_N, self.want, self.backend, self.target_logits_N, self.sums, list(self.seen))
        if other.sums is not None:
            for start, stop in other.seen:
                made._see(start, stop - start)
            made.sums = other.sums if made.sums is None else merge(made.sums, _like(other.sums, made.sums))
        return made

    def result(self, want: tuple[str, ...] | None = None) -> TokenStatistics:
        """All that is wanted, or what is named here of it. The columns seen are the vocabulary: every target is among them."""
        if self.sums is None:
            raise ValueError("no logits were taken in, so there is nothing to tell")
        unseen_N = torch.ones(len(self.targets_N), dtype=torch.bool, device=self.targets_N.device)
        for start, stop in self.seen:
            unseen_N &= (self.targets_N < start) | (self.targets_N >= stop)
        if unseen_N.any():
            token = int(unseen_N.nonzero()[0])
            raise ValueError(
                f"token {token} has the target {int(self.targets_N[token])}, which is in no column that was taken in"
            )
        return statistics_of({name: _numpy(sum_N) for name, sum_N in self.sums.items()}, self.want if want is None else want)

    def _require_shapes(self, logits_NC: Any, base_logits_NC: Any) -> None:
        if logits_NC.ndim != 2 or len(logits_NC) != len(self.targets_N):
            raise ValueError(f"logits of {len(self.targets_N)} tokens are [N, C], and these are {tuple(logits_NC.shape)}")
        if base_logits_NC is not None and base_logits_NC.shape != logits_NC.shape:
            raise ValueError(f"the base's logits are {tuple(base_logits_NC.shape)} and the model's {tuple(logits_NC.shape)}")
        if needs_base(self.names) != (base_logits_NC is not None):
            raise ValueError("a base's logits are needed exactly where a statistic that compares with a base is wanted")

    def _given(self, logits_NC: Any) -> Tiles:
        return given(torch.as_tensor(logits_NC).detach(), convert=self.backend == "torch")

    def _thresholds(self, device: torch.device) -> torch.Tensor | None:
        if self.target_logits_N is None or not needs_target_logits(self.names):
            return None
        return self.target_logits_N.to(device, torch.float64 if self.backend == "numpy" else torch.float32)

    def _see(self, start: int, C: int) -> None:
        for first, last in self.seen:
            if start < last and first < start + C:
                raise ValueError(f"columns {start} to {start + C - 1} overlap columns {first} to {last - 1}, taken in before")
        self.seen.append((start, start + C))


def _on_triton() -> ModuleType:
    """Imported where it is used: Triton comes with the CUDA build of torch and with no other."""
    if not _has_triton():
        raise ValueError("the Triton backend needs the package triton, which is not installed: use the backend torch")
    from worker.information.vocabulary import on_triton

    return on_triton


def _has_triton() -> bool:
    from importlib.util import find_spec

    return find_spec("triton") is not None


def _norm(maximum_N: Any, sum_N: Any) -> Norm:
    return maximum_N, (torch.log2(sum_N) if isinstance(sum_N, torch.Tensor) else np.log2(sum_N))


def _numpy(array: Any) -> np.ndarray:
    if not isinstance(array, torch.Tensor):
        return np.asarray(array)
    return array.cpu().numpy()


def _like(part: Sums, other: Sums) -> Sums:
    """A part's sums as the other's arrays are, where two backends meet."""
    like = other["m"]
    if isinstance(like, torch.Tensor):
        return {name: torch.as_tensor(sum_N, device=like.device) for name, sum_N in part.items()}
    return {name: _numpy(sum_N) for name, sum_N in part.items()}
