"""What an earlier job's step says of how its text is read, for a job that takes up its checkpoint."""

from typing import TYPE_CHECKING, Any

from service.cli.exit_codes import ExitCode
from service.cli.screen import give_up
from service.specs.checkpoint_names import CheckpointName

if TYPE_CHECKING:
    from service.client import Client

_DATA: tuple[str, ...] = ("template", "dataset_dir", "cutoff_len", "reserved_label_len", "train_on_prompt")

# Which rows of it, and which of them were held out.
ROWS = ("dataset", "split", "max_samples", "val_size")


def checkpoint_name(text: str) -> CheckpointName:
    """Ends the command where the text is no checkpoint of an earlier job."""
    name = CheckpointName.read(text)
    if name is None or name.job_id is None:
        give_up(f"{text!r} is no checkpoint of a job: write job-.../sft/40, job-.../sft or job-.../sft/*", ExitCode.USAGE)
    return name


def steps_of(client: "Client", name: CheckpointName) -> tuple[dict[str, Any], dict[str, Any]]:
    """The first step of the checkpoint's job, and the one that made it, each with every argument."""
    assert name.job_id is not None
    steps = client.job(name.job_id)["resolved"]["steps"]
    return steps[0], next((step for step in steps if step["name"] == name.step), steps[0])


def reading_of(step: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `data` with which text is read as the step read its own."""
    data = {name: step["data"][name] for name in _DATA if step["data"][name] is not None}
    stage = step["finetuning"]["stage"]
    for name in ("template", "reserved_label_len") if stage == "pt" else ():
        data.pop(name, None)
    if stage != "sft":
        data.pop("train_on_prompt", None)
    return data


def stage_of(step: dict[str, Any]) -> str:
    """How rows are read: those of ppo and rm are measured as conversations."""
    stage = str(step["finetuning"]["stage"])
    return "sft" if stage in ("ppo", "rm") else stage
