"""finebits workers"""

from typing import TYPE_CHECKING

import typer

from service.cli.as_json import AsJson
from service.cli.connection import connected
from service.cli.screen import Screen

if TYPE_CHECKING:
    from service.client import Slot, Worker


COLUMNS = ["worker", "status", "heard of", "slot", "memory", "temperature", "use", "runs"]


def workers(context: typer.Context, as_json: AsJson = False) -> None:
    """List the workers: each slot with what it runs, its memory, temperature and use."""
    with connected(context) as client:
        found = client.workers()
    screen = Screen()
    if as_json:
        screen.json(found)
    elif found:
        screen.table("Workers", COLUMNS, [row for worker in found for row in rows_of(worker)])
    else:
        screen.say("No worker has reported yet.")


def rows_of(worker: "Worker") -> list[list[str]]:
    """A line for each slot; what is the worker's own stands in the first."""
    heard = worker["heartbeat_at"][:19].replace("T", " ")
    own = [worker["name"], worker["status"], heard]
    lines = [[*(own if index == 0 else ["", "", ""]), *_slot(slot)] for index, slot in enumerate(worker["slots"])]
    return lines or [[*own, "", "", "", "", ""]]


def _slot(slot: "Slot") -> list[str]:
    what = slot["name"] or slot["kind"]
    runs = slot["trouble"] or ", ".join(job["job"] for job in slot["jobs"])
    return [f"{slot['position']} {what}", _memory(slot), _with(slot["temperature_celsius"], "°C"),
            _with(slot["utilization_percent"], "%"), runs]  # fmt: skip


def _memory(slot: "Slot") -> str:
    if slot["memory_bytes"] is None:
        return ""
    used = "?" if slot["memory_used_bytes"] is None else f"{slot['memory_used_bytes'] / 1e9:.1f}"
    return f"{used} of {slot['memory_bytes'] / 1e9:.1f} GB"


def _with(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:.0f} {unit}"
