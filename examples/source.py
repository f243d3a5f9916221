"""A text source whose entropy rate is known exactly: a Markov chain over 48 English words.

    python examples/source.py --rate
    python examples/source.py --texts 400 --words 240 --seed 1 > examples/data/markov.txt

Whatever learns this text can approach `entropy_rate()` and cannot go below it, except by luck or by having seen the very lines;
so the source is a ruler for every cross-entropy that the service reports. A text begins with a word drawn from the stationary
distribution, so that each of its words is distributed alike. Standard library only.

Cover & Thomas, Elements of Information Theory, §4.2.
"""

import argparse
import random
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from math import inf, log2

# What may follow each word, and how often out of 16.
SUCCESSORS = {
    "the": {"old": 6, "child": 4, "river": 3, "garden": 2, "moon": 1},
    "a": {"small": 7, "bird": 4, "boat": 3, "fox": 1, "young": 1},
    "every": {"sailor": 8, "farmer": 4, "teacher": 2, "tree": 2},
    "one": {"quiet": 5, "dog": 5, "house": 3, "cat": 2, "wild": 1},
    "old": {"sailor": 7, "house": 4, "teacher": 3, "tree": 1, "dog": 1},
    "small": {"garden": 6, "boat": 4, "bird": 3, "house": 2, "green": 1},
    "quiet": {"river": 8, "garden": 4, "moon": 2, "cat": 2},
    "bright": {"moon": 10, "boat": 4, "bird": 2},
    "green": {"tree": 9, "garden": 4, "boat": 2, "river": 1},
    "wild": {"fox": 8, "bird": 5, "river": 2, "cat": 1},
    "brave": {"sailor": 6, "child": 4, "farmer": 3, "fox": 2, "dog": 1},
    "young": {"farmer": 5, "teacher": 4, "child": 3, "sailor": 2, "tree": 1, "cat": 1},
    "dog": {"runs": 6, "follows": 5, "sleeps": 3, "and": 2},
    "cat": {"sleeps": 8, "waits": 4, "sees": 3, "near": 1},
    "fox": {"runs": 7, "finds": 4, "under": 3, "waits": 1, "sees": 1},
    "bird": {"sings": 9, "over": 4, "sees": 2, "softly": 1},
    "child": {"paints": 5, "sings": 4, "finds": 3, "runs": 2, "follows": 1, "often": 1},
    "farmer": {"waits": 6, "sees": 5, "often": 3, "paints": 2},
    "sailor": {"sings": 6, "follows": 4, "waits": 3, "sleeps": 2, "beside": 1},
    "teacher": {"paints": 7, "finds": 5, "and": 2, "often": 2},
    "river": {"runs": 8, "under": 4, "and": 2, "near": 1, "slowly": 1},
    "garden": {"near": 6, "and": 4, "beside": 3, "today": 2, "while": 1},
    "boat": {"waits": 7, "beside": 5, "near": 2, "slowly": 2},
    "house": {"beside": 7, "near": 4, "under": 3, "while": 1, "today": 1},
    "tree": {"over": 6, "beside": 4, "because": 3, "and": 3},
    "moon": {"over": 7, "sleeps": 4, "and": 3, "while": 2},
    "sees": {"the": 6, "a": 5, "one": 3, "every": 2},
    "finds": {"a": 8, "the": 5, "one": 3},
    "follows": {"the": 7, "every": 4, "a": 3, "one": 1, "slowly": 1},
    "paints": {"every": 6, "the": 5, "a": 4, "again": 1},
    "sings": {"softly": 6, "and": 4, "today": 3, "near": 2, "because": 1},
    "runs": {"over": 5, "under": 4, "slowly": 3, "and": 2, "again": 1, "then": 1},
    "sleeps": {"under": 6, "softly": 4, "because": 3, "while": 2, "near": 1},
    "waits": {"beside": 6, "today": 5, "again": 3, "but": 2},
    "near": {"the": 9, "a": 4, "one": 2, "every": 1},
    "under": {"the": 6, "one": 5, "a": 3, "every": 1, "bright": 1},
    "beside": {"a": 8, "the": 4, "every": 3, "brave": 1},
    "over": {"the": 5, "every": 5, "a": 4, "green": 1, "bright": 1},
    "slowly": {"and": 6, "but": 4, "then": 3, "near": 2, "while": 1},
    "often": {"sleeps": 5, "sings": 4, "sees": 3, "paints": 2, "waits": 1, "runs": 1},
    "today": {"because": 7, "and": 4, "but": 3, "while": 2},
    "again": {"then": 8, "and": 4, "because": 2, "but": 2},
    "softly": {"while": 8, "and": 4, "then": 2, "under": 1, "today": 1},
    "and": {"a": 5, "the": 4, "one": 3, "young": 2, "every": 1, "brave": 1},
    "while": {"the": 7, "every": 4, "wild": 3, "a": 2},
    "because": {"the": 6, "one": 4, "brave": 3, "a": 2, "young": 1},
    "but": {"the": 5, "a": 5, "every": 3, "wild": 2, "quiet": 1},
    "then": {"the": 8, "a": 5, "bright": 2, "old": 1},
}


