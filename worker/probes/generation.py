"""Texts that the model writes, and whether they are many, of many kinds, and its own.

Shapes: P prompts, M texts of each; errors are clustered by prompt.
"""

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.specs.generating import GeneratingArguments
from worker.information.coding import compression_ratio, kolmogorov_upper_bound
from worker.information.dynamics import distinct_words, topological_entropy, transition_graph, word_growth
from worker.information.estimators import entropy_from_counts, entropy_rate_from_counts
from worker.information.intervals import ratio
from worker.information.renewal import renewal_entropy_rate, return_times
from worker.information.shannon import partitioned_entropy
from worker.probes.finding import Finding, Findings, exact, jackknife, mean, of_estimate
from worker.probes.token import Document, DocumentSums, Model
from worker.writing.batch import Manner, room_of, seeded, write

NO_CYCLE = "No token of the generated texts ever comes again: their graph has no cycle, and its walks do not go on."


@dataclass(frozen=True)
class Generated:
    """For each prompt its texts, as the tokens after it (with what ended them) and as text."""

    prompts: list[list[int]]
    tokens: list[list[list[int]]]
    texts: list[list[str]]

    @property
    def n_tokens(self) -> int:
        return sum(len(tokens) for of_one in self.tokens for tokens in of_one)

    def documents(self) -> list[tuple[int, Document]]:
        """Each text after its prompt, to be scored; with the place of the prompt."""
        return [
            (place, Document([*prompt, *tokens], [*[-100] * len(prompt), *tokens], 0))
            for place, (prompt, of_one) in enumerate(zip(self.prompts, self.tokens, strict=True))
            for tokens in of_one
            if tokens
        ]


def generate(
    model: Model,
    tokenizer: Any,
    prompts: list[list[int]],
    settings: GeneratingArguments,
    samples: int,
    seed: int,
    ends: list[int],
) -> Generated:
    """`samples` texts of each prompt, to one of the tokens `ends` or as long as they may be.

    The seed decides them; the generators that training draws from are as they were.
    """
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else ends[0]
    manner = Manner(settings, ends, pad)  # not the model's own ends: what ends an answer is what it was trained to end with
    with seeded(seed, next(model.parameters()).device):
        tokens = [
            write(model, [prompt] * samples, [max(1, room_of(model, len(prompt), settings))] * samples, manner)
            for prompt in prompts
        ]
    texts = [[tokenizer.decode(text, skip_special_tokens=True) for text in of_one] for of_one in tokens]
    return Generated(prompts, tokens, texts)


def generation(generated: Generated, sums: DocumentSums, place_of: list[int], names: set[str]) -> Findings:
    """The named measures. `sums` are the model's own losses on what it wrote, of the texts of prompt `place_of`."""
    makers: dict[str, Callable[[], Finding]] = {
        "kolmogorov_upper_bound": lambda: _each_text(generated, lambda text: kolmogorov_upper_bound(text.encode())),
        "compression_ratio": lambda: _each_text(generated, _compression_ratio),
        "sample_entropy_rate": lambda: _own_losses(sums, place_of),
        "partitioned_entropy": lambda: _semantic_entropy(generated),
        "shannon_wiener": lambda: _over_prompts(generated, _diversity, "answers that are the same but for case, space and marks"),
        "hill_number": lambda: _over_prompts(generated, lambda of: math.exp(_diversity(of)), "as shannon_wiener, e to its power"),
        "renewal_entropy_rate": lambda: _over_prompts(generated, _renewal, "gaps between returns of any token within a text"),
        "entropy_rate_from_counts": lambda: _over_prompts(generated, _pair_rate, "Ĥ_2 − Ĥ_1 of tokens, Chao–Wang–Jost"),
        "topological_entropy": lambda: _growth_of_walks(generated),
        "word_growth": lambda: _over_prompts(generated, _word_growth, "lg of distinct pairs less lg of distinct tokens"),
    }
    return {name: make() for name, make in makers.items() if name in names}


def cluster_of(text: str) -> str:
    """What answers are the same by: the words without case, and without the marks and spaces around them."""
    return re.sub(r"[\W_]+", " ", text.casefold()).strip() or text.strip()


