"""From conversations and texts to token ids with labels.

s and t are the lengths of a turn's source (prompt) and target (response) in tokens, L the room that is left. Text is
encoded without the special tokens that a tokenizer would add; BOS and EOS go where this file says.
"""

import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, TypeVar

from transformers import PreTrainedTokenizerBase

from service.library.formats import Conversation
from service.specs.reasons import Reason
from worker.data.encoding import encode
from worker.data.turns import AnyTemplate, encode_turns
from worker.failures import JobFailure

MASKED = -100  # the label of a token that is not trained: what torch's cross entropy leaves out


@dataclass(frozen=True, slots=True)
class Example:
    """Tokens, and the same tokens or MASKED as labels. `n_bytes`, `n_words` and `document` are for measuring.

    `n_bytes` counts the UTF-8 bytes of the text whose tokens are scored, each by those before it; EOS and other ends have none.
    `n_words` counts its words; the first window of a document has them all.
    Examples of one `document` are its windows, in order. `truncated`: the row was longer and was cut.
    """

    input_ids: list[int]
    labels: list[int]
    n_bytes: int = 0
    document: int = 0
    truncated: bool = False
    n_words: int = 0


@dataclass(frozen=True, slots=True)
class Coverage:
    """What became of the training rows: how many were cut or left out, and how many of their tokens are trained."""

    rows: int
    truncated: int
    dropped: int
    tokens: int
    trained_tokens: int

    def sentence(self) -> str:
        """ "trained on 41 % of 1.2M tokens, 37 rows truncated" """
        parts = [f"trained on {_percent(self.trained_tokens, self.tokens)} of {_short(self.tokens)} tokens"]
        parts += [f"{_rows(count)} {fate}" for count, fate in ((self.truncated, "truncated"), (self.dropped, "dropped")) if count]
        return ", ".join(parts)


def coverage_of(rows: int, examples: Sequence[Any]) -> Coverage:
    """Of `rows` conversations or pairs that became `examples`; those that did not were dropped."""
    return Coverage(
        rows=rows,
        truncated=sum(example.truncated for example in examples),
        dropped=rows - len(examples),
        tokens=sum(len(example.input_ids) for example in examples),
        trained_tokens=sum(label != MASKED for example in examples for label in example.labels),
    )


def encode_conversation(
    conversation: Conversation,
    template: AnyTemplate,
    tokenizer: PreTrainedTokenizerBase,
    cutoff_len: int,
    reserved_label_len: int,
    train_on_prompt: bool = False,
    overlength: Literal["truncate", "drop"] = "truncate",
) -> Example | None:
    """Never longer than cutoff_len: turns are cut by the rule of `budget`, or the whole is dropped (None).

    Every response is trained, with what ends it, but those that are not to be. A turn with no room for any of its prompt is left
    out.
    """
    written = encode_turns(conversation, template, tokenizer)
    eos: Any = tokenizer.eos_token_id
    input_ids: list[int] = []
    labels: list[int] = []
    n_bytes = n_words = 0
    truncated = False
    was_trained = True
    for (source, target), is_trained in zip(written.turns, _trained(conversation, len(written.turns)), strict=True):
        s, t = len(source.ids), len(target.ids)
        source_len, target_len = budget(s, t, cutoff_len - len(input_ids), reserved_label_len)
        truncated |= source_len < s or target_len < t
        if s and not source_len:
            break
        prompt, response = source.ids[:source_len], target.ids[:target_len]
        # whatever follows a response: a response that was cut has filled the room, so none follows it
        first = eos if input_ids and written.efficient_eos and was_trained else MASKED
        masked = [first, *[MASKED] * (len(prompt) - 1)][: len(prompt)]
        input_ids += prompt + response
        labels += (prompt if train_on_prompt else masked) + (response if is_trained else [MASKED] * len(response))
        n_bytes += (target.n_bytes(target_len) if is_trained else 0) + (source.n_bytes(source_len) if train_on_prompt else 0)
        n_words += (target.n_words(target_len) if is_trained else 0) + (source.n_words(source_len) if train_on_prompt else 0)
        was_trained = is_trained
        if len(labels) == len(prompt) + len(response) and labels[0] != MASKED:
            n_bytes -= (source if prompt else target).n_bytes(1)  # nothing comes before the first token to score it by
    if truncated and overlength == "drop":
        return None
    if not truncated:
        last = written.last[: cutoff_len - len(input_ids)]
        input_ids += last
        labels += last if train_on_prompt else [MASKED] * len(last)
    return Example(input_ids, labels, n_bytes, truncated=truncated, n_words=n_words)


