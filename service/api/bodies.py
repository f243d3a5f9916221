"""A request's body as a document: JSON, or YAML read as the same.

YAML is read from its events, one by one and without recursion: no aliases, no tags, no key twice, and a plain scalar is what
YAML 1.2's core schema says it is (`1e-4` is a number, `no` and `2024-01-01` are strings).
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Annotated, Any

import orjson
import yaml
from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from service.api.errors import BodyTooLarge, UnreadableBody, UnsupportedMediaType
from service.specs.refusals import Place, Refusal, SpecRefused

YAML_TYPES = ("application/yaml", "application/x-yaml", "text/yaml")

# A job is four levels deep.
DEEPEST = 64

# Bytes that are read in the event loop itself, as JSON in less than a millisecond.
SMALL_BODY = 16_384

# YAML is fifty times slower to read than JSON.
LARGEST_YAML = 1_000_000


async def _raw(request: Request) -> bytes:
    return await request.body()


RawBody = Annotated[bytes, Depends(_raw)]


async def document_of(request: Request, raw: RawBody) -> Any:
    """The body's document. Raises UnreadableBody, UnsupportedMediaType and SpecRefused."""
    # a small one is read sooner than a thread is found to read it
    return _document(request, raw) if len(raw) <= SMALL_BODY else await run_in_threadpool(_document, request, raw)


def _document(request: Request, raw: bytes) -> Any:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        raise UnsupportedMediaType(f"The body is encoded as {encoding}; send it as it is.")
    if kind not in YAML_TYPES and not _is_json(kind):
        named = f"A body of type {kind}" if kind else "A body without a Content-Type"
        raise UnsupportedMediaType(f"{named} is not read; send application/json or application/yaml.")
    return read_yaml(raw) if kind in YAML_TYPES else read_json(raw)


Document = Annotated[Any, Depends(document_of)]


async def _optional(request: Request, raw: RawBody) -> Any:
    return await document_of(request, raw) if raw.strip() else {}


# Of an action that takes arguments, and works without them.
OptionalDocument = Annotated[Any, Depends(_optional)]


def no_document(raw: RawBody) -> None:
    """Of an action, which takes none: nothing, or JSON that is not looked at, whatever the Content-Type says."""
    if raw.strip():
        read_json(raw)


def read_json(raw: bytes) -> Any:
    """Raises UnreadableBody, and SpecRefused for what no job can hold."""
    text = _text(raw)
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if error.msg == "depth limit exceeded":
            raise _too_deep() from None
        sentence = f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        raise UnreadableBody(sentence, line=error.lineno, column=error.colno) from None
    document = _fit_for_a_job(document)
    _refuse_twice(text)
    return document


def _refuse_twice(text: str) -> None:
    """A key that stands twice: of two readers one could heed the first, and the other the last. It is JSON, and not too deep."""
    try:
        json.loads(text, object_pairs_hook=_once)
    except _Twice as error:
        raise UnreadableBody(f"The body has the key {str(error)!r} twice in one object.") from None


def keys_come_once(raw: RawBody) -> None:
    """A dependency of what has its body read by the framework, which heeds the last of two."""
    if raw.strip():
        _refuse_twice(_text(raw))


class _Twice(Exception):
    """A key comes twice."""


def _once(pairs: list[tuple[str, Any]]) -> None:
    if len(pairs) < 2:
        return
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise _Twice(key)
        seen.add(key)


def read_yaml(raw: bytes) -> Any:
    """Raises UnreadableBody, BodyTooLarge, and SpecRefused for what no job can hold."""
    if len(raw) > LARGEST_YAML:
        raise BodyTooLarge(f"A body of YAML may have {LARGEST_YAML} bytes; send JSON.")
    text = _text(raw)
    try:
        return _fit_for_a_job(_built(yaml.parse(text, Loader=_LOADER)))
    except yaml.MarkedYAMLError as error:
        if "nesting depth" in str(error.problem):
            raise _too_deep() from None
        mark = error.problem_mark or error.context_mark
        raise _not_yaml(str(error.problem or error.context), mark.line if mark else 0, mark.column if mark else 0) from None
    except yaml.reader.ReaderError as error:
        line, column = _place_in(text, error.position)
        raise _not_yaml(error.reason, line - 1, column - 1) from None
    except yaml.YAMLError as error:
        raise _not_yaml(str(error), 0, 0) from None


def _is_json(kind: str) -> bool:
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def _text(raw: bytes) -> str:
    if not raw.removeprefix(b"\xef\xbb\xbf").strip():
        raise UnreadableBody("The body is empty; a job is expected.", line=1, column=1)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = _place_in(raw[: error.start].decode("utf-8", "replace"), None)
        sentence = f"The body is not UTF-8: the byte 0x{raw[error.start]:02x} at line {line}, column {column}."
        raise UnreadableBody(sentence, line=line, column=column) from None


