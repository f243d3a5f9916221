"""finebits measure CHECKPOINT... --dataset DATASET"""

from typing import Any

import typer

from service.cli.connection import connected
from service.cli.following import follow_to_exit
from service.cli.screen import Screen, give_up
from service.client import Client
from service.specs.checkpoint_names import CheckpointName

# What of an earlier step's arguments says how its text is read and what it is compared with.
_DATA = ("template", "dataset_dir", "cutoff_len", "reserved_label_len", "train_on_prompt")


def measure(
    context: typer.Context,
    checkpoints: list[str] = typer.Argument(metavar="CHECKPOINT...", help="job-.../sft/40, job-.../sft or job-.../sft/*."),
    dataset: str = typer.Option(..., help="What to measure on; several with commas."),
    names: str | None = typer.Option(None, help="Which measures; the default report when not given."),
    model: str | None = typer.Option(None, help="What to compare with; if not given, what the first one's job began with."),
    watch: bool = typer.Option(False, "--watch", "-w", help="Show the job until it ends; its end is the exit code."),
) -> None:
    """Measure checkpoints of earlier jobs on any data set; nothing is trained."""
    first = CheckpointName.read(checkpoints[0])
    if first is None or first.job_id is None:
        give_up(f"{checkpoints[0]!r} is no checkpoint of a job: write job-.../sft/40, job-.../sft or job-.../sft/*")
    with connected(context) as client:
        document = _document(client, first, checkpoints, dataset)
        if names is not None:
            document["measures"]["names"] = names
        if model is not None:
            document["model"] = {"model_name_or_path": model}
        job = client.submit(document)
        screen = Screen()
        screen.say(f"{job['id']} is {job['state']}.")
        if watch:
            follow_to_exit(client, job["id"], screen)


def _document(client: Client, first: CheckpointName, checkpoints: list[str], dataset: str) -> dict[str, Any]:
    """A job that reads text as the first checkpoint's step did, and compares with what that one's job began with."""
    assert first.job_id is not None
    resolved: Any = client.job(first.job_id)["resolved"]
    step = next((one for one in resolved["steps"] if one["name"] == first.step), resolved["steps"][0])
    is_pt = step["finetuning"]["stage"] == "pt"
    data = {name: step["data"][name] for name in _DATA if step["data"][name] is not None}
    for name in ("template", "reserved_label_len") if is_pt else ():
        data.pop(name, None)
    if step["finetuning"]["stage"] != "sft":
        data.pop("train_on_prompt", None)
    stage = step["finetuning"]["stage"]
    return {
        "do": "measure",
        "model": {"model_name_or_path": resolved["steps"][0]["model"]["model_name_or_path"]},
        "data": data,
        "finetuning": {"stage": "sft" if stage in ("ppo", "rm") else stage},
        "measures": {"checkpoints": checkpoints, "dataset": dataset},
    }
