"""From rows to conversations and texts, in the formats that LLaMA-Factory's data sets are written in.

A data set that names its columns has those; one that names none has the format's usual ones. As in LLaMA-Factory, a part that a
naming data set leaves out is not read, unless the format cannot do without it.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from service.library.rows import Row
from service.specs.dataset_info import Tags
from service.specs.failures import JobFailure
from service.specs.reasons import Reason

Role = Literal["user", "assistant", "observation", "function"]


@dataclass(frozen=True, slots=True)
class Message:
    """A `function` message is the assistant's calls as JSON text, {"name": …, "arguments": {…}} or a list of those; an
    `observation` is what came of them. A response that is not trained is context for those that follow it.
    """

    role: Role
    content: str
    is_trained: bool = True


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages in turns: a user's or an observation, and then the assistant's or a function call, to the end.

    `system` is None where the row gives none. `tools` is JSON text, a list of the functions that may be called, each
    {"name": …, "description": …, "parameters": {…}}.
    """

    system: str | None
    messages: tuple[Message, ...]
    file: str
    row: int
    tools: str | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """One conversation with two ends: they differ in the last message only."""

    chosen: Conversation
    rejected: Conversation


@dataclass(frozen=True, slots=True)
class Labelled:
    """A conversation whose last message is wanted, or is not."""

    conversation: Conversation
    desirable: bool


def conversation_of(row: Row) -> Conversation:
    """What supervised training learns from a row."""
    asked = _asked(row)
    if row.entry.formatting == "alpaca":
        return _ended(asked, Message("assistant", _string(row, _required(row, "response"))))
    return _whole(row, asked)


def pair_of(row: Row) -> Pair:
    """What the stages rm and dpo learn from a row: `chosen` and `rejected`, or (LLaMA-Factory's older way) a response of two."""
    asked = _asked(row)
    _require_question(row, asked)
    chosen, rejected = _answers(row)
    if chosen == rejected:
        raise _bad(row, _rejected_column(row), "the chosen answer and the rejected one are the same, so neither is better")
    return Pair(_ended(asked, chosen), _ended(asked, rejected))


def labelled_of(row: Row) -> Labelled:
    """A conversation with its column `kto_tag`: true where the last answer is a good one."""
    column = _required(row, "kto_tag")
    label = _value(row, column)
    if isinstance(label, str) and label.lower() in ("true", "false"):  # a cell of a csv file is text
        label = label.lower() == "true"
    if not isinstance(label, bool):
        raise _bad(row, column, f"the column {column!r} must be true or false")
    return Labelled(conversation_of(row), label)


def text_of(row: Row) -> str:
    """What pre-training learns from a row: its prompt, then its query and its response where it has them."""
    if row.entry.formatting != "alpaca":
        sentence = f"{row.file} holds conversations ({row.entry.formatting}); pre-training learns texts, one column of a row."
        raise JobFailure(Reason.BAD_DATA, sentence, file=row.file)
    if not row.entry.columns.model_fields_set and _USUAL["alpaca"]["prompt"] not in row.values and "text" in row.values:
        return _string(row, "text")
    parts = [_string(row, _required(row, "prompt")), _optional(row, "query"), _optional(row, "response")]
    return "\n".join([parts[0], *filter(None, parts[1:])])


# The columns of a data set that names none, by its `formatting`.
_USUAL: dict[str, dict[str, str]] = {
    "alpaca": {"prompt": "instruction", "query": "input", "response": "output", "history": "history"},
    "sharegpt": {"messages": "conversations"},
    "openai": {"messages": "messages"},
}
_USUAL_ANYWHERE = {name: name for name in ("system", "tools", "chosen", "rejected", "kto_tag")}

_OPENAI_TAGS = {
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": "user",
    "assistant_tag": "assistant",
    "observation_tag": "tool",
    "function_tag": "function_call",
    "system_tag": "system",
}

