"""Where the heads look.

Shapes: H heads, T positions of one document.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from worker.information.intervals import ratio
from worker.probes.finding import Findings, of_estimate
from worker.probes.representation import layers_of
from worker.probes.token import Document, Model, evaluating, first_documents, hf_model_of, transformer_of

MOST_TOKENS = 2048  # of the documents: a map has the square of a document's tokens, for each head


@torch.no_grad()
def attention_entropy(model: Model, windows: list[Document], document_of: list[int]) -> Findings:
    """Mean of H(a) over the heads and the positions that predict a scored token, for three layers."""
    kept = first_documents(windows, MOST_TOKENS)
    layers, device = layers_of(model), next(model.parameters()).device
    bits: dict[int, list[float]] = {layer: [] for layer in layers}
    with evaluating(model), eagerly(model):
        for document in kept:
            ids_1T = torch.tensor([document.input_ids], device=device)
            output = transformer_of(model)(input_ids=ids_1T, use_cache=False, output_attentions=True, return_dict=True)
            before = torch.tensor(document.scored, device=device) - 1
            for layer in layers:
                weights_HTT = output.attentions[layer - 1][0].double()
                entropy_HT = torch.special.entr(weights_HTT).sum(dim=-1) / np.log(2)
                bits[layer].append(float(entropy_HT[:, before].mean(dim=0).sum()))
    of_kept = document_of[: len(kept)]
    n_tokens = np.bincount(of_kept, weights=[len(document.scored) for document in kept]).astype(np.int64)
    estimator = "mean over heads and positions; ratio of sums over documents"
    return {
        f"attention_entropy:layer_{layer}": of_estimate(ratio(np.bincount(of_kept, weights=sums), n_tokens), estimator)
        for layer, sums in bits.items()
    }


@contextmanager
def eagerly(model: Model) -> Iterator[None]:
    """Inside it, attention makes its maps, which faster ways never hold."""
    hf_model = hf_model_of(model)
    before = hf_model.config._attn_implementation
    try:
        hf_model.set_attn_implementation("eager")
        yield
    finally:
        hf_model.set_attn_implementation(before)
