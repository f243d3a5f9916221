"""A job's batch made smaller, with as many examples in each update as before."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Halved:
    """The job as it will run, and what was changed of which step."""

    resolved: dict[str, Any]
    step: str
    pointer: str
    batch: int
    smaller: int
    accumulation: int

    @property
    def sentence(self) -> str:
        return (
            f"It goes on with per_device_train_batch_size {self.smaller} instead of {self.batch} and "
            f"gradient_accumulation_steps {self.accumulation}: as many examples in each update as before."
        )

    @property
    def numbers(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "per_device_train_batch_size": self.smaller,
            "gradient_accumulation_steps": self.accumulation,
        }


def halved(resolved: dict[str, Any], step: str | None) -> Halved | None:
    """With half the batch in that step (the first, when it is none of the job's). None for a batch of one.

    A batch that has no half is divided by its least divisor, since the global batch is to stay what it is: 15 becomes 5, and 7
    becomes 1.
    """
    names = [one["name"] for one in resolved["steps"]]
    index = names.index(step) if step in names else 0
    training = resolved["steps"][index]["training"]
    batch = training["per_device_train_batch_size"]
    if batch == 1:
        return None
    divisor = next(number for number in range(2, batch + 1) if batch % number == 0)
    accumulation = training["gradient_accumulation_steps"] * divisor
    smaller = {"per_device_train_batch_size": batch // divisor, "gradient_accumulation_steps": accumulation}
    steps = list(resolved["steps"])
    steps[index] = steps[index] | {"training": training | smaller}
    pointer = f"/resolved/steps/{index}/training/per_device_train_batch_size"
    return Halved(resolved | {"steps": steps}, names[index], pointer, batch, batch // divisor, accumulation)
