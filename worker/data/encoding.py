"""From text to tokens that know where in the text they stand.

Text is encoded without the special tokens that a tokenizer would add; BOS and EOS go where a template says.
"""

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise

from transformers import PreTrainedTokenizerBase

from worker.data.template import BOS, EOS, Mark


@dataclass(frozen=True, slots=True)
class Encoded:
    """Tokens of a text, and where each begins and ends, in characters; the text itself begins at `start`."""

    ids: list[int]
    text: str
    offsets: list[tuple[int, int]]
    start: int = 0

    def n_bytes(self, n_tokens: int) -> int:
        """The UTF-8 bytes of the text that the first n tokens cover; a character that they cut through counts whole."""
        return len(self._of_first(n_tokens).encode())

    def n_words(self, n_tokens: int) -> int:
        """The words of the same text as lm-evaluation-harness counts them: one more than there are runs of white space."""
        return len(re.split(r"\s+", self._of_first(n_tokens))) if n_tokens > 0 else 0

    def _of_first(self, n_tokens: int) -> str:
        if n_tokens <= 0:
            return ""
        return self.text if n_tokens >= len(self.ids) else self.text[: self.offsets[n_tokens - 1][1] - self.start]

    def then(self, ids: list[int]) -> "Encoded":
        """With tokens behind it that stand for no text."""
        end = self.start + len(self.text)
        return Encoded([*self.ids, *ids], self.text, [*self.offsets, *[(end, end)] * len(ids)], self.start)


def encode(text: str, tokenizer: PreTrainedTokenizerBase) -> Encoded:
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, return_attention_mask=False, verbose=False)
    return Encoded(encoding["input_ids"], text, encoding["offset_mapping"])


def encode_pieces(pieces: Sequence[str], tokenizer: PreTrainedTokenizerBase, by_marks: bool) -> Encoded:
    """Text that belongs together is encoded in one piece; BOS and EOS are tokens, as is (`by_marks`) every mark that is one.

    A tokenizer that splits special tokens is to split those that a user wrote, and not the template's own marks.
    """
    ids: list[int] = []
    offsets: list[tuple[int, int]] = []
    written: list[str] = []
    position = 0
    tokens = [_token(piece, tokenizer, by_marks) for piece in pieces]
    for token, group in groupby(zip(tokens, pieces, strict=True), key=lambda pair: pair[0]):
        same = [piece for _, piece in group]
        if token is None:
            encodings = [encode("".join(own_text(piece, tokenizer) for piece in same), tokenizer)]
        else:
            encodings = [Encoded([token], text, [(0, len(text))]) for text in map(_text_of_token, same)]
        for encoded in encodings:
            ids += encoded.ids
            offsets += [(position + start, position + stop) for start, stop in encoded.offsets]
            position += len(encoded.text)
            written.append(encoded.text)
    return Encoded(ids, "".join(written), offsets)


def encode_parts(parts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[Encoded]:
    """The parts encoded as one text, and taken apart again: a token belongs to the part in which it begins."""
    whole = encode("".join(parts), tokenizer)
    starts = [0, *accumulate(map(len, parts))]
    begins = [begin for begin, _ in whole.offsets]
    cuts = [0, *(bisect_left(begins, start) for start in starts[1:-1]), len(begins)]
    return [
        Encoded(whole.ids[cut:next_cut], part, whole.offsets[cut:next_cut], start)
        for part, start, (cut, next_cut) in zip(parts, starts[:-1], pairwise(cuts), strict=True)
    ]


def own_text(piece: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """The piece, or the tokenizer's own token that it stands for."""
    if piece == BOS and isinstance(piece, Mark):
        return str(tokenizer.bos_token or "")
    if piece == EOS and isinstance(piece, Mark):
        return str(tokenizer.eos_token)
    return piece


def _token(piece: str, tokenizer: PreTrainedTokenizerBase, by_marks: bool) -> int | None:
    """The token that a piece is, or None where it is text."""
    if not isinstance(piece, Mark):
        return None
    token: int | None
    if piece in (BOS, EOS):
        token = tokenizer.bos_token_id if piece == BOS else tokenizer.eos_token_id
    else:
        token = tokenizer.get_added_vocab().get(piece) if by_marks else None
    return token


def _text_of_token(piece: str) -> str:
    """Marks are part of a prompt's text; BOS and EOS are not."""
    return "" if piece in (BOS, EOS) else piece
