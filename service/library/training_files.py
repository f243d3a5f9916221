"""Files that are uploaded to train on: what their rows are, told by the first one, and every line that cannot be read.

A worker reads them as any other data set, by the entry that is made here; what only a tokenizer finds is said by it.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Self

import orjson

from service.specs.dataset_info import DatasetEntry

MOST_FAULTS = 20
SUFFIXES = (".jsonl", ".txt")

ROLES = ("system", "developer", "user", "assistant", "tool")


@dataclass(frozen=True)
class Uploaded:
    """A data set that was uploaded: how its rows read, and how many there are."""

    entry: DatasetEntry
    rows: int | None  # None of a large file, whose rows nobody has counted yet

    @classmethod
    def of(cls, entry: dict[str, Any], rows: int | None) -> Self:
        """As the store keeps it."""
        return cls(DatasetEntry.model_validate(entry), rows)


@dataclass(frozen=True)
class Fault:
    """What is wrong with a line, counted from 1; 0: with the file as a whole."""

    line: int
    detail: str

    def sentence(self, name: str) -> str:
        return f"{name}, line {self.line}: {self.detail}" if self.line else f"{name}: {self.detail}"


class Unreadable(Exception):
    """The file cannot be trained on; `faults` are the first of them."""

    def __init__(self, name: str, faults: list[Fault]):
        self.sentences = [fault.sentence(name) for fault in faults]
        super().__init__(self.sentences[0])


def stored_name(name: str) -> str:
    """What the file is called in the store: what its client calls it, with nothing that a file system could mind."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", PurePosixPath(name.replace("\\", "/")).name).lstrip(".")[-100:] or "file"
    return plain if PurePosixPath(plain).suffix.lower() in SUFFIXES else f"{plain}.jsonl"


def looked_at(path: Path, name: str) -> Uploaded:
    """The file at `path`, which will lie in the store as `stored_name(name)`. Raises Unreadable."""
    stored = stored_name(name)
    if stored.lower().endswith(".txt"):
        return _texts(path, name, stored)
    kind: _Kind | None = None
    faults: list[Fault] = []
    rows = 0
    for number, row in _rows(path):
        if isinstance(row, Fault):
            faults.append(row)
        else:
            kind = kind or next((one for one in KINDS if one.begins(row)), None)
            if kind is None:
                raise Unreadable(name, [*faults, Fault(number, _NO_KIND)])
            faults += [Fault(number, why) for why in kind.faults(row)]
            rows += 1
        if len(faults) >= MOST_FAULTS:
            break
    if faults:
        raise Unreadable(name, faults[:MOST_FAULTS])
    if kind is None:
        raise Unreadable(name, [Fault(0, "It holds no rows.")])
    return Uploaded(DatasetEntry.model_validate({"file_name": stored, **kind.entry}), rows)


_NO_KIND = (
    "These are no rows to train on: each is an object with messages; or with input, preferred_output and non_preferred_output; "
    "or with prompt and completion; with instruction and output; or with text."
)


def _texts(path: Path, name: str, stored: str) -> Uploaded:
    rows = 0
    for number, line in _lines(path):
        if isinstance(line, Fault):
            raise Unreadable(name, [line])
        rows += bool(number)
    if not rows:
        raise Unreadable(name, [Fault(0, "It holds no rows.")])
    return Uploaded(DatasetEntry.model_validate({"file_name": stored, "columns": {"prompt": "text"}}), rows)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | Fault]]:
    for number, line in _lines(path):
        if isinstance(line, Fault):
            yield number, line
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            yield number, Fault(number, f"This is not JSON: {error.msg} at column {error.colno}.")
            continue
        yield number, row if isinstance(row, dict) else Fault(number, "A row must be an object.")


