"""What the tokens' own values say beyond their sums: quantiles of the entropy, and how surprise comes and goes.

Shapes: N scored tokens, of which token n is of document document_N[n]; D documents.
"""

from collections.abc import Callable

import numpy as np

from worker.information.hidden_markov import fitted_chain, hidden_markov_rate_bounds
from worker.probes.finding import Finding, Findings, exact, jackknife

QUANTILES = {"entropy_p10": 0.1, "entropy_p50": 0.5, "entropy_p90": 0.9}
CLASSES = (1.0, 4.0)  # bits: below 1 expected, up to 4 likely, above surprising
STATES, LONGEST, GROUPS = 2, 8, 10


def entropy_quantiles(entropy_N: np.ndarray, document_N: np.ndarray, names: set[str]) -> Findings:
    """Of the tokens' entropies, all documents together. nan where a model diverged."""
    by_document = _split(entropy_N, document_N)

    def quantile(share: float) -> Finding:
        def of(kept: np.ndarray) -> float:
            return float(np.quantile(np.concatenate([by_document[i] for i in kept]), share))

        return jackknife(of, len(by_document), len(entropy_N), f"quantile {share:g} of the tokens")

    return {name: quantile(share) for name, share in QUANTILES.items() if name in names}


def surprisal_chain(nll_N: np.ndarray, document_N: np.ndarray) -> Findings:
    """Bounds of the entropy rate of a hidden Markov chain of two states that gives the tokens' classes of surprise.

    Two rates of equal classes and unlike bounds are a text with phases: stretches that the model knows, and others.
    """
    estimator = (
        f"expectation-maximisation, {STATES} states, surprise below {CLASSES[0]:g}, up to {CLASSES[1]:g}, and above, in bits"
    )
    if not np.isfinite(nll_N).all():
        why = "Some losses are not finite, as happens when a model has diverged."
        return {f"hidden_markov_rate_bounds:{side}": exact(np.nan, why, estimator) for side in ("lower", "upper")}
    by_document = _split(np.digitize(nll_N, CLASSES), document_N)

    def bound(side: str) -> Callable[[np.ndarray], float]:
        def of(kept: np.ndarray) -> float:
            model = fitted_chain([by_document[i] for i in kept], STATES, len(CLASSES) + 1)
            bounds = hidden_markov_rate_bounds(model.transitions_SS, model.emissions_SY, LONGEST)
            return max(0.0, float((bounds.lower_N if side == "lower" else bounds.upper_N)[-1]))

        return of

    return {
        f"hidden_markov_rate_bounds:{side}": jackknife(bound(side), len(by_document), len(nll_N), estimator, GROUPS)
        for side in ("lower", "upper")
    }


def _split(values_N: np.ndarray, document_N: np.ndarray) -> list[np.ndarray]:
    """The values of each document that has any, in the order of the documents."""
    return [values_N[document_N == document] for document in np.unique(document_N)]