@dataclass(frozen=True, eq=False)
class Chain:
    """`transitions[word][successor]` is P(successor | word); a successor that is not listed has probability zero."""

    words: tuple[str, ...]
    transitions: dict[str, dict[str, float]]


def from_counts(counts: dict[str, dict[str, int]]) -> Chain:
    return Chain(tuple(counts), {word: normalised(row) for word, row in counts.items()})


def normalised(row: dict[str, int]) -> dict[str, float]:
    total = sum(row.values())
    return {word: count / total for word, count in row.items()}


SOURCE = from_counts(SUCCESSORS)


@cache
def stationary(chain: Chain = SOURCE) -> dict[str, float]:
    """π with πP = π, by power iteration until no more than 1e-14 moves; unique where the chain is irreducible and aperiodic."""
    p = dict.fromkeys(chain.words, 1 / len(chain.words))
    for _ in range(100_000):
        before, p = p, after_one_step(p, chain)
        if sum(abs(p[word] - before[word]) for word in chain.words) < 1e-14:
            return p
    raise ValueError("power iteration does not settle: the chain is periodic, or close to it")


def after_one_step(p: dict[str, float], chain: Chain) -> dict[str, float]:
    after = dict.fromkeys(chain.words, 0.0)
    for word, row in chain.transitions.items():
        for successor, probability in row.items():
            after[successor] += p[word] * probability
    return after


def entropy_rate(chain: Chain = SOURCE) -> float:
    """h = Σ_i π_i H(P_i), bits per word."""
    return sum(share * entropy(chain.transitions[word]) for word, share in stationary(chain).items())


def first_word_entropy(chain: Chain = SOURCE) -> float:
    """H(π), bits: what the first word of a text costs, when no word before it helps."""
    return entropy(stationary(chain))


def entropy(p: dict[str, float]) -> float:
    """H = −Σ p lg p, bits; 0 lg 0 = 0."""
    return -sum(x * log2(x) for x in p.values() if x > 0)


def entropy_of_text(n_words: int, chain: Chain = SOURCE) -> float:
    """H(X_1 ... X_n) = H(π) + (n − 1) h, bits: the chain rule, with all but the word before forgotten."""
    return first_word_entropy(chain) + (n_words - 1) * entropy_rate(chain)


def bits(text: str, chain: Chain = SOURCE) -> float:
    """−lg P(text), bits: the length of its ideal code, exactly; infinite where the source cannot say it."""
    words = text.split()
    first = stationary(chain).get(words[0], 0.0)
    steps = (chain.transitions.get(word, {}).get(successor, 0.0) for word, successor in pairwise(words))
    return code_length(first) + sum(map(code_length, steps))


def code_length(p: float) -> float:
    return -log2(p) if p > 0 else inf


def sample(n_words: int, rng: random.Random, chain: Chain = SOURCE) -> str:
    words = [draw(stationary(chain), rng)]
    while len(words) < n_words:
        words.append(draw(chain.transitions[words[-1]], rng))
    return " ".join(words)


def draw(p: dict[str, float], rng: random.Random) -> str:
    return rng.choices(list(p), weights=list(p.values()))[0]


def main() -> None:
    parser = argparse.ArgumentParser(description="Sample texts from the source, one a line, or print its entropy rate.")
    parser.add_argument("--rate", action="store_true", help="print the entropy rate in bits per word, and nothing else")
    parser.add_argument("--texts", type=int, default=400)
    parser.add_argument("--words", type=int, default=240, help="words in each text")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    if asked.rate:
        print(f"{entropy_rate():.6f}")
        return
    rng = random.Random(asked.seed)
    for _ in range(asked.texts):
        print(sample(asked.words, rng))


if __name__ == "__main__":
    main()
