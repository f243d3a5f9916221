"""What each token of a few texts costs, in bits, for people to look at; and a name for all of the text that was measured."""

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from worker.probes.token import Document, Pass

SHOWN_TEXTS = 8
SHOWN_TOKENS = 256  # of each


def shown_texts(documents: Sequence[Document], tokenizer: PreTrainedTokenizerBase) -> list[dict[str, list[Any]]]:
    """The first tokens of the first texts, each by itself, and the positions of those that are scored."""
    return [
        {
            "tokens": [str(tokenizer.decode([token])) for token in document.input_ids[:SHOWN_TOKENS]],
            "scored": _scored(document),
        }
        for document in documents[:SHOWN_TEXTS]
    ]


def shown_bits(one: Pass) -> list[list[float | None]]:
    """−lg p of every scored token of theirs, to a thousandth of a bit; null where the model diverged."""
    first_of = np.cumsum([0, *(len(document.scored) for document in one.documents[:SHOWN_TEXTS])])
    return [
        [_rounded(bits) for bits in one.statistics.nll[first : first + len(_scored(document))].tolist()]
        for first, document in zip(first_of, one.documents[:SHOWN_TEXTS], strict=False)
    ]


def text_name(documents: Sequence[Document]) -> str:
    """SHA-256 of all tokens and of which are scored: what has the same can be paired, document by document."""
    tokens = [[document.input_ids, document.labels] for document in documents]
    return hashlib.sha256(json.dumps(tokens, separators=(",", ":")).encode()).hexdigest()


def _scored(document: Document) -> list[int]:
    return [position for position in document.scored if position < SHOWN_TOKENS]


def _rounded(bits: float) -> float | None:
    return round(bits, 3) if math.isfinite(bits) else None
