"""Documents with defaults: the smallest job that is accepted, and the same with something changed."""

from typing import Any

from service.specs.read import read_job
from service.specs.refusals import SpecRefused


def a_job(**groups: Any) -> dict[str, Any]:
    """A supervised job on one data set. `model` and `data` are added to, other keys stand as given. pt has no template."""
    model = {"model_name_or_path": "tiny"}
    data = {"template": "chatml", "dataset": "letters"}
    if isinstance(groups.get("finetuning"), dict) and groups["finetuning"].get("stage") == "pt":
        del data["template"]
    merged: dict[str, Any] = {"model": model, "data": data}
    for key, value in groups.items():
        merged[key] = {**merged[key], **value} if key in merged and isinstance(value, dict) else value
    return merged


def a_flat_job(**arguments: Any) -> dict[str, Any]:
    return {"model_name_or_path": "tiny", "template": "chatml", "dataset": "letters", **arguments}


def without(document: dict[str, Any], group: str, field: str) -> dict[str, Any]:
    return {**document, group: {key: value for key, value in document[group].items() if key != field}}


def refusals_of(document: Any) -> list[tuple[str, str]]:
    """(pointer, sentence) of every refusal; none where the document is accepted."""
    try:
        read_job(document)
    except SpecRefused as error:
        refused = error
    else:
        return []
    assert refused.refusals, "refused without a reason"
    return [(refusal.pointer, refusal.detail) for refusal in refused.refusals]


def pointers_of(document: Any) -> list[str]:
    return [pointer for pointer, _ in refusals_of(document)]
