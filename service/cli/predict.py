"""finebits predict CHECKPOINT"""

from typing import Any

import typer

from service.cli.as_json import AsJson
from service.cli.connection import connected
from service.cli.earlier import ROWS, checkpoint_name, reading_of, steps_of
from service.cli.following import queued
from service.cli.screen import Screen


def predict(
    context: typer.Context,
    checkpoint: str = typer.Argument(metavar="CHECKPOINT", help="job-.../sft/40, or job-.../sft for its last."),
    dataset: str | None = typer.Option(None, help="Its rows; those that the checkpoint's step held out, when not given."),
    max_samples: int | None = typer.Option(None, min=1, help="Only the first rows."),
    max_new_tokens: int | None = typer.Option(None, min=1, help="The longest answer."),
    temperature: float | None = typer.Option(None, help="The value used to modulate the next token probabilities."),
    greedy: bool = typer.Option(False, "--greedy", help="Draw nothing: the likeliest tokens."),
    watch: bool = typer.Option(False, "--watch", "-w", help="Show the job until it ends; its end is the exit code."),
    as_json: AsJson = False,
) -> None:
    """Have a checkpoint answer the rows of a data set, and compare with the labels.

    The answers are the artifact generated_predictions.jsonl (`finebits download`), and how near they are `finebits metrics` says.
    """
    name = checkpoint_name(checkpoint)
    given = {"max_new_tokens": max_new_tokens, "temperature": temperature, "do_sample": False if greedy else None}
    with connected(context) as client:
        begun, step = steps_of(client, name)
        document = _document(begun, step, checkpoint, dataset, max_samples)
        document["generating"] = {key: value for key, value in given.items() if value is not None}
        queued(client, client.submit(document), Screen(), watch, as_json)


def _document(
    begun: dict[str, Any], step: dict[str, Any], checkpoint: str, dataset: str | None, max_samples: int | None
) -> dict[str, Any]:
    """A job that reads conversations as the checkpoint's step did; of another data set, every row."""
    rows = {key: step["data"][key] for key in ROWS if step["data"][key] is not None} if dataset is None else {"dataset": dataset}
    data = {key: value for key, value in reading_of(step).items() if key != "train_on_prompt"}
    return {
        "do": "predict",
        "model": {"model_name_or_path": begun["model"]["model_name_or_path"]},
        "data": data | rows | ({"max_samples": max_samples} if max_samples else {}),
        "measures": {"checkpoints": checkpoint},
    }