_ASKING: tuple[Role, ...] = ("user", "observation")

_SURROGATE = re.compile("[\ud800-\udfff]")


def _asked(row: Row) -> Conversation:
    """A row without its last answer, where that has a column of its own; else all its messages."""
    read = _alpaca_question if row.entry.formatting == "alpaca" else _messages
    system, messages = read(row)
    return Conversation(system or _optional(row, "system") or None, tuple(messages), row.file, row.number, _tools(row))


def _ended(asked: Conversation, answer: Message) -> Conversation:
    return replace(asked, messages=(*asked.messages, answer))


def _alpaca_question(row: Row) -> tuple[str, list[Message]]:
    prompt, query = _string(row, _required(row, "prompt")), _optional(row, "query")
    return "", [*_history(row), Message("user", f"{prompt}\n{query}" if query else prompt)]


def _history(row: Row) -> Iterator[Message]:
    """Earlier turns: a list of pairs, what the user said and what the assistant answered."""
    column = _named(row, "history")
    history = row.values.get(column) if column else None
    if history in (None, ""):  # a cell of a csv file is never absent
        return
    for pair in history if isinstance(history, list) else [history]:
        if not isinstance(pair, list) or len(pair) != 2 or not all(_is_text(part) for part in pair):
            raise _bad(row, column, f"the column {column!r} must be a list of pairs of strings")
        yield Message("user", pair[0])
        yield Message("assistant", pair[1])


def _messages(row: Row) -> tuple[str, list[Message]]:
    """(the system text of a first message of that role or "", the others), in turns that begin with who asks."""
    column = _required(row, "messages")
    values = _value(row, column)
    if not isinstance(values, list) or not values:
        raise _bad(row, column, f"the column {column!r} must be a list of messages, with at least one")
    tags = _tags(row)
    system = ""
    first_role = values[0].get(tags.role_tag) if isinstance(values[0], dict) else None
    if first_role == tags.system_tag or (first_role == "developer" and row.entry.formatting == "openai"):
        system, values = _content(row, column, 1, values[0], tags), values[1:]
        if not values:
            raise _bad(row, column, f"the column {column!r} has a system message only")
    first = 2 if system else 1
    messages = [_message(row, column, number, value, tags) for number, value in enumerate(values, first)]
    messages = _with_joined_observations(messages)
    _require_turns(row, column, messages, tags)
    return system, messages


def _message(row: Row, column: str, number: int, value: Any, tags: Tags) -> Message:
    """`number` counts the column's messages from 1."""
    roles: dict[str, Role] = {
        tags.user_tag: "user",
        tags.assistant_tag: "assistant",
        tags.observation_tag: "observation",
        tags.function_tag: "function",
    }
    where = f"message {number} of the column {column!r}"
    if not isinstance(value, dict):
        raise _bad(row, column, f"{where} must be an object with {tags.role_tag!r} and {tags.content_tag!r}")
    role = value.get(tags.role_tag)
    if not isinstance(role, str) or role not in roles:
        known = ", ".join(roles)
        raise _bad(row, column, f"{where} has the {tags.role_tag!r} {role!r}; there are {known}, and {tags.system_tag} at first")
    is_trained = _is_trained(row, column, where, value)
    if value.get("tool_calls"):
        return Message("function", _tool_calls(row, column, number, value, tags), is_trained)
    content = _content(row, column, number, value, tags)
    if roles[role] == "function":
        _require_calls(row, column, where, content)
    return Message(roles[role], content, is_trained)


def _is_trained(row: Row, column: str, where: str, value: dict[str, Any]) -> bool:
    """OpenAI's weight: 1 where it is not given, and 0 for an answer that is not to be learned."""
    weight = value.get("weight") if row.entry.formatting == "openai" else None
    if weight not in (None, 0, 1):
        raise _bad(row, column, f"{where} has the weight {weight!r}; it is 0 or 1")
    return weight != 0


