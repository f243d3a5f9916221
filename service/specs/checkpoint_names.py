"""What a job calls checkpoints that it measures or exports: "job-.../sft/40", "job-.../sft", "job-.../sft/*", "@sft", "@sft/40".
One of an earlier job is also the name of a model, or of an adapter, to begin with.

A job's id or an "@" says whose step it is; the number is of updates. Without one it is what the step ended with, and "*" stands
for every checkpoint that an earlier job's step has kept. What is of an earlier job is written out when the job comes.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

if TYPE_CHECKING:
    from service.specs.job import ResolvedStep

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


def named_in(step: "ResolvedStep") -> Iterator[tuple[str, str, CheckpointName]]:
    """Those of a step that can be read: (the argument, the text, what it says)."""
    for place, text in enumerate(step.measures.checkpoints or ()):
        if (name := CheckpointName.read(text)) is not None:
            yield f"measures.checkpoints.{place}", text, name
    if (exported := exported_by(step)) is not None:
        yield "model.model_name_or_path", step.model.model_name_or_path, exported


def exported_by(step: "ResolvedStep") -> CheckpointName | None:
    """The checkpoint that a step which exports has as its model. None: a model of the folder, or "@sft" as in any other step."""
    name = CheckpointName.read(step.model.model_name_or_path) if step.do == "export" else None
    return None if name is None or (name.job_id is None and name.at is None) else name
