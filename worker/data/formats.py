"""From rows to conversations and texts, in the formats that LLaMA-Factory's data sets are written in.

A data set that names its columns has those; one that names none has the format's usual ones. As in LLaMA-Factory, a part that a
naming data set leaves out is not read, unless the format cannot do without it.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from service.specs.dataset_info import Columns
from service.specs.reasons import Reason
from worker.data.files import Row
from worker.failures import JobFailure

Role = Literal["user", "assistant", "observation", "function"]


@dataclass(frozen=True, slots=True)
class Message:
    """A `function` message is the assistant's calls as JSON text, {"name": …, "arguments": {…}} or a list of those; an
    `observation` is what came of them.
    """

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages in turns: a user's or an observation, and then the assistant's or a function call, to the end.

    `system` is None where the row gives none. `tools` is JSON text, a list of the functions that may be called.
    """

    system: str | None
    messages: tuple[Message, ...]
    file: str
    row: int
    tools: str | None = None


def conversation_of(row: Row) -> Conversation:
    """What supervised training learns from a row."""
    formatting = row.entry.formatting
    if formatting not in FORMATS:
        sentence = f"The format {formatting} is not built yet; {row.file} uses it. There are: {', '.join(FORMATS)}."
        raise JobFailure(Reason.BAD_DATA, sentence, file=row.file)
    return FORMATS[formatting](row)


def text_of(row: Row) -> str:
    """What pre-training learns from a row: its prompt, then its query and its response where it has them."""
    columns = row.entry.columns
    if not columns.model_fields_set and _ALPACA["prompt"] not in row.values and "text" in row.values:
        return _string(row, "text")
    parts = [_string(row, _required(columns, "prompt")), _optional(row, "query"), _optional(row, "response")]
    return "\n".join([parts[0], *filter(None, parts[1:])])


def _alpaca(row: Row) -> Conversation:
    columns = row.entry.columns
    prompt = _string(row, _required(columns, "prompt"))
    query = _optional(row, "query")
    user = Message("user", f"{prompt}\n{query}" if query else prompt)
    assistant = Message("assistant", _string(row, _required(columns, "response")))
    return Conversation(_optional(row, "system") or None, (*_history(row), user, assistant), row.file, row.number)


# What makes a conversation of a row, by the `formatting` of its data set.
FORMATS: dict[str, Callable[[Row], Conversation]] = {"alpaca": _alpaca}

# The columns of a data set that names none.
_ALPACA = {"prompt": "instruction", "query": "input", "response": "output", "history": "history", "system": "system"}


_SURROGATE = re.compile("[\ud800-\udfff]")


def _history(row: Row) -> Iterator[Message]:
    """Earlier turns: a list of pairs, what the user said and what the assistant answered."""
    column = _named(row.entry.columns, "history")
    history = row.values.get(column) if column else None
    if history is None:
        return
    for pair in history if isinstance(history, list) else [history]:
        if not isinstance(pair, list) or len(pair) != 2 or not all(_is_text(part) for part in pair):
            raise _bad(row, column, f"the column {column!r} must be a list of pairs of strings")
        yield Message("user", pair[0])
        yield Message("assistant", pair[1])


def _optional(row: Row, part: str) -> str:
    """The text of a part, or "" where the row has none."""
    column = _named(row.entry.columns, part)
    return "" if column is None or row.values.get(column) is None else _string(row, column)


def _string(row: Row, column: str) -> str:
    if column not in row.values:
        raise _bad(row, column, f"there is no column {column!r}; there are {', '.join(row.values) or 'none'}")
    value = row.values[column]
    if not isinstance(value, str):
        raise _bad(row, column, f"the column {column!r} must be a string")
    if not _is_text(value):
        raise _bad(row, column, f"the column {column!r} holds half of a surrogate pair, which is no character")
    return value


def _is_text(value: Any) -> bool:
    """JSON can escape half a surrogate pair ("\\ud83d"), which neither UTF-8 nor a tokenizer can take."""
    return isinstance(value, str) and _SURROGATE.search(value) is None


def _named(columns: Columns, part: str) -> str | None:
    named: str | None = getattr(columns, part)
    return named if columns.model_fields_set else _ALPACA[part]


def _required(columns: Columns, part: str) -> str:
    return _named(columns, part) or _ALPACA[part]


def _bad(row: Row, column: str | None, what: str) -> JobFailure:
    return JobFailure(Reason.BAD_ROW, f"{row.file}, row {row.number}: {what}.", file=row.file, row=row.number, column=column)