def _trained(conversation: Conversation, n_turns: int) -> list[bool]:
    """Whether each turn's response is trained."""
    trained = [message.is_trained for message in conversation.messages[1::2]]
    if all(trained):
        return [True] * n_turns
    if len(trained) != n_turns:
        file, row = conversation.file, conversation.row
        sentence = f"{file}, row {row}: the chat template does not say which response is which, so a weight of 0 has no place."
        raise JobFailure(Reason.BAD_ROW, sentence, file=file, row=row)
    return trained


def budget(s: int, t: int, L: int, reserved: int) -> tuple[int, int]:
    """How many tokens source and target may keep: all where s + t ≤ L; else target max(int(L t/(s+t)), reserved), source L − it.

    This is LLaMA-Factory's rule, save that what fits is never cut and that the two never exceed L.
    """
    if s + t <= L:
        return s, t
    target = min(max(L * t // (s + t), reserved), L)
    return L - target, target


def encode_text(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens of a text as they are, with nothing added."""
    return encode(text, tokenizer).ids


def pack_blocks(texts: Iterable[list[int]], eos: int, cutoff_len: int) -> list[Example]:
    """The texts one after another, EOS after each, cut into blocks of exactly cutoff_len; what is left at the end is dropped."""
    stream = list(chain.from_iterable([*text, eos] for text in texts))
    if len(stream) < cutoff_len:
        sentence = f"The texts have {len(stream)} tokens in all, which do not fill one block of cutoff_len {cutoff_len}."
        raise JobFailure(Reason.BAD_DATA, sentence)
    starts = range(0, len(stream) - cutoff_len + 1, cutoff_len)
    blocks = (stream[start : start + cutoff_len] for start in starts)
    return [Example(block, block) for block in blocks]


def encode_document(text: str, tokenizer: PreTrainedTokenizerBase, cutoff_len: int, document: int) -> list[Example]:
    """A text to be measured, in windows of at most cutoff_len: every token is scored exactly once.

    The text stands behind EOS, which is not scored: the first token needs one before it, and EOS is what stands before every
    text in the training blocks. A later window begins with the token before those that it scores, and the last one as far back as
    there is room: lm-evaluation-harness's rolling windows, of its max_length cutoff_len − 1.
    """
    encoded = encode(text, tokenizer)
    ids: list[Any] = [tokenizer.eos_token_id, *encoded.ids]
    windows: list[Example] = []
    for start in range(1, len(ids), cutoff_len - 1):
        end = min(start + cutoff_len - 1, len(ids))
        context = max(0, end - cutoff_len) if windows else 0
        labels = [*[MASKED] * (start - context), *ids[start:end]]
        n_bytes = encoded.n_bytes(end - 1) - encoded.n_bytes(start - 1)
        n_words = 0 if windows else encoded.n_words(len(encoded.ids))
        windows.append(Example(ids[context:end], labels, n_bytes, document, n_words=n_words))
    return windows


Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_processes(function: Callable[[Item], Result], items: Sequence[Item], processes: int | None) -> list[Result]:
    """[function(item) for item in items], by that many processes; the same results in the same order, and the same failures."""
    processes = min(processes or 1, len(items))
    if processes <= 1:
        return [function(item) for item in items]
    # forked, so that the function (and the tokenizer in it) and the items are inherited, not sent
    context = multiprocessing.get_context("fork")
    size = -(-len(items) // (processes * 4))
    chunks = [range(start, min(start + size, len(items))) for start in range(0, len(items), size)]
    try:
        with ProcessPoolExecutor(processes, context, initializer=_inherit, initargs=(function, items)) as pool:
            return list(chain.from_iterable(pool.map(_run_chunk, chunks)))
    except BrokenProcessPool:
        raise JobFailure(Reason.KILLED, "A process that tokenised the data was killed; memory may have run out.") from None


_inherited: tuple[Callable[[Any], Any], Sequence[Any]]


def _inherit(function: Callable[[Any], Any], items: Sequence[Any]) -> None:
    global _inherited
    _inherited = function, items


def _run_chunk(indices: range) -> list[Any]:
    function, items = _inherited
    return [function(items[index]) for index in indices]


def _percent(part: int, whole: int) -> str:
    """Rounded, but never up to all or down to none."""
    if part in (0, whole):
        return "100 %" if part else "0 %"
    return f"{min(max(round(100 * part / whole), 1), 99)} %"


def _short(count: int) -> str:
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return str(count)


def _rows(count: int) -> str:
    return f"{count} row" if count == 1 else f"{count} rows"
