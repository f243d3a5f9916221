"""How much the text would move the parameters that train."""

import math

import numpy as np
import torch

from worker.probes.finding import Finding, exact, mean
from worker.probes.token import Document, Model, evaluating, first_documents

MOST_TOKENS = 2048
ESTIMATOR = "trace of the empirical Fisher information of the trained parameters: squared norms of documents' own gradients"


def fisher_trace(model: Model, documents: list[Document]) -> Finding | None:
    """Mean over documents of ‖∂ ln p(document)/∂θ‖², of the text as it is, not of text sampled from the model.

    None where nothing of the model trains, as of a base behind an adapter that is switched off.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    kept = [document for document in first_documents(documents, MOST_TOKENS) if document.scored]
    if not parameters or not kept:
        return None
    norms = []
    with evaluating(model), torch.enable_grad():
        for document in kept:
            log_likelihood = _log_likelihood(model, document)
            if not log_likelihood.requires_grad:
                return None
            gradients = torch.autograd.grad(log_likelihood, parameters, allow_unused=True)
            moved = [gradient for gradient in gradients if gradient is not None]
            norms.append(float(sum(gradient.double().square().sum() for gradient in moved)))
    if not all(map(math.isfinite, norms)):
        return exact(math.nan, "Some gradients are not finite, as happens when a model has diverged.", ESTIMATOR)
    return mean(np.array(norms), ESTIMATOR, sum(len(document.scored) for document in kept))


def _log_likelihood(model: Model, document: Document) -> torch.Tensor:
    """ln p of the scored tokens, in nats."""
    device = next(model.parameters()).device
    ids_1T = torch.tensor([document.input_ids], device=device)
    logits_TV = model(input_ids=ids_1T, use_cache=False).logits[0].float()
    positions = torch.tensor(document.scored, device=device)
    targets = torch.tensor([document.labels[t] for t in document.scored], device=device)
    return torch.log_softmax(logits_TV[positions - 1], dim=-1).gather(1, targets[:, None]).sum()
