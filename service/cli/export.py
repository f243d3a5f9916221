"""finebits export CHECKPOINT --to NAME"""

from typing import Any

import typer

from service.cli.as_json import AsJson
from service.cli.connection import connected
from service.cli.earlier import ROWS, checkpoint_name, reading_of, stage_of, steps_of
from service.cli.following import queued
from service.cli.screen import Screen


def export(
    context: typer.Context,
    checkpoint: str = typer.Argument(metavar="CHECKPOINT", help="job-.../sft/40, or job-.../sft for its last."),
    to: str | None = typer.Option(None, help="Its name among the operator's exports; the job's artifacts have it anyway."),
    adapter_only: bool = typer.Option(False, "--adapter-only", help="The adapter by itself."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace what lies under the name."),
    watch: bool = typer.Option(False, "--watch", "-w", help="Show the job until it ends; its end is the exit code."),
    as_json: AsJson = False,
) -> None:
    """Write a checkpoint as a folder that other programs load, and prove that it is what was trained."""
    name = checkpoint_name(checkpoint)
    with connected(context) as client:
        _, step = steps_of(client, name)
        job = client.submit(_document(step, checkpoint, to, adapter_only, overwrite))
        queued(client, job, Screen(), watch, as_json)


def _document(step: dict[str, Any], checkpoint: str, to: str | None, adapter_only: bool, overwrite: bool) -> dict[str, Any]:
    """The certificate compares the two models on the rows that the step held out."""
    rows = {name: step["data"][name] for name in ROWS if step["data"][name] is not None}
    wishes = {"adapter_only": adapter_only, "overwrite": overwrite}
    return {
        "do": "export",
        "model": {"model_name_or_path": checkpoint} | ({"export_dir": to} if to else {}),
        "data": reading_of(step) | rows,
        "finetuning": {"stage": stage_of(step)},
        "export": {name: True for name, is_wished in wishes.items() if is_wished},
    }
