"""What the hidden states of three layers spread over, and what they say of the next token.

Shapes: N predicting states (those that a scored token is predicted from) of D documents, W their width, K directions.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from worker.information.bottleneck import relevance_lower_bound
from worker.information.continuous import gaussian_entropy, gaussian_multi_information
from worker.information.geometry import twonn_dimension
from worker.information.intervals import Estimate
from worker.information.quantum import quantum_relative_entropy
from worker.information.samples import sample_covariance, shrunk_covariance
from worker.information.vocabulary.head import Head
from worker.information.vocabulary.tokens import token_statistics
from worker.probes.finding import Finding, Findings, exact, jackknife, of_estimate
from worker.probes.token import Document, Model, evaluating, first_documents, hf_model_of, transformer_of

MOST_TOKENS = 2048  # of the documents whose states are kept
GROUPS = 10
MIXED = 1e-6  # how much of the maximally mixed state is added before a relative entropy, which is infinite on a kernel
SPECTRAL = ("effective_rank", "spectral_participation_ratio", "von_neumann_entropy")


@dataclass(frozen=True, eq=False)
class States:
    """By layer, counted from 1; `document_N` is the place of each state's document."""

    by_layer: dict[int, torch.Tensor]  # [N, W], where the model is
    document_N: np.ndarray
    targets_N: torch.Tensor

    @property
    def D(self) -> int:
        return int(self.document_N.max()) + 1 if len(self.document_N) else 0


def layers_of(model: Model) -> list[int]:
    """A quarter, half and all of the way up; fewer where the model has fewer."""
    L = hf_model_of(model).config.get_text_config().num_hidden_layers
    return sorted({math.ceil(L / 4), math.ceil(L / 2), L})


@torch.no_grad()
def states(model: Model, windows: list[Document], document_of: list[int]) -> States:
    """A forward pass of the first windows, one after another; `document_of` says of which document each is.

    No layers of a model that does not give its states: it is measured all the same, without them.
    """
    first = first_documents(windows, MOST_TOKENS)
    kept = [window for window in first if window.scored]
    places = [place for window, place in zip(first, document_of[: len(first)], strict=True) if window.scored]
    layers, device = layers_of(model), next(model.parameters()).device
    parts: dict[int, list[torch.Tensor]] = {layer: [] for layer in layers}
    with evaluating(model):
        for document in kept:
            ids_1T = torch.tensor([document.input_ids], device=device)
            output = transformer_of(model)(input_ids=ids_1T, use_cache=False, output_hidden_states=True, return_dict=True)
            given = getattr(output, "hidden_states", None) or ()
            before = torch.tensor(document.scored, device=device) - 1
            parts = {layer: found for layer, found in parts.items() if layer < len(given)}
            for layer, found in parts.items():
                found.append(given[layer][0, before])
    W = hf_model_of(model).config.get_text_config().hidden_size
    by_layer = {layer: torch.cat(found) if found else torch.empty(0, W, device=device) for layer, found in parts.items()}
    _, numbered = np.unique(np.array(places, dtype=np.int64), return_inverse=True)
    document_N = np.repeat(numbered, [len(document.scored) for document in kept])
    targets_N = torch.tensor([document.labels[t] for document in kept for t in document.scored], dtype=torch.long)
    return States(by_layer, document_N, targets_N)


def representation(of: States, base: States | None, names: set[str], head: Head, final_norm: torch.nn.Module | None) -> Findings:
    """The named measures of each layer, as "name:layer_3"."""
    found: Findings = {}
    for layer, x_NW in of.by_layer.items():
        x_np = x_NW.double().cpu().numpy()
        place = f"layer_{layer}"
        if (why := _why_nothing_spreads(x_np)) is not None:
            found |= {f"{name}:{place}": exact(math.nan, why, "none", of.D, len(x_np)) for name in names if name in LAYERWISE}
            continue
        if names & set(SPECTRAL):
            found |= {f"{name}:{place}": f for name, f in spectral(x_NW, of.document_N).items() if name in names}
        for name in names & STATISTICS.keys():
            statistic, estimator = STATISTICS[name]
            found[f"{name}:{place}"] = _jackknifed(statistic, x_np, of.document_N, estimator)
        if "quantum_relative_entropy" in names and base is not None:
            found[f"quantum_relative_entropy:{place}"] = _from_base(x_np, base.by_layer[layer].double().cpu().numpy(), of)
        if "relevance_lower_bound" in names:
            last = layer == max(of.by_layer)
            found[f"relevance_lower_bound:{place}"] = _lens(x_NW, of, head, None if last else final_norm, last)
    return found


def _why_nothing_spreads(x_NW: np.ndarray) -> str | None:
    if len(x_NW) < 3:
        return "There are fewer than three scored tokens."
    if not np.isfinite(x_NW).all():
        return "The hidden states are not finite."
    return "The hidden states are all alike." if (x_NW == x_NW[0]).all() else None