def _lines(path: Path) -> Iterator[tuple[int, str | Fault]]:
    """Those that are not blank, numbered as an editor would."""
    with path.open("rb") as stream:
        for number, raw in enumerate(stream, 1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                yield number, Fault(number, f"This is not UTF-8: it holds the byte 0x{raw[error.start]:02x}.")
                continue
            if line.strip():
                yield number, line


# -- what rows there are ------------------------------------------------------------------------------------------------

Row = dict[str, Any]


@dataclass(frozen=True)
class _Kind:
    """`begins`: whether a file whose first row is this one holds such rows; `faults`: what is wrong with one."""

    begins: Callable[[Row], bool]
    faults: Callable[[Row], Iterator[str]]
    entry: dict[str, Any]


def _of_chat(row: Row) -> Iterator[str]:
    yield from _of_messages(row.get("messages"), "messages")
    yield from _of_tools(row)
    messages = row.get("messages")
    if not isinstance(messages, list) or not all(isinstance(one, dict) for one in messages):
        return
    answers = [message for message in messages if message.get("role") == "assistant"]
    if messages and messages[-1].get("role") != "assistant":
        yield "messages must end with one of the assistant: what the model is to learn."
    elif answers and all(message.get("weight") == 0 for message in answers):
        yield "every message of the assistant has the weight 0, so there is nothing to learn."


def _of_preference(row: Row) -> Iterator[str]:
    asked = row.get("input")
    if not isinstance(asked, dict):
        yield "input must be an object with messages."
    else:
        yield from _of_messages(asked.get("messages"), "input.messages")
        yield from _of_tools(asked)
    for name in ("preferred_output", "non_preferred_output"):
        answer = row.get(name)
        is_one = isinstance(answer, list) and len(answer) == 1 and isinstance(answer[0], dict)
        if not is_one or answer[0].get("role") != "assistant":  # type: ignore[index]
            yield f"{name} must be a list with one message of the assistant."
        else:
            yield from _of_messages(answer, name)


def _of_messages(messages: Any, where: str) -> Iterator[str]:
    if not isinstance(messages, list) or not messages:
        yield f"{where} must be a list of messages."
        return
    for number, message in enumerate(messages):
        place = f"{where}[{number}]"
        if not isinstance(message, dict):
            yield f"{place} must be an object with role and content."
        elif message.get("role") not in ROLES:
            yield f"{place}.role is {message.get('role')!r}; there are {', '.join(ROLES)}."
        else:
            yield from _of_message(message, place)


def _of_message(message: Row, place: str) -> Iterator[str]:
    content = message.get("content")
    calls = message.get("tool_calls")
    if isinstance(content, list):
        if not all(isinstance(part, dict) and part.get("type") == "text" for part in content):
            yield f"{place}.content has parts that are no text, and only text is learned."
    elif not isinstance(content, str) and not (content is None and calls):
        yield f"{place}.content must be text."
    if message.get("weight") not in (None, 0, 1):
        yield f"{place}.weight must be 0 or 1."


def _of_tools(row: Row) -> Iterator[str]:
    tools = row.get("tools")
    if tools is not None and not (isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)):
        yield "tools must be a list of functions."


def _texts_in(*names: str) -> Callable[[Row], Iterator[str]]:
    def faults(row: Row) -> Iterator[str]:
        yield from (f"{name} must be text." for name in names if not isinstance(row.get(name), str))

    return faults


def _has(*names: str) -> Callable[[Row], bool]:
    return lambda row: all(name in row for name in names)


_PREFERENCE = {
    "messages": "input.messages",
    "tools": "input.tools",
    "chosen": "preferred_output",
    "rejected": "non_preferred_output",
}

# The first that a file begins with is what all its rows must be.
KINDS = (
    _Kind(_has("messages"), _of_chat, {"formatting": "openai"}),
    _Kind(_has("input", "preferred_output"), _of_preference, {"formatting": "openai", "ranking": True, "columns": _PREFERENCE}),
    _Kind(
        _has("prompt", "completion"),
        _texts_in("prompt", "completion"),
        {"columns": {"prompt": "prompt", "response": "completion"}},
    ),
    _Kind(_has("instruction", "output"), _texts_in("instruction", "output"), {}),
    _Kind(_has("text"), _texts_in("text"), {"columns": {"prompt": "text"}}),
)
