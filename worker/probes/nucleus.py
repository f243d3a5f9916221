"""How many tokens share most of the probability."""

import numpy as np
import torch

from worker.information.intervals import ratio
from worker.information.vocabulary.head import Head, full_precision_products
from worker.probes.finding import Finding, of_estimate

SHARE = 0.9
ROWS = 256  # tokens at a time: their whole vocabulary is sorted


def hartley_entropy(hidden_ND: torch.Tensor, head: Head, document_N: np.ndarray, D: int) -> Finding:
    """Mean of lg of the size of the nucleus: the fewest tokens that have 90 % together. Hartley 1928; Holtzman et al. 2020."""
    bits_N = np.log2(nucleus_sizes(hidden_ND, head))
    counts_D = np.bincount(document_N, minlength=D)
    estimate = ratio(np.bincount(document_N, weights=bits_N, minlength=D), counts_D)
    return of_estimate(estimate, f"lg of the size of the top-p nucleus, p = {SHARE}; ratio of sums over documents")


@torch.no_grad()
def nucleus_sizes(hidden_ND: torch.Tensor, head: Head) -> np.ndarray:
    """[N] how many of the likeliest tokens it takes; nan where a model diverged."""
    sizes = []
    with full_precision_products():
        for hidden_RD in hidden_ND.split(ROWS):
            p_RV = torch.softmax(head.logits(hidden_RD.to(head.weight_VD.device)), dim=-1)
            below_RV = p_RV.sort(dim=-1, descending=True).values.cumsum(dim=-1) < SHARE
            size_R = 1.0 + below_RV.sum(dim=-1)
            sizes.append(torch.where(p_RV.isfinite().all(dim=-1), size_R, torch.nan))
    return torch.cat(sizes).cpu().numpy().astype(np.float64) if sizes else np.empty(0)