def spectral(x_NW: torch.Tensor, document_N: np.ndarray) -> Findings:
    """Of the eigenvalues λ of the states' covariance: all three of one eigensolve, with errors by linearisation.

    λ_k = Σ_n c_nk / N, c the squared coordinates of the states in the eigenvectors: to first order in what a document adds,
    its influence on λ_k is (Σ c_nk − n λ_k)/N over its n states.
    """
    x_NW = (x_NW - x_NW.mean(dim=0)).double()
    N, W = x_NW.shape
    if N <= W:  # the Gram matrix has the same eigenvalues, and its eigenvectors are the coordinates
        values_K, vectors_NK = torch.linalg.eigh(x_NW @ x_NW.T)
        squares_NK = values_K.clamp(min=0) * vectors_NK.square()
    else:
        squares_NK = (x_NW @ torch.linalg.eigh(x_NW.T @ x_NW).eigenvectors).square()
    squares = squares_NK.cpu().numpy()
    share_K = squares.sum(axis=0) / squares.sum()
    n_D = np.bincount(document_N)
    by_document_DK = np.stack([np.bincount(document_N, weights=squares[:, k]) for k in range(squares.shape[1])], axis=1)
    influence_DK = by_document_DK / squares.sum() - n_D[:, None] / N * share_K  # of λ_k / Σλ, but for the change of Σλ
    influence_DK -= share_K * influence_DK.sum(axis=1, keepdims=True)
    lg_K = np.log2(share_K, where=share_K > 1e-12, out=np.zeros_like(share_K))
    bits, inverse = -float(share_K @ lg_K), float(share_K @ share_K) - 1 / N  # above 0: N centred states span N − 1 directions
    estimator = "eigenvalues of the covariance; linearised, clustered by document"

    def finding(value: float, slope_K: np.ndarray) -> Finding:
        return of_estimate(Estimate(value, influence_DK @ slope_K, len(n_D), N), estimator)

    participation = finding(1 / inverse, -2 * share_K / inverse**2)
    return {
        "von_neumann_entropy": finding(bits, -lg_K),
        "effective_rank": finding(2**bits, -lg_K * math.log(2) * 2**bits),
        "spectral_participation_ratio": replace(participation, estimator=f"{estimator}; corrected for {N} states"),
    }


def _jackknifed(statistic: Callable[[np.ndarray], float], x_NW: np.ndarray, document_N: np.ndarray, estimator: str) -> Finding:
    D = int(document_N.max()) + 1
    return jackknife(lambda kept: statistic(x_NW[np.isin(document_N, kept)]), D, len(x_NW), estimator, GROUPS)


def _gaussian_entropy(x_NW: np.ndarray) -> float:
    return gaussian_entropy(shrunk_covariance(x_NW)[0])


def _multi_information(x_NW: np.ndarray) -> float:
    return gaussian_multi_information(shrunk_covariance(x_NW)[0])


STATISTICS: dict[str, tuple[Callable[[np.ndarray], float], str]] = {
    "gaussian_entropy": (_gaussian_entropy, "of a Gaussian with the states' covariance, shrunk after Ledoit and Wolf"),
    "gaussian_multi_information": (_multi_information, "of a Gaussian with the states' covariance, shrunk after Ledoit and Wolf"),
    "twonn_dimension": (twonn_dimension, "two nearest neighbours of each state"),
}
LAYERWISE = {*SPECTRAL, *STATISTICS, "quantum_relative_entropy", "relevance_lower_bound"}


def _from_base(x_NW: np.ndarray, base_NW: np.ndarray, of: States) -> Finding:
    """S(ρ‖σ), ρ the checkpoint's covariance over its trace and σ the base's, each mixed with a little of the identity."""

    def statistic(kept: np.ndarray) -> float:
        rows_N = np.isin(of.document_N, kept)
        return quantum_relative_entropy(_density(x_NW[rows_N]), _density(base_NW[rows_N]))

    estimator = f"covariances over their traces, {MIXED:g} of the maximally mixed state added"
    return jackknife(statistic, of.D, len(x_NW), estimator, GROUPS)


def _density(x_NW: np.ndarray) -> np.ndarray:
    covariance_WW = sample_covariance(x_NW)
    trace, W = float(np.trace(covariance_WW)), len(covariance_WW)
    if trace <= 0:
        raise ValueError("states that do not vary have no density matrix")
    mixed: np.ndarray = (1 - MIXED) * covariance_WW / trace + MIXED / W * np.eye(W)
    return mixed


@torch.no_grad()
def _lens(x_NW: torch.Tensor, of: States, head: Head, norm: torch.nn.Module | None, last: bool) -> Finding:
    """I(T;Y) ≥ H(Y) − CE of the logit lens: the final norm and the head on the layer's states."""
    estimator = "entropy of the targets' shares, less the cross-entropy of the logit lens: a lower bound in the mean"
    if norm is None and not last:
        return exact(math.nan, "No norm is known that stands before this model's head.", estimator, of.D, len(x_NW))
    read_NW = x_NW if norm is None else norm(x_NW)
    nll_N = token_statistics(read_NW, head, of.targets_N).nll
    targets_N = of.targets_N.numpy()

    def statistic(kept: np.ndarray) -> float:
        rows_N = np.isin(of.document_N, kept)
        counts = np.unique(targets_N[rows_N], return_counts=True)[1]
        return relevance_lower_bound(counts / counts.sum(), nll_N[rows_N])

    return jackknife(statistic, of.D, len(nll_N), estimator)


def final_norm_of(model: Model) -> torch.nn.Module | None:
    """What the states of the last layer pass before the head, under the names that families give it."""
    transformer = transformer_of(model)
    for name in ("norm", "ln_f", "final_layer_norm", "final_layernorm"):
        found = getattr(transformer, name, None)
        if isinstance(found, torch.nn.Module):
            return found
    return None
