"""What the rows of a data set are like: how long, how much of them is trained, how often they repeat, what of them is held out.

Shapes: R rows. Texts are those of the rows themselves, without what a template puts around them.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from worker.information.coding import conditional_kolmogorov_upper_bound, kolmogorov_upper_bound
from worker.information.estimators import coverage
from worker.information.intervals import ratio
from worker.probes.finding import Findings, exact, mean, of_estimate

N = 5  # words of an n-gram
NEARLY = 0.8  # of a row's n-grams in one other row
COMPRESSED = 512  # rows that are held against their nearest by deflate
KNOWN_OF_ONE = 16  # rows that are remembered of each n-gram: one that stands in more tells little
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
WHY = "Nothing was sampled: these are all the rows."


@dataclass(frozen=True)
class Likeness:
    """A row, the other one that it is most like, the share of its n-grams that stand there, and what deflate saves by it."""

    row: int
    other: int
    shared: float
    saved: float


def lengths(tokens_R: Sequence[int], cutoff_len: int) -> Findings:
    """Of the rows before anything is cut."""
    length_R = np.asarray(tokens_R, dtype=np.float64)
    total = int(length_R.sum())
    found = {"row_length:mean": mean(length_R, "mean over rows", total)}
    for name, share in QUANTILES.items():
        found[f"row_length:{name}"] = exact(float(np.quantile(length_R, share)), WHY, "of all rows", len(length_R), total)
    found["row_length:max"] = exact(float(length_R.max()), WHY, "of all rows", len(length_R), total)
    found["overlong_share"] = mean((length_R > cutoff_len).astype(float), f"longer than {cutoff_len} tokens", total)
    return found


def trained(trained_R: Sequence[int], tokens_R: Sequence[int]) -> Findings:
    """Of the rows as they are trained on."""
    return {"trained_share": of_estimate(ratio(np.asarray(trained_R), np.asarray(tokens_R)), "ratio of sums over rows")}


def pair_coverage(documents: Sequence[Sequence[int]]) -> Findings:
    """Of pairs of successive tokens of one row."""
    pairs = Counter(pair for tokens in documents for pair in pairwise(tokens))
    n_tokens = sum(map(len, documents))
    if not pairs:
        return {"pair_coverage": exact(np.nan, "No row has two tokens.", "none")}
    value = coverage(np.fromiter(pairs.values(), dtype=np.int64))
    return {"pair_coverage": exact(value, WHY, "of pairs of tokens; Good–Turing", len(documents), n_tokens)}


def duplication(texts: Sequence[str], seed: int) -> tuple[Findings, list[Likeness]]:
    """How much of the rows stands in others, and the rows that are most like an earlier one, those first."""
    first: dict[str, int] = {}
    same_R = np.array([first.setdefault(text, row) != row for row, text in enumerate(texts)])
    earlier = list(_nearest_earlier(texts))
    near_R = np.array([near is not None and near[1] >= NEARLY for near in earlier]) | same_R
    index = _Index()
    for row, text in enumerate(texts):
        index.add(row, text)
    saved_S = np.array([_saved(texts[row], texts, index.nearest(texts[row], row)) for row in _some(len(texts), seed)])
    found = {
        "duplicate_share": exact(float(same_R.mean()), WHY, "of all rows", len(texts)),
        "near_duplicate_share": exact(float(near_R.mean()), WHY, f"at least {NEARLY:g} of a row's n-grams", len(texts)),
        "redundant_share": mean(saved_S, f"deflate, of {len(saved_S)} rows given their nearest", 0),
    }
    return found, _worst(texts, texts, earlier)


def leakage(train: Sequence[str], held_out: Sequence[str], seed: int) -> tuple[Findings, list[Likeness]]:
    """How much of what is held out stands in the rows that are trained on, and the rows of which the most does."""
    if not held_out:
        why = "Nothing is held out of these rows, and no other data set was named."
        return {name: exact(np.nan, why, "none") for name in ("leaked_share", "leaked_bits_share")}, []
    index = _Index()
    for row, text in enumerate(train):
        index.add(row, text)
    nearest = [index.nearest(text) for text in held_out]
    leaked_R = np.array([near is not None and near[1] >= NEARLY for near in nearest], dtype=np.float64)
    saved_S = np.array([_saved(held_out[row], train, nearest[row]) for row in _some(len(held_out), seed)])
    found = {
        "leaked_share": mean(leaked_R, f"at least {NEARLY:g} of a row's n-grams in one training row", 0),
        "leaked_bits_share": mean(saved_S, f"deflate, of {len(saved_S)} held-out rows given their nearest training row", 0),
    }
    return found, _worst(held_out, train, nearest)


# -- which row is nearest -----------------------------------------------------------------------------------------------

Near = tuple[int, float]  # a row, and the share of n-grams that stand in it


class _Index:
    """Which rows have an n-gram."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, ...], list[int]] = defaultdict(list)

    def add(self, row: int, text: str) -> None:
        for gram in n_grams(text):
            if len(rows := self._rows[gram]) < KNOWN_OF_ONE:
                rows.append(row)

    def nearest(self, text: str, but: int | None = None) -> Near | None:
        """The earliest of those that share the most of its n-grams; None where none shares any."""
        grams = n_grams(text)
        shared = Counter(row for gram in grams for row in self._rows.get(gram, ()) if row != but)
        if not shared:
            return None
        row, count = max(shared.items(), key=lambda item: (item[1], -item[0]))
        return row, count / len(grams)


def n_grams(text: str) -> set[tuple[str, ...]]:
    """Of words; of a text with fewer than N, that one."""
    words = text.split()
    if not words:
        return set()
    return {tuple(words[at : at + N]) for at in range(max(1, len(words) - N + 1))}


def _nearest_earlier(texts: Sequence[str]) -> Iterator[Near | None]:
    index = _Index()
    for row, text in enumerate(texts):
        yield index.nearest(text)
        index.add(row, text)


def _saved(text: str, others: Sequence[str], near: Near | None) -> float:
    """Of the bits that deflate needs, the share that it does not need once it knows the nearest row."""
    if near is None or not text:
        return 0.0
    alone = kolmogorov_upper_bound(text.encode())
    return 1 - conditional_kolmogorov_upper_bound(text.encode(), others[near[0]].encode()) / alone


def _some(n: int, seed: int) -> Iterable[int]:
    if n <= COMPRESSED:
        return range(n)
    return np.sort(np.random.default_rng(seed).choice(n, COMPRESSED, replace=False)).tolist()


def _worst(texts: Sequence[str], others: Sequence[str], nearest: Sequence[Near | None], most: int = 10) -> list[Likeness]:
    """Those of which at least half stands in another row."""
    known = [(near[1], row, near) for row, near in enumerate(nearest) if near is not None and near[1] >= 0.5]
    worst = sorted(known, key=lambda one: (-one[0], one[1]))[:most]
    return [Likeness(row, near[0], shared, _saved(texts[row], others, near)) for shared, row, near in worst]
