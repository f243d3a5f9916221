"""How a spec says no.

SpecRefused            the document is not a job that can run; `refusals` says every place and why
└── (one class: the API renders it as a 422 with `errors: [{pointer, detail}]`)
"""

from collections.abc import Iterable
from dataclasses import dataclass

Place = tuple[str | int, ...]


@dataclass(frozen=True)
class Refusal:
    """One thing that is wrong, and where: `place` is a path of keys and indices from the document's root."""

    place: Place
    detail: str

    @property
    def pointer(self) -> str:
        """The place as a JSON pointer (RFC 6901)."""
        return "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in self.place)


class SpecRefused(ValueError):
    """The job spec is refused."""

    def __init__(self, refusals: Iterable[Refusal]):
        self.refusals = tuple(refusals)
        super().__init__("; ".join(f"{refusal.pointer or '/'}: {refusal.detail}" for refusal in self.refusals))
