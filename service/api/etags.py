"""Entity tags: what a client already has need not be sent again."""

from fastapi import Request


def quoted(tag: str) -> str:
    return f'"{tag}"'


def is_known(request: Request, etag: str) -> bool:
    """Whether If-None-Match names it (RFC 9110, §13.1.2: weakly compared)."""
    given = request.headers.get("if-none-match", "")
    tags = [tag.strip().removeprefix("W/") for tag in given.split(",")]
    return "*" in tags or etag in tags
