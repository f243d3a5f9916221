"""Which checkpoint: the one-standard-error rule, and the front of what gives most for what it costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Better = Literal["lower", "higher"]


@dataclass(frozen=True)
class Candidate:
    """A checkpoint's value of one measure, and how far it is from the best one's, paired on the same documents."""

    global_step: int
    value: float
    versus_leader: dict[str, Any] | None  # value, standard_error, global_step; None: it is the best itself, or cannot be paired

    @property
    def is_near(self) -> bool:
        """Whether what lies between it and the best is no more than the standard error of that difference."""
        if self.versus_leader is None or self.versus_leader["value"] is None:
            return False
        return bool(abs(self.versus_leader["value"]) <= (self.versus_leader["standard_error"] or 0.0))


def ranked(candidates: Sequence[Candidate], better: Better) -> list[Candidate]:
    """The first is to be chosen: the earliest of those within one standard error of the best. Then those, then by value.

    Breiman, Friedman, Olshen and Stone, Classification and Regression Trees, 1984, §3.4.3: among what cannot be told apart the
    simplest, which of checkpoints is the one that has trained least.
    """
    sign = 1 if better == "lower" else -1
    best = min((sign * candidate.value for candidate in candidates), default=0.0)

    def place(candidate: Candidate) -> tuple[float, int]:
        loss = sign * candidate.value
        return (best if candidate.is_near else loss, candidate.global_step)

    return sorted(candidates, key=place)


def front(gains_and_drifts: Sequence[tuple[float, float]]) -> list[bool]:
    """Whether no other gains as much with as little drift, and more of the one or less of the other."""
    return [not any(_dominates(other, one) for other in gains_and_drifts) for one in gains_and_drifts]


def _dominates(other: tuple[float, float], one: tuple[float, float]) -> bool:
    return other != one and other[0] >= one[0] and other[1] <= one[1]
