"""What a step begins with: a whole model, the adapters that are merged into it, and the one that training goes on with.

A name is one in the models folder; "@step" is what an earlier step of the job made. The adapter that a step makes lies on what
the step began with, so "@step" as a model stands for that whole chain, and "@step" among adapters for its last link.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from service.specs.job import ResolvedJob, ResolvedStep


@dataclass(frozen=True)
class Lineage:
    """`merged` go into `whole` in that order; then training goes on with `continued`, or with a new adapter, or with none."""

    whole: str
    merged: tuple[str, ...] = ()
    continued: str | None = None

    @property
    def adapters(self) -> tuple[str, ...]:
        """All of them, in order."""
        return self.merged if self.continued is None else (*self.merged, self.continued)

    def sentence(self) -> str:
        """As people would say it."""
        return f"{self.whole!r}" + "".join(f" + {name!r}" for name in self.adapters)


def lineages(job: ResolvedJob) -> dict[str, Lineage]:
    """Each step's, by its name. A reference that points nowhere stands for itself: the rules refuse it."""
    found: dict[str, Lineage] = {}
    steps: dict[str, ResolvedStep] = {}
    for step in job.steps:
        found[step.name] = lineage(step, steps, found)
        steps[step.name] = step
    return found


def origin(name: str, known: Mapping[str, Lineage]) -> str:
    """The model in the operator's folder that a whole model goes back to: what a step makes has its own model's shape."""
    while name.startswith("@") and known.get(step := name[1:].partition("/")[0], Lineage(name)).whole != name:
        name = known[step].whole
    return name


def lineage(step: ResolvedStep, earlier: Mapping[str, ResolvedStep], lineages: Mapping[str, Lineage]) -> Lineage:
    """The step's own, from the earlier steps and theirs."""
    start = made_by(step.model.model_name_or_path, earlier, lineages)
    adapters = step.model.adapter_name_or_path or ()
    goes_on = step.finetuning.finetuning_type == "lora" and not step.finetuning.create_new_adapter
    if adapters and goes_on:
        return Lineage(start.whole, (*start.adapters, *adapters[:-1]), adapters[-1])
    return Lineage(start.whole, (*start.adapters, *adapters))


def made_by(model: str, earlier: Mapping[str, ResolvedStep], lineages: Mapping[str, Lineage]) -> Lineage:
    """The whole model that a name stands for, with the adapters on it."""
    maker = earlier.get(model.removeprefix("@")) if model.startswith("@") else None
    if maker is None or maker.finetuning.finetuning_type != "lora" or maker.do == "export":
        return Lineage(model)
    return Lineage(lineages[maker.name].whole, with_own(maker, lineages[maker.name]))


def with_own(maker: ResolvedStep, start: Lineage) -> tuple[str, ...]:
    """The adapters on what a step made: those merged before it, and its own, which took the place of the one it went on with."""
    return (*start.merged, f"@{maker.name}")
