"""Answers to one prompt, better and worse, as tokens: what preference training learns from.

The prompt is the conversation but for its last response, earlier turns and all. Prompt and either answer stay within cutoff_len.
"""

from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedTokenizerBase

from service.library.formats import Conversation, Labelled, Pair
from worker.data.encoding import Encoded
from worker.data.tokenize import MASKED, Example, budget
from worker.data.turns import AnyTemplate, encode_turns


@dataclass(frozen=True, slots=True)
class PairExample:
    """Two answers to the same prompt tokens, which are masked in both."""

    chosen: Example
    rejected: Example

    @property
    def truncated(self) -> bool:
        return self.chosen.truncated or self.rejected.truncated

    @property
    def input_ids(self) -> list[int]:
        """The chosen text's and then the rejected one's."""
        return [*self.chosen.input_ids, *self.rejected.input_ids]

    @property
    def labels(self) -> list[int]:
        return [*self.chosen.labels, *self.rejected.labels]

    @property
    def longer(self) -> int:
        """Tokens of the longer of its two texts, which is what is cut."""
        return max(len(self.chosen.input_ids), len(self.rejected.input_ids))

    @property
    def prompt_once(self) -> list[int]:
        """The chosen text, and behind it the rejected answer alone."""
        return [*self.chosen.input_ids, *(token for token in self.rejected.labels if token != MASKED)]


@dataclass(frozen=True, slots=True)
class KtoExample:
    """An answer, and whether it is one to learn."""

    answer: Example
    desirable: bool

    @property
    def truncated(self) -> bool:
        return self.answer.truncated

    @property
    def input_ids(self) -> list[int]:
        return self.answer.input_ids

    @property
    def labels(self) -> list[int]:
        return self.answer.labels


def encode_pair(
    pair: Pair,
    template: AnyTemplate,
    tokenizer: PreTrainedTokenizerBase,
    cutoff_len: int,
    reserved_label_len: int,
    overlength: Literal["truncate", "drop"] = "truncate",
) -> PairExample | None:
    """The longer answer decides how much of the prompt both keep, by `budget`.

    None, too, where what is left of both is the same: nothing could be learned from it.
    """
    better, worse = (_encode(conversation, template, tokenizer) for conversation in (pair.chosen, pair.rejected))
    longest = max(len(better.answer), len(worse.answer))
    prompt_len, answer_len = budget(len(better.prompt), longest, cutoff_len, reserved_label_len)
    example = PairExample(better.cut(prompt_len, answer_len), worse.cut(prompt_len, answer_len))
    if example.chosen.input_ids == example.rejected.input_ids or (example.truncated and overlength == "drop"):
        return None
    return example


def encode_kto(
    labelled: Labelled,
    template: AnyTemplate,
    tokenizer: PreTrainedTokenizerBase,
    cutoff_len: int,
    reserved_label_len: int,
    overlength: Literal["truncate", "drop"] = "truncate",
) -> KtoExample | None:
    """The answer that was judged is the conversation's last."""
    encoded = _encode(labelled.conversation, template, tokenizer)
    kept = budget(len(encoded.prompt), len(encoded.answer), cutoff_len, reserved_label_len)
    example = encoded.cut(*kept)
    return None if example.truncated and overlength == "drop" else KtoExample(example, labelled.desirable)


@dataclass(frozen=True)
class _Answered:
    prompt: list[int]
    answer: list[int]  # with its end
    target: Encoded  # the answer, where its tokens stand in the text

    def cut(self, prompt_len: int, answer_len: int) -> Example:
        prompt, answer = self.prompt[:prompt_len], self.answer[:answer_len]
        truncated = len(prompt) < len(self.prompt) or len(answer) < len(self.answer)
        n_bytes = self.target.n_bytes(len(answer)) - (0 if prompt else self.target.n_bytes(1))  # the first token of all has none
        n_words = self.target.n_words(len(answer))
        return Example([*prompt, *answer], [*[MASKED] * len(prompt), *answer], n_bytes, truncated=truncated, n_words=n_words)


def _encode(conversation: Conversation, template: AnyTemplate, tokenizer: PreTrainedTokenizerBase) -> _Answered:
    *earlier, (source, target) = encode_turns(conversation, template, tokenizer).turns
    before = [token for asked, answered in earlier for token in (*asked.ids, *answered.ids)]
    return _Answered([*before, *source.ids], target.ids, target)
