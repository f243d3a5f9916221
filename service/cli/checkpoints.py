"""finebits checkpoints JOB"""

from typing import TYPE_CHECKING, Any

import typer

from service.cli.connection import connected
from service.cli.job_id import JobId
from service.cli.measured import number
from service.cli.screen import Screen

if TYPE_CHECKING:
    from service.client import Checkpoint


def checkpoints(
    context: typer.Context,
    job_id: JobId,
    rank_by: str = typer.Option("", help="A measure, such as cross_entropy: the one to choose comes first."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON, with the files and every measure."),
) -> None:
    """List the checkpoints: how far each had trained, its rank, and whether another gives more for less drift."""
    with connected(context) as client:
        found: list[Any] = [*client.checkpoints(job_id, rank_by=rank_by or None)]
        found += map(_by_its_place, client.measured_checkpoints(job_id, rank_by=rank_by or None))
    screen = Screen()
    if as_json:
        screen.json(found)
    elif not found:
        screen.say("There are no checkpoints yet.")
    elif rank_by:
        columns = ["checkpoint", rank_by, "from the best", "rank", "front"]
        screen.numbers(f"Checkpoints by {rank_by}, ± standard error", columns, [_ranked(one) for one in found])
    else:
        columns = ["checkpoint", "epoch", "cross_entropy", "kl_from_base", "front"]
        screen.numbers("Checkpoints", columns, [_listed(one) for one in found])


def _listed(one: "Checkpoint") -> list[str]:
    values = one.get("metrics") or {}
    measured = [number(values[name], None) if name in values else "" for name in ("cross_entropy", "kl_from_base")]
    epoch = "" if one["epoch"] is None else f"{one['epoch']:.2f}"
    return [_name(one), epoch, *measured, _front(one)]


def _by_its_place(one: dict[str, Any]) -> dict[str, Any]:
    """What a step measured, as a checkpoint of that step."""
    return one | {"global_step": one["number"], "epoch": None}


def _ranked(one: "Checkpoint") -> list[str]:
    rank = one.get("rank")
    if rank is None:
        return [_name(one), "–", "", "", _front(one)]
    versus = rank.get("versus_leader") or {}
    apart = number(versus["value"], versus.get("standard_error"), "+") if "value" in versus else "0"
    return [_name(one), number(rank["value"], None), apart, str(rank["place"]), _front(one)]


def _name(one: "Checkpoint") -> str:
    return f"{one['step']} {one['global_step']}"


def _front(one: "Checkpoint") -> str:
    return {True: "yes", False: "no", None: ""}[one.get("pareto")]
