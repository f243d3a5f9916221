"""Entity tags: what a client already has need not be sent again, and what has changed since is not changed unseen."""

import re

from fastapi import Request


def quoted(tag: str) -> str:
    return f'"{tag}"'


def is_known(request: Request, etag: str) -> bool:
    """Whether If-None-Match names it (RFC 9110, §13.1.2: weakly compared)."""
    given = request.headers.get("if-none-match", "")
    tags = [tag.strip().removeprefix("W/") for tag in given.split(",")]
    return "*" in tags or etag in tags


_VERSION = re.compile(r'"v(\d{1,18})"')


def versions_in(if_match: str | None) -> set[int] | None:
    """The versions of a job that If-Match names; None where any is meant (no header, or *).

    Strongly compared (RFC 9110, §13.1.1): a weak tag, or one that is not ours, matches nothing.
    """
    if if_match is None or if_match.strip() == "*":
        return None
    found = [_VERSION.fullmatch(tag.strip()) for tag in if_match.split(",")]
    return {int(tag[1]) for tag in found if tag}
