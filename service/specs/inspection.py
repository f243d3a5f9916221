"""What may be asked of a data set before it is trained on, and the job that answers it."""

from typing import Any, Literal

from pydantic import Field

from service.specs.base import CommaList, Group
from service.specs.refusals import Place

# By what a data set holds.
_LEARNED_AS = {
    "texts": {"stage": "pt"},
    "conversations": {"stage": "sft"},
    "pairs": {"stage": "dpo"},
    "labels": {"stage": "dpo", "dpo_loss": "kto"},
}
_DATA = ("template", "cutoff_len", "dataset_dir", "split", "max_samples", "val_size", "train_on_prompt", "overlength")


class Inspection(Group):
    """The body of POST /datasets/{name}/inspect. What is not given is as in a job."""

    model: str | None = Field(default=None, min_length=1, description="Whose tokenizer reads the rows; no weights are loaded.")
    template: str | None = Field(default=None, description="How conversations become text; default where it is not given.")
    cutoff_len: int = Field(default=1024, ge=2, description="Beyond which a row is cut, or left out.")
    dataset_dir: str = Field(default="data", description="The folder whose dataset_info.json lists the data set.")
    split: str = Field(default="train", description="Which split of it.")
    max_samples: int | None = Field(default=None, ge=1, description="Only the first so many rows.")
    val_size: float = Field(default=0, ge=0, description="Rows that a job would hold out: how much of them leaks is looked at.")
    held_out: CommaList | None = Field(default=None, description="Or other data sets, which a job would measure on.")
    train_on_prompt: bool = Field(default=False, description="Whether prompts would be trained, too.")
    overlength: Literal["truncate", "drop"] = Field(default="truncate", description="What becomes of a row that is too long.")


def document_of(name: str, asked: Inspection, holds: str) -> dict[str, Any]:
    """The job, on texts, conversations, pairs or labels. It needs no GPU."""
    data = {field: getattr(asked, field) for field in _DATA if field in asked.model_fields_set}
    if holds != "texts":
        data["template"] = asked.template or "default"
    measures = {} if asked.held_out is None else {"measures": {"dataset": list(asked.held_out)}}
    return {
        "name": f"inspect {name}"[:256],
        "do": "inspect",
        "model": {"model_name_or_path": asked.model},
        "data": {"dataset": [name], **data},
        "finetuning": _LEARNED_AS[holds],
        "resources": {"gpus": 0},
        **measures,
    }


def place_in(place: Place) -> Place:
    """Where the body has what stands at a place of that job; the body as a whole, where it has it nowhere."""
    if place[:1] == ("model",):
        return ("model",)
    if place[:2] == ("measures", "dataset"):
        return ("held_out", *place[2:])
    return place[1:] if place[:1] == ("data",) and place[1:2] != ("dataset",) else ()
