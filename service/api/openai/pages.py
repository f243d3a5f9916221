"""Lists as OpenAI's clients page through them: they ask for the next page with the id of the last item."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel


class Page(BaseModel):
    """`after` of the next page is last_id."""

    object: str = "list"
    data: list[dict[str, Any]]
    has_more: bool = False
    first_id: str | None = None
    last_id: str | None = None


def page(data: Sequence[dict[str, Any]], has_more: bool = False) -> Page:
    ids = [item["id"] for item in data]
    return Page(data=list(data), has_more=has_more, first_id=ids[0] if ids else None, last_id=ids[-1] if ids else None)
