"""What answers owe to the prompts and to the system text before them, by the losses with and without."""

from collections.abc import Sequence

import numpy as np

from worker.information.intervals import ratio
from worker.probes.finding import Finding, Findings, mean, of_estimate
from worker.probes.token import Document, DocumentSums


def without_prompts(document: Document) -> Document:
    """Its scored tokens alone, after the one that the document begins with, which is not scored."""
    scored = [document.labels[t] for t in document.scored]
    return Document([document.input_ids[0], *scored], [-100, *scored], document.n_bytes)


def of_prompts(informed: DocumentSums, blind: DocumentSums, names: set[str]) -> Findings:
    """With the prompts, and without them: the same scored tokens of the same documents.

    Of a conversation of several turns the answers are each told by all that came before, or by the answers before alone: the
    sum of the differences is a sample of Massey's directed information under the model. Per token it is the usable information.
    """
    gain_D = np.subtract(blind.nll, informed.nll)
    n_tokens_D = np.array(informed.n_tokens)
    known_D = np.where(n_tokens_D > 0, gain_D, np.nan)
    estimator = "losses without the prompts less losses with them, by one model"
    found = {
        "usable_information": of_estimate(ratio(gain_D, n_tokens_D), f"{estimator}; ratio of sums over documents"),
        "model_directed_information": mean(known_D, f"{estimator}; mean over documents", int(n_tokens_D.sum())),
    }
    return {name: finding for name, finding in found.items() if name in names}


def of_systems(with_system: DocumentSums, without: DocumentSums) -> Finding:
    """I(answer; system | prompts) per token: the same answers with the system text and without."""
    gain_D = np.subtract(without.nll, with_system.nll)
    estimate = ratio(gain_D, np.array(with_system.n_tokens))
    return of_estimate(estimate, "losses without the system text less losses with it; ratio of sums over documents")


def paired(pairs: Sequence[tuple[Document, Document]]) -> tuple[list[Document], list[Document]]:
    """The pairs of which both score the same tokens: one that was cut elsewhere cannot be compared."""
    same = [(a, b) for a, b in pairs if a.scored and _scored_tokens(a) == _scored_tokens(b)]
    return [a for a, _ in same], [b for _, b in same]


def _scored_tokens(document: Document) -> list[int]:
    return [document.labels[t] for t in document.scored]
