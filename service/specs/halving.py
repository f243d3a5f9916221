"""A job's batch made smaller, with as many examples in each update as before."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Halved:
    """The job as it will run, and what was changed of which step. `accumulation` is None of one that trains nothing."""

    resolved: dict[str, Any]
    step: str
    pointer: str
    batch: int
    smaller: int
    accumulation: int | None

    @property
    def argument(self) -> str:
        return self.pointer.rpartition("/")[2]

    @property
    def sentence(self) -> str:
        changed = f"It goes on with {self.argument} {self.smaller} instead of {self.batch}"
        if self.accumulation is None:
            return f"{changed}."
        return f"{changed} and gradient_accumulation_steps {self.accumulation}: as many examples in each update as before."

    @property
    def numbers(self) -> dict[str, Any]:
        accumulated = {} if self.accumulation is None else {"gradient_accumulation_steps": self.accumulation}
        return {"step": self.step, self.argument: self.smaller} | accumulated


def halved(resolved: dict[str, Any], step: str | None) -> Halved | None:
    """With half the batch in that step (the first, when it is none of the job's). None where there is no smaller one.

    A batch that has no half is divided by its least divisor, since the global batch is to stay what it is: 15 becomes 5, and 7
    becomes 1. A step that trains nothing has no global batch, and reads half as many texts at a time.
    """
    names = [one["name"] for one in resolved["steps"]]
    index = names.index(step) if step in names else 0
    place = _batch_of(resolved["steps"][index])
    if place is None:
        return None
    group, argument = place
    arguments = resolved["steps"][index][group]
    batch, trains = arguments[argument], argument == _TRAINED
    divisor = _divisor(batch, _least(resolved["steps"][index])) if trains else 2
    if divisor is None or batch == 1:
        return None
    accumulation = arguments["gradient_accumulation_steps"] * divisor if trains else None
    smaller = {argument: batch // divisor} | ({"gradient_accumulation_steps": accumulation} if trains else {})
    steps = list(resolved["steps"])
    steps[index] = steps[index] | {group: arguments | smaller}
    pointer = f"/resolved/steps/{index}/{group}/{argument}"
    return Halved(resolved | {"steps": steps}, names[index], pointer, batch, batch // divisor, accumulation)


_TRAINED = "per_device_train_batch_size"


def _batch_of(step: dict[str, Any]) -> tuple[str, str] | None:
    """What says how many texts the step has in memory at a time; None of one that has no more than one."""
    deed = step.get("do", "train")
    if deed in ("generate", "inspect"):
        return None
    if deed == "evaluate":
        return "evaluation", "batch_size"
    return "training", _TRAINED if deed == "train" else "per_device_eval_batch_size"


def _least(step: dict[str, Any]) -> int:
    """An answer that is judged alone is held against another of its batch."""
    finetuning = step.get("finetuning", {})
    return 2 if (finetuning.get("stage"), finetuning.get("dpo_loss")) == ("dpo", "kto") else 1


def _divisor(batch: int, least: int) -> int | None:
    """The smallest that leaves no rest, and no smaller batch than that."""
    return next((number for number in range(2, batch // least + 1) if batch % number == 0), None)
