"""The text that is trained on, as a source: how much it says, how often it says it, and how near the held-out text is to it.

Shapes: D documents of tokens; K symbols.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from worker.information.coding import code_redundancy, huffman_lengths, normalized_compression_distance
from worker.information.estimators import coverage, empirical_entropy, entropy_from_counts
from worker.information.processes import block_entropy_rates
from worker.probes.finding import Finding, Findings, exact, jackknife, mean

LONGEST = 3  # tokens of a block
NEAREST = 64  # training documents that each held-out one is held against
COMPARED = 32  # held-out documents


def dataset(train: Sequence[Sequence[int]], train_texts: Sequence[str], held_out: Sequence[str], names: set[str]) -> Findings:
    """The named measures of the training rows' tokens; errors are by document."""
    documents = [np.asarray(tokens, dtype=np.int64) for tokens in train if len(tokens)]
    n_tokens = sum(map(len, documents))
    found: Findings = {}
    for name in names & STATISTICS.keys():
        statistic, estimator = STATISTICS[name]
        found[name] = jackknife(_of_kept(documents, statistic), len(documents), n_tokens, estimator)
    if "normalized_compression_distance" in names:
        found["normalized_compression_distance"] = leakage(train_texts, held_out)
    return found


def _of_kept(documents: list[np.ndarray], statistic: Callable[[list[np.ndarray]], float]) -> Callable[[np.ndarray], float]:
    return lambda kept: statistic([documents[i] for i in kept])


def leakage(train: Sequence[str], held_out: Sequence[str]) -> Finding:
    """Mean over held-out documents of the distance to the nearest training document: near 0 where they are copies."""
    if not held_out or not train:
        return exact(math.nan, "There are no held-out documents to hold against the training rows.", "none")
    step = max(1, len(train) // NEAREST)
    others = [text.encode() for text in train[::step][:NEAREST]]
    nearest = [
        min(normalized_compression_distance(text.encode(), other, "zlib") for other in others) for text in held_out[:COMPARED]
    ]
    return mean(np.array(nearest), f"zlib; each of {len(nearest)} held-out documents against {len(others)} training ones", 0)


def _unigrams(documents: list[np.ndarray]) -> np.ndarray:
    return np.unique(np.concatenate(documents), return_counts=True)[1]


def _pairs(documents: list[np.ndarray]) -> np.ndarray:
    """Successive tokens of one document, [pairs, 2]."""
    pairs = [np.stack([tokens[:-1], tokens[1:]], axis=1) for tokens in documents if len(tokens) > 1]
    if not pairs:
        raise ValueError("no document has two tokens")
    return np.concatenate(pairs)


def _joint_entropy(documents: list[np.ndarray]) -> float:
    return entropy_from_counts(np.unique(_pairs(documents), axis=0, return_counts=True)[1]).value


def _conditional_entropy(documents: list[np.ndarray]) -> float:
    pairs = _pairs(documents)
    joint = np.unique(pairs, axis=0, return_counts=True)[1]
    before = np.unique(pairs[:, 0], return_counts=True)[1]
    return entropy_from_counts(joint).value - entropy_from_counts(before).value


def _block_rate(documents: list[np.ndarray]) -> float:
    return float(block_entropy_rates([tokens for tokens in documents if len(tokens) >= LONGEST], LONGEST)[-1])


def _redundancy(documents: list[np.ndarray]) -> float:
    counts = _unigrams(documents)
    share = counts / counts.sum()
    return code_redundancy(share, huffman_lengths(share))


STATISTICS: dict[str, tuple[Callable[[list[np.ndarray]], float], str]] = {
    "empirical_entropy": (lambda of: empirical_entropy(_unigrams(of)), "of tokens; plug-in, too low where tokens are rare"),
    "entropy_from_counts": (lambda of: entropy_from_counts(_unigrams(of)).value, "of tokens; Chao–Wang–Jost"),
    "sample_coverage": (lambda of: coverage(_unigrams(of)), "of tokens; Good–Turing"),
    "joint_entropy": (_joint_entropy, "of pairs of successive tokens; Chao–Wang–Jost"),
    "conditional_entropy": (_conditional_entropy, "of a token given the one before; Chao–Wang–Jost"),
    "block_entropy_rates": (_block_rate, f"H_{LONGEST} − H_{LONGEST - 1} of tokens; plug-in, far too low on little text"),
    "code_redundancy": (_redundancy, "of a Huffman code of single tokens"),
}
