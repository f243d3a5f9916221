"""What a certificate is taken on."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from worker.data.tokenize import Example
from worker.probes.token import Document

# Where a job names no data: so many sequences of so many tokens, the same for every model with the same tokenizer.
DRAWN_DOCUMENTS, DRAWN_TOKENS, DRAWN_SEED = 16, 128, 0


@dataclass(frozen=True)
class Text:
    """Windows, and which document each is of; intervals cluster on documents. `source` says what it is, for people, and `split`
    as measures have it.
    """

    documents: list[Document]
    document_of: list[int]
    source: str
    split: str


def of_examples(examples: Sequence[Example], source: str, split: str) -> Text:
    places = {document: place for place, document in enumerate(dict.fromkeys(example.document for example in examples))}
    documents = [Document(example.input_ids, example.labels, example.n_bytes, example.n_words) for example in examples]
    return Text(documents, [places[example.document] for example in examples], source, split)


def drawn(tokenizer: PreTrainedTokenizerBase, most_tokens: int = DRAWN_TOKENS) -> Text:
    """Tokens of the vocabulary, each as likely as another, without the special ones: no language, but every row is used."""
    special = set(tokenizer.all_special_ids)
    known = sorted(index for index in tokenizer.get_vocab().values() if index not in special)
    chance = random.Random(DRAWN_SEED)
    rows = [[chance.choice(known) for _ in range(min(DRAWN_TOKENS, most_tokens))] for _ in range(DRAWN_DOCUMENTS)]
    documents = [Document(row, row, 0) for row in rows]
    source = f"{DRAWN_DOCUMENTS} sequences of tokens drawn at random with seed {DRAWN_SEED}"
    return Text(documents, list(range(len(rows))), source, "drawn")