# -- what texts are like ------------------------------------------------------------------------------------------------


def _each_text(generated: Generated, value_of: Callable[[str], float]) -> Finding:
    """The mean of a prompt's texts, then of the prompts; a text with nothing in it has no value."""
    values_P = np.array([_mean_of([value_of(text) for text in of_one if text]) for of_one in generated.texts])
    return mean(values_P, "mean over a prompt's texts, then over prompts", generated.n_tokens)


def _mean_of(values: list[float]) -> float:
    return float(np.mean(values)) if values else math.nan


def _compression_ratio(text: str) -> float:
    return compression_ratio(text.encode())


def _own_losses(sums: DocumentSums, place_of: list[int]) -> Finding:
    """−lg p of what was sampled, bits a token: by Shannon, McMillan and Breiman the rate of the process that samples at T = 1."""
    if not place_of:
        return exact(math.nan, "Nothing was generated.", "none")
    nll_P = np.bincount(place_of, weights=np.array(sums.nll))
    estimate = ratio(nll_P, np.bincount(place_of, weights=np.array(sums.n_tokens)).astype(np.int64))
    return of_estimate(
        estimate, "ratio of sums over prompts; the rate of the model itself only at temperature 1, top_p 1, top_k 0"
    )


def _semantic_entropy(generated: Generated) -> Finding:
    """Of a prompt's texts, in clusters of the same answer; all alike 0, all unlike lg M. Farquhar et al. 2024, discrete."""
    values_P = []
    for of_one in generated.texts:
        values_P.append(partitioned_entropy(np.full(len(of_one), 1 / len(of_one)), [cluster_of(text) for text in of_one]))
    estimator = "clusters of texts that are the same but for case, space and marks, by their counts; mean over prompts"
    return mean(np.array(values_P), estimator, generated.n_tokens)


def _over_prompts(generated: Generated, statistic: Callable[[Generated], float], estimator: str) -> Finding:
    def of(kept: np.ndarray) -> float:
        parts = ([part[i] for i in kept] for part in (generated.prompts, generated.tokens, generated.texts))
        return statistic(Generated(*parts))

    return jackknife(of, len(generated.prompts), generated.n_tokens, f"{estimator}, of all prompts' texts")


def _diversity(generated: Generated) -> float:
    """H′ in nats, of all texts' clusters, with what was not seen estimated."""
    counts = Counter(cluster_of(text) for of_one in generated.texts for text in of_one)
    return entropy_from_counts(list(counts.values())).value * math.log(2)


def _renewal(generated: Generated) -> float:
    gaps = [return_times(text, symbol) for text in _texts(generated) for symbol in np.unique(text)]
    every = np.concatenate([*gaps, np.empty(0, dtype=np.int64)]).astype(np.int64)
    if not len(every):
        raise ValueError("no token comes again")
    return renewal_entropy_rate(np.bincount(every)[1:] / len(every))


def _pair_rate(generated: Generated) -> float:
    """The tokens that pairs begin with, so that a pair has one of each."""
    texts = [text for text in _texts(generated) if len(text) > 1]
    if not texts:
        raise ValueError("no text has two tokens")
    pairs = np.concatenate([np.stack([text[:-1], text[1:]], axis=1) for text in texts])
    single, double = (np.unique(symbols, axis=0, return_counts=True)[1] for symbols in (pairs[:, :1], pairs))
    return entropy_rate_from_counts([single, double]).value


def _word_growth(generated: Generated) -> float:
    return float(word_growth(distinct_words(_texts(generated), 2))[0])


def _growth_of_walks(generated: Generated) -> Finding:
    def statistic(of: Generated) -> float:
        return topological_entropy(transition_graph(_texts(of)))

    found = _over_prompts(generated, statistic, "lg of the spectral radius of the graph of successive tokens")
    if math.isfinite(found.estimate.value):
        return found
    return exact(math.nan, NO_CYCLE, found.estimator, found.n_documents, generated.n_tokens)


def _texts(generated: Generated) -> list[np.ndarray]:
    texts = [np.array(tokens) for of_one in generated.tokens for tokens in of_one if tokens]
    if not texts:
        raise ValueError("nothing was generated")
    return texts