def _content(row: Row, column: str, number: int, value: dict[str, Any], tags: Tags) -> str:
    content = value.get(tags.content_tag)
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        content = "".join(str(part.get("text", "")) for part in content)
    if not _is_text(content):
        raise _bad(row, column, f"message {number} of the column {column!r} must have a string as {tags.content_tag!r}")
    return str(content)


def _tool_calls(row: Row, column: str, number: int, value: dict[str, Any], tags: Tags) -> str:
    """OpenAI's calls as the text of a function message: their arguments, which come as JSON text, are read."""
    where = f"message {number} of the column {column!r}"
    if value.get(tags.content_tag):
        raise _bad(row, column, f"{where} both says something and calls a function; a turn does one or the other")
    calls = []
    for call in value["tool_calls"] if isinstance(value["tool_calls"], list) else [value["tool_calls"]]:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            raise _bad(row, column, f"{where} has tool_calls without a 'function'")
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            arguments = _json_of(row, column, f"the arguments of a call in {where}", arguments or "{}")
        calls.append({"name": function.get("name"), "arguments": arguments})
    text = json.dumps(calls[0] if len(calls) == 1 else calls, ensure_ascii=False)
    _require_calls(row, column, where, text)
    return text


def _require_calls(row: Row, column: str, where: str, content: str) -> None:
    calls = _json_of(row, column, where, content)
    for call in calls if isinstance(calls, list) and calls else [calls]:
        if not isinstance(call, dict) or not isinstance(call.get("name"), str) or "arguments" not in call:
            raise _bad(row, column, f"{where} calls a function, and must be JSON with its 'name' and its 'arguments'")


def _with_joined_observations(messages: list[Message]) -> list[Message]:
    """What several calls of one turn gave is one observation, a line after another."""
    joined: list[Message] = []
    for message in messages:
        if joined and joined[-1].role == message.role == "observation":
            joined[-1] = Message("observation", f"{joined[-1].content}\n{message.content}")
        else:
            joined.append(message)
    return joined


def _require_turns(row: Row, column: str, messages: list[Message], tags: Tags) -> None:
    for index, message in enumerate(messages):
        asks = index % 2 == 0
        if (message.role in _ASKING) != asks:
            expected = (tags.user_tag, tags.observation_tag) if asks else (tags.assistant_tag, tags.function_tag)
            what = f"message {index + 1} of the column {column!r} (a first system message not counted) must be of"
            raise _bad(row, column, f"{what} {' or '.join(expected)}, and is of the {message.role}")


def _whole(row: Row, asked: Conversation) -> Conversation:
    column = _required(row, "messages")
    if asked.messages[-1].role in _ASKING:
        raise _bad(row, column, f"the column {column!r} ends with a question: the last message must be an answer")
    if not any(message.is_trained for message in asked.messages[1::2]):
        raise _bad(row, column, f"every answer of the column {column!r} has the weight 0, so there is nothing to learn")
    return asked


def _require_question(row: Row, asked: Conversation) -> None:
    if asked.messages[-1].role not in _ASKING:
        column = _required(row, "messages")
        raise _bad(row, column, f"the column {column!r} ends with an answer: the answers are in columns of their own")


def _answers(row: Row) -> tuple[Message, Message]:
    if row.entry.formatting != "alpaca":
        chosen, rejected = (_answer(row, _required(row, part)) for part in ("chosen", "rejected"))
        return chosen, rejected
    columns = row.entry.columns
    if columns.chosen or columns.rejected or (not columns.model_fields_set and "chosen" in row.values):
        texts = [_string(row, _required(row, part)) for part in ("chosen", "rejected")]
    else:
        column = _required(row, "response")
        texts = _value(row, column)
        if not isinstance(texts, list) or len(texts) != 2 or not all(_is_text(text) for text in texts):
            raise _bad(
                row, column, f"the column {column!r} must be a list of two strings, the chosen answer and the rejected one"
            )
    return Message("assistant", texts[0]), Message("assistant", texts[1])


