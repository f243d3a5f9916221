"""Whether two models read the same tokens, as far as their folders tell without the library that reads them.

tokenizer.json is that of the tokenizers library: `model.vocab` is an object of ids by token, or for Unigram a list of [token,
score] in the order of the ids; `added_tokens` are further ones, {"id": ..., "content": ...}.
"""

import json
from functools import lru_cache
from pathlib import Path

from service.library.models import Model

FILE = "tokenizer.json"


def why_not_the_same(model: Model, other: Model) -> str | None:
    """A sentence where a token of the model is another one, or none, in `other`; which may have more. None where that is unknown.

    Tokens that were added are held against each other only where both files have them: a template adds its own, to either.
    """
    own, theirs = _tokens_of(model), _tokens_of(other)
    if own is None or theirs is None:
        return None
    different = [
        token for token, index in own.vocabulary.items() if theirs.vocabulary.get(token, theirs.added.get(token)) != index
    ]
    different += [token for token, index in own.added.items() if theirs.added.get(token, index) != index]
    if not different:
        return None
    count = "1 token differs" if len(different) == 1 else f"{len(different)} tokens differ"
    which = f"{count}, such as {different[0]!r}"
    return f"{other.name!r} has another tokenizer than {model.name!r} ({which}): the two models would read different texts."


class _Tokens:
    """Ids by token, those of the vocabulary and those that were added."""

    def __init__(self, vocabulary: dict[str, int], added: dict[str, int]):
        self.vocabulary = vocabulary
        self.added = added


def _tokens_of(model: Model) -> _Tokens | None:
    path = model.folder / FILE
    try:
        stat = path.stat()
        return _read(path, stat.st_mtime_ns, stat.st_size)
    except OSError:
        return None


@lru_cache(maxsize=8)
def _read(path: Path, mtime_ns: int, size: int) -> _Tokens | None:
    """Time and size are for the cache: a file that changed is read again. None where it is not as the library writes it."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        vocabulary = document["model"]["vocab"]
        if isinstance(vocabulary, list):
            vocabulary = {token: index for index, (token, _) in enumerate(vocabulary)}
        added = {str(token["content"]): int(token["id"]) for token in document.get("added_tokens") or ()}
        return _Tokens({str(token): int(index) for token, index in vocabulary.items()}, added)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
