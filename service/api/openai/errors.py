"""What a problem document has besides, so that OpenAI's clients show its sentence: they read `error` and nothing else."""

import re
from collections.abc import Sequence
from typing import Any

PREFIX = "/v1/"
SHOWN = 5  # of what is wrong, in one message

_JOB_ID = re.compile(r"\bjob-([0-9a-f]{24})\b")

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}

# Where a place in the request is told by its pointer: the rest is what the client calls the parameter.
_PARTS = ("/query/", "/path/", "/header/", "/body/", "/")


def is_here(path: str) -> bool:
    """Whether it was asked for through this door."""
    return path.startswith(PREFIX)


def error_of(status: int, code: str, detail: str, errors: Sequence[dict[str, str]]) -> dict[str, Any]:
    """OpenAI's error object."""
    kind = "server_error" if status >= 500 else _TYPES.get(status, "invalid_request_error")
    return {
        "message": _message(detail, errors),
        "type": kind,
        "param": _param(errors[0]["pointer"]) if errors else None,
        "code": code,
    }


def _message(detail: str, errors: Sequence[dict[str, str]]) -> str:
    """All that is wrong, as far as a person reads; jobs by the ids that they have here."""
    told = [error["detail"] for error in errors[:SHOWN]] or [detail]
    if len(errors) > SHOWN:
        told.append(f"And {len(errors) - SHOWN} more.")
    return _JOB_ID.sub(r"ftjob-\1", "\n".join(told))


def headers_of(status: int, may_retry: bool) -> dict[str, str]:
    """The clients ask again after a 409 unless they are told not to; what the state does not allow will not pass by itself."""
    return {"x-should-retry": "true" if may_retry else "false"} if status == 409 else {}


def _param(pointer: str) -> str | None:
    part = next((part for part in _PARTS if pointer.startswith(part)), "")
    return pointer.removeprefix(part).replace("/", ".").replace("~1", "/").replace("~0", "~") or None
