"""How the entropies and the directions of one pass are spread: what a picture shows of it beyond the sums.

Shapes: N scored tokens, W the width of their hidden states, R the rank of an adapter.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from worker.probes.adapter import singular_values
from worker.probes.token import Model, Pass

BINS = 32  # of the entropy, from 0 to lg V
DIRECTIONS = 64  # of the covariance, at most: those of most variance
LEAST = 1e-12  # of the variance: what is below is rounding
MOST_STATES = 4096  # the covariance is taken of; evenly from the whole text


@dataclass(frozen=True)
class Spread:
    """Lists, ready for JSON."""

    most_entropy: float  # lg V, bits
    entropy_counts: list[int]  # of tokens, in BINS equal parts of 0 to lg V
    variances: list[float]  # the shares of the directions of the final hidden states, largest first
    adapter: list[float] | None  # each adapted layer's singular values over their sum, the mean over layers; None: no adapter

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def spread(model: Model, one: Pass) -> Spread:
    """Of a pass of `model`; a token whose entropy is not finite is in no bin."""
    entropy_N, most = one.statistics.entropy, math.log2(one.head.size)
    counts = np.histogram(entropy_N[np.isfinite(entropy_N)], bins=BINS, range=(0.0, most))[0]
    return Spread(most, counts.tolist(), _variances(one.hidden_ND), _adapter(model))


@torch.no_grad()
def _variances(hidden_NW: torch.Tensor) -> list[float]:
    """Eigenvalues of the covariance over their sum; none where the states are not finite or all alike."""
    step = -(-len(hidden_NW) // MOST_STATES) or 1
    x_NW = hidden_NW[::step].double()
    if len(x_NW) < 2 or not bool(x_NW.isfinite().all()):
        return []
    variances_W = torch.linalg.svdvals(x_NW - x_NW.mean(0)).square()
    total = float(variances_W.sum())
    return [share for share in (variances_W[:DIRECTIONS] / total).tolist() if share > LEAST] if total > 0 else []


def _adapter(model: Model) -> list[float] | None:
    """None, too, for an adapter that does nothing yet; layers of a lower rank than the highest end in zeros."""
    shares = [sigma_R / sigma_R.sum() for sigma_R in singular_values(model) if np.isfinite(sigma_R).all() and sigma_R.any()]
    if not shares:
        return None
    R = max(map(len, shares))
    mean_R: np.ndarray = np.mean([np.pad(share_R, (0, R - len(share_R))) for share_R in shares], axis=0)
    return mean_R.tolist()
