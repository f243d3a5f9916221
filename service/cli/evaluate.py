"""finebits evaluate CHECKPOINT... --task TASK"""

from typing import Any

import typer

from service.cli.as_json import AsJson
from service.cli.connection import connected
from service.cli.earlier import checkpoint_name, steps_of
from service.cli.following import queued
from service.cli.screen import Screen


def evaluate(
    context: typer.Context,
    checkpoints: list[str] = typer.Argument(metavar="CHECKPOINT...", help="job-.../sft/40, job-.../sft or job-.../sft/*."),
    task: str = typer.Option(..., help="A folder of the operator's tasks, such as mmlu, or lm_eval:NAME."),
    n_shot: int | None = typer.Option(None, min=0, help="How many examples are shown before each question."),
    batch_size: int | None = typer.Option(None, min=1, help="How many questions at a time."),
    cutoff_len: int | None = typer.Option(None, min=1, help="The longest prompt, in tokens; 1024 when not given."),
    lang: str | None = typer.Option(None, help="In which words it is asked: en or zh."),
    watch: bool = typer.Option(False, "--watch", "-w", help="Show the job until it ends; its end is the exit code."),
    as_json: AsJson = False,
) -> None:
    """Ask a checkpoint the questions of a benchmark.

    What its job began with is asked, too, and each two are compared on the same questions: see `finebits metrics`.
    """
    first = checkpoint_name(checkpoints[0])
    asked = {"task": task, "n_shot": n_shot, "batch_size": batch_size, "lang": lang}
    with connected(context) as client:
        begun, _ = steps_of(client, first)
        document: dict[str, Any] = {
            "do": "evaluate",
            "model": {"model_name_or_path": begun["model"]["model_name_or_path"]},
            "evaluation": {key: value for key, value in asked.items() if value is not None},
            "measures": {"checkpoints": checkpoints},
        }
        if cutoff_len is not None:
            document["data"] = {"cutoff_len": cutoff_len}
        queued(client, client.submit(document), Screen(), watch, as_json)
