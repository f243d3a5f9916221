"""inspect."""

from typing import Any

from worker.run import Run
from worker.stages.step import StepWork


def inspect(work: StepWork, run: Run) -> dict[str, Any]:
    raise NotImplementedError