def _rejected_column(row: Row) -> str:
    columns = row.entry.columns
    if row.entry.formatting != "alpaca" or columns.rejected or (not columns.model_fields_set and "chosen" in row.values):
        return _required(row, "rejected")
    return _required(row, "response")


def _answer(row: Row, column: str) -> Message:
    """A message, in a column of its own; OpenAI's preferences have it in a list."""
    value = _value(row, column)
    if row.entry.formatting == "openai" and isinstance(value, list) and len(value) == 1:
        [value] = value
    message = _message(row, column, 1, value, _tags(row))
    if message.role in _ASKING:
        raise _bad(row, column, f"the column {column!r} must be a message of the assistant")
    return message


def _tools(row: Row) -> str | None:
    """The functions, out of the wrapping that OpenAI's API has around each."""
    column = _named(row, "tools")
    value = _get(row, column) if column else None
    if column is None or value in (None, "", []):
        return None
    tools = value if isinstance(value, list) else _json_of(row, column, f"the column {column!r}", _string(row, column))
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise _bad(row, column, f"the column {column!r} must be a list of functions, as JSON")
    plain = [tool["function"] if isinstance(tool.get("function"), dict) else tool for tool in tools]
    if not all(isinstance(tool.get("name"), str) for tool in plain):
        raise _bad(row, column, f"the column {column!r} has a function without a 'name'")
    if not plain:
        return None
    return value if isinstance(value, str) and plain == tools else json.dumps(plain, ensure_ascii=False)


def _json_of(row: Row, column: str, where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _bad(row, column, f"{where} is not valid JSON: {error}") from None


def _optional(row: Row, part: str) -> str:
    """The text of a part, or "" where the row has none."""
    column = _named(row, part)
    return "" if column is None or _get(row, column) is None else _string(row, column)


def _string(row: Row, column: str) -> str:
    value = _value(row, column)
    if not isinstance(value, str):
        raise _bad(row, column, f"the column {column!r} must be a string")
    if not _is_text(value):
        raise _bad(row, column, f"the column {column!r} holds half of a surrogate pair, which is no character")
    return value


def _value(row: Row, column: str) -> Any:
    value = _get(row, column)
    if value is None and column not in row.values:
        raise _bad(row, column, f"there is no column {column!r}; there are {', '.join(row.values) or 'none'}")
    return value


def _get(row: Row, column: str) -> Any:
    """A column, or "input.messages": what an object in a column has under that key. None where there is none."""
    if column in row.values or "." not in column:
        return row.values.get(column)
    outer, _, inner = column.partition(".")
    within = row.values.get(outer)
    return within.get(inner) if isinstance(within, dict) else None


def _is_text(value: Any) -> bool:
    """JSON can escape half a surrogate pair ("\\ud83d"), which neither UTF-8 nor a tokenizer can take."""
    return isinstance(value, str) and _SURROGATE.search(value) is None


def _named(row: Row, part: str) -> str | None:
    columns = row.entry.columns
    named: str | None = getattr(columns, part)
    return named if columns.model_fields_set else _usual(row, part)


def _required(row: Row, part: str) -> str:
    return _named(row, part) or _usual(row, part)


def _usual(row: Row, part: str) -> str:
    return _USUAL[row.entry.formatting].get(part) or _USUAL_ANYWHERE[part]


def _tags(row: Row) -> Tags:
    tags = row.entry.tags
    if row.entry.formatting != "openai":
        return tags
    return Tags(**_OPENAI_TAGS | {name: getattr(tags, name) for name in tags.model_fields_set})


def _bad(row: Row, column: str | None, what: str) -> JobFailure:
    return JobFailure(Reason.BAD_ROW, f"{row.file}, row {row.number}: {what}.", file=row.file, row=row.number, column=column)
