"""finebits measure CHECKPOINT... --dataset DATASET"""

from typing import TYPE_CHECKING, Any

import typer

from service.cli.as_json import AsJson
from service.cli.connection import connected
from service.cli.earlier import checkpoint_name, reading_of, stage_of, steps_of
from service.cli.following import queued
from service.cli.screen import Screen

if TYPE_CHECKING:
    from service.client import Client
    from service.specs.checkpoint_names import CheckpointName


def measure(
    context: typer.Context,
    checkpoints: list[str] = typer.Argument(metavar="CHECKPOINT...", help="job-.../sft/40, job-.../sft or job-.../sft/*."),
    dataset: str = typer.Option(..., help="What to measure on; several with commas."),
    names: str | None = typer.Option(None, help="Which measures; the default report when not given."),
    model: str | None = typer.Option(None, help="What to compare with; if not given, what the first one's job began with."),
    watch: bool = typer.Option(False, "--watch", "-w", help="Show the job until it ends; its end is the exit code."),
    as_json: AsJson = False,
) -> None:
    """Measure checkpoints of earlier jobs on any data set; nothing is trained."""
    first = checkpoint_name(checkpoints[0])
    with connected(context) as client:
        document = _document(client, first, checkpoints, dataset)
        if names is not None:
            document["measures"]["names"] = names
        if model is not None:
            document["model"] = {"model_name_or_path": model}
        queued(client, client.submit(document), Screen(), watch, as_json)


def _document(client: "Client", first: "CheckpointName", checkpoints: list[str], dataset: str) -> dict[str, Any]:
    """A job that reads text as the first checkpoint's step did, and compares with what that one's job began with."""
    begun, step = steps_of(client, first)
    return {
        "do": "measure",
        "model": {"model_name_or_path": begun["model"]["model_name_or_path"]},
        "data": reading_of(step),
        "finetuning": {"stage": stage_of(step)},
        "measures": {"checkpoints": checkpoints, "dataset": dataset},
    }
