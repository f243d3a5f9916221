"""What a job does by itself when a checkpoint is not as it should be: `measures.guards`."""

import re
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from service.specs.base import Group

Then = Literal["stop", "pause", "keep_best"]

_THRESHOLD = re.compile(
    r"(?P<measure>\w+)(?P<anchor> +on +anchor)? *(?P<sign>[<>]) *(?P<number>[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?)"
)


class Guard(Group):
    """One line of them: {when: over_fit, then: stop}, or {when: "kl_from_base > 0.5", then: keep_best}."""

    when: str = Field(max_length=200, description="An alert's name, or a measure, < or >, and a number.")
    then: Then = Field(
        description="stop: the step ends here, with its best checkpoint; pause: the job waits for a client to resume it; "
        "keep_best: the step goes on, and ends with its best checkpoint in place of the last."
    )


@dataclass(frozen=True)
class Threshold:
    """A measure's value that is too low or too high. The value itself is compared: no test, and no alpha."""

    measure: str
    on_anchor: bool
    sign: Literal["<", ">"]
    number: float

    def is_passed(self, value: float) -> bool:
        return value < self.number if self.sign == "<" else value > self.number


def threshold(when: str) -> Threshold | None:
    """What a guard waits for, where that is a measure; None: it is an alert."""
    found = _THRESHOLD.fullmatch(when.strip())
    if found is None:
        return None
    sign: Literal["<", ">"] = "<" if found["sign"] == "<" else ">"
    return Threshold(found["measure"], found["anchor"] is not None, sign, float(found["number"]))
