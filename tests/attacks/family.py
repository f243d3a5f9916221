"""What a file of attacks says of itself, and what came of them when they were last run: the rows of the docs' table."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest


@dataclass(frozen=True)
class Family:
    """`promise` is what the attacks try to break. `found`: what they broke once, and what keeps it from being broken again."""

    name: str
    tried: str
    promise: str
    found: tuple[str, ...] = ()


@dataclass
class Record:
    """How often a family's attacks asked something, and what they were answered."""

    requests: int = 0
    answers: Counter[str] = field(default_factory=Counter)

    def note(self, answer: object) -> None:
        self.requests += 1
        self.answers[str(answer)] += 1


def each(attacks: Iterable[Any], short: int) -> list[Any]:
    """For parametrize: of the attacks the first few, and the others where `make attack` or `make long` asks for all."""
    return [
        pytest.param(attack, id=attack[:40].encode("unicode_escape").decode() if isinstance(attack, str) else None,
                     marks=() if place < short else pytest.mark.long)
        for place, attack in enumerate(attacks)
    ]  # fmt: skip


RECORDS: dict[str, Record] = {}


def record(family: Family) -> Record:
    return RECORDS.setdefault(family.name, Record())