def _place_in(text: str, position: int | None) -> tuple[int, int]:
    """(line, column) of a position, or of the end, counted from 1."""
    before = text if position is None else text[:position]
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


# -- what no job can hold ------------------------------------------------------------------------------------------------


def _fit_for_a_job(document: Any) -> Any:
    refusals = list(_unfit(document))
    if refusals:
        raise SpecRefused(refusals)
    return document


def _unfit(document: Any) -> Iterator[Refusal]:
    """Null characters, which no database column takes, halves of surrogate pairs, infinite numbers, and too deep nesting."""
    todo: list[tuple[Place, Any]] = [((), document)]
    while todo:
        place, value = todo.pop()
        if why := _unfit_scalar(value):
            yield Refusal(place, why)
        if not isinstance(value, dict | list):
            continue
        if len(place) >= DEEPEST:
            raise _too_deep(place)
        if isinstance(value, dict) and (why := next(filter(None, map(_unfit_scalar, value)), None)):
            yield Refusal(place, f"A key of this object: {why}")
            return
        # most of a large document are scalars that are fine: no place is made for those
        items = value.items() if isinstance(value, dict) else enumerate(value)
        more = [((*place, key), item) for key, item in items if isinstance(item, dict | list) or _unfit_scalar(item)]
        todo += reversed(more)


def _unfit_scalar(value: Any) -> str | None:
    if isinstance(value, float):
        return None if isfinite(value) else "A number must be finite."
    if not isinstance(value, str):
        return None
    if "\0" in value:
        return "Text may not hold a null character."
    return "Text may not hold half of a surrogate pair." if not value.isascii() and _SURROGATE.search(value) else None


_SURROGATE = re.compile("[\ud800-\udfff]")


def _too_deep(place: Place = ()) -> SpecRefused:
    return SpecRefused([Refusal(place, f"Nested deeper than {DEEPEST} levels; a job is four levels deep.")])


# -- YAML ----------------------------------------------------------------------------------------------------------------

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_NULL = re.compile(r"~|null|Null|NULL|")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INTEGER = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")

_LARGEST_INTEGER = 2**63


@dataclass
class _Open:
    """A list or an object whose end has not come yet; of an object, the key whose value comes next."""

    value: Any
    key: str | None = None


def _built(events: Iterable[yaml.Event]) -> Any:
    """The one document that the events tell of."""
    opened = [_Open([])]  # the outermost list is of documents
    for event in events:
        match event:
            case yaml.DocumentStartEvent() if opened[0].value:
                raise _bad_event(event, "a second document; send one job at a time")
            case yaml.AliasEvent():
                raise _bad_event(event, "aliases are not read; write the value out")
            case yaml.ScalarEvent():
                _put(opened[-1], event, event.value if _awaits_key(opened[-1]) else _scalar(event), is_scalar=True)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                _refuse_tag(event)
                new: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
                _put(opened[-1], event, new, is_scalar=False)
                opened.append(_Open(new))
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                opened.pop()
    return opened[0].value[0] if opened[0].value else None


def _put(into: _Open, event: yaml.Event, value: Any, is_scalar: bool) -> None:
    if isinstance(into.value, list):
        into.value.append(value)
    elif into.key is not None:
        into.value[into.key], into.key = value, None
    elif not is_scalar:
        raise _bad_event(event, "a key must be text")
    elif value in into.value:
        raise _bad_event(event, f"the key {value!r} comes twice")
    else:
        into.key = value


def _awaits_key(opened: _Open) -> bool:
    return isinstance(opened.value, dict) and opened.key is None


def _scalar(event: Any) -> Any:
    """What a scalar means: text, unless it stands without quotes and looks like something else."""
    _refuse_tag(event)
    text: str = event.value
    if event.tag is not None or not event.implicit[0]:
        return text
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text) or _FALSE.fullmatch(text):
        return bool(_TRUE.fullmatch(text))
    if _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", ""))
    if _INTEGER.fullmatch(text) and len(text) <= 20 and abs(int(text)) < _LARGEST_INTEGER:
        return int(text)
    if len(text) <= 18 and (_OCTAL.fullmatch(text) or _HEXADECIMAL.fullmatch(text)):
        return int(text, 0)
    return float(text) if _FLOAT.fullmatch(text) else text


def _refuse_tag(event: Any) -> None:
    if event.tag not in (None, "!", "tag:yaml.org,2002:str", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"):
        raise _bad_event(event, f"the tag {event.tag} is not read")


def _bad_event(event: yaml.Event, what: str) -> UnreadableBody:
    mark = event.start_mark
    return _not_yaml(what, mark.line if mark else 0, mark.column if mark else 0)


def _not_yaml(what: str, line: int, column: int) -> UnreadableBody:
    """`line` and `column` from 0, as YAML's marks count."""
    sentence = f"The body is not YAML that is read here: {what} at line {line + 1}, column {column + 1}."
    return UnreadableBody(sentence, line=line + 1, column=column + 1)
