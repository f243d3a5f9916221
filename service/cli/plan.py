"""What a dry run answers, for people: the steps with their numbers, and the memory of each part."""

from typing import TYPE_CHECKING

from service.cli.screen import Screen

if TYPE_CHECKING:
    from service.client import DryRun
    from service.clients.answers import PlannedStep

COLUMNS = ["step", "does", "rows", "trained on", "held out", "updates", "parameters", "of them train", "memory"]


def show_plan(screen: Screen, plan: "DryRun") -> None:
    """Prints it, with why a number is not known."""
    screen.table("What would run", COLUMNS, [_row(step) for step in plan["steps"]])
    for step in plan["steps"]:
        memory = step.get("memory")
        if memory:
            parts = [(name, _gigabytes(value)) for name, value in memory.items() if isinstance(value, int) and value]
            screen.pairs(f"Memory of {step['name']}, of one GPU at its peak, estimated", parts)
        for name, why in (step.get("why_unknown") or {}).items():
            screen.say(f"{step['name']}: {name} is not known. {why}")
    for notice in plan.get("notices", []):
        screen.say(f"{notice['pointer']}: {notice['detail']}")


def _row(step: "PlannedStep") -> list[str]:
    does = step["do"] if step["do"] != "train" else f"{step['stage']} {step['finetuning_type']}"
    rows = [step["rows"], step["training_rows"], step["validation_rows"], step["updates"]]
    numbers = [*rows, step["parameters"], step["trainable_parameters"]]
    memory = step.get("memory")
    return [step["name"], does, *(_number(one) for one in numbers), "" if memory is None else _gigabytes(memory["peak"])]


def _number(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


def _gigabytes(value: int) -> str:
    return f"{value / 1e9:.3g} GB"
