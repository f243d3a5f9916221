"""What a job calls checkpoints, to measure them: "job-.../sft/40", "job-.../sft", "job-.../sft/*", "@sft", "@sft/40". One of an
earlier job is also the name of a model, or of an adapter, to begin with.

A job's id or an "@" says whose step it is; the number is of updates. Without one it is what the step ended with, and "*" stands
for every checkpoint that an earlier job's step has kept. What is of an earlier job is written out when the job comes.
"""

import re
from dataclasses import dataclass
from typing import Literal, Self

_STEP = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}"
_NAME = re.compile(rf"(?:(?P<job>job-[0-9a-f]{{24}})/|@)(?P<step>{_STEP})(?:/(?P<at>[0-9]{{1,9}}|\*))?")


@dataclass(frozen=True)
class CheckpointName:
    """`at`: a number of updates, "*" for all there are, or None for what the step ended with."""

    job_id: str | None  # None: of this job itself
    step: str
    at: int | Literal["*"] | None = None

    @classmethod
    def read(cls, text: str) -> Self | None:
        """None where the text is no such name."""
        found = _NAME.fullmatch(text)
        if found is None:
            return None
        at = found["at"]
        return cls(found["job"], found["step"], "*" if at == "*" else None if at is None else int(at))

    def __str__(self) -> str:
        owner = "@" if self.job_id is None else f"{self.job_id}/"
        return f"{owner}{self.step}" + ("" if self.at is None else f"/{self.at}")


def of_earlier(text: str) -> CheckpointName | None:
    """One checkpoint of an earlier job; None where the text is no such name."""
    name = CheckpointName.read(text) if text.startswith("job-") else None
    return None if name is None or name.at == "*" else name


def named_in(texts: tuple[str, ...] | None) -> list[CheckpointName]:
    """Those that can be read."""
    return [name for name in map(CheckpointName.read, texts or ()) if name is not None]
