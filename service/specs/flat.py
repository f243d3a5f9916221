"""A flat argument file, such as LLaMA-Factory's, read as the same job.

Its keys are argument names without their groups. A few belong to its own command line rather than to a job; each of those is
either met by what this service does (and noted), or refused with the reason.
"""

from typing import Any

from service.specs.ledger import GROUPS, Notice
from service.specs.refusals import Place, Refusal

# The group of each argument. Where two groups have the name, the later one here is meant: a training file's `seed` is
# training's, its `dataset` is what it trains on, and its `task` is a benchmark.
GROUP_OF = {
    field: group
    for group in ("resources", "export", "measures", "evaluation", "generating", "finetuning", "data", "model", "training")
    for field in GROUPS[group].model_fields
}

# Commands and paths of a command line: (the values that mean what this service does anyway, what it does).
COMMAND_LINE: dict[str, tuple[tuple[Any, ...], str]] = {
    "do_train": ((True,), "A job trains; there is nothing else to switch on."),
    "do_eval": ((True, False), "Every checkpoint is measured on held-out text."),
    "do_predict": ((False,), "A flat file trains or predicts: leave do_train out, or give both as the steps of a job."),
    "predict_with_generate": ((False,), "Checkpoints are measured, and write nothing: predictions are a job with do_predict."),
    "overwrite_output_dir": ((True, False), "Every attempt writes into a folder of its own; nothing is overwritten."),
    "report_to": (("none", None, [], ["none"]), "The training series is served by GET /jobs/{id}/metrics/series."),
    "ddp_timeout": ((int,), "There is one process, so no timeout between processes applies."),
    "resume_from_checkpoint": ((None, False), "A job resumes by itself, from its own last complete checkpoint."),
    "save_only_model": ((False,), "Checkpoints carry the optimiser, so that a job that dies can go on."),
    "export_device": (("cpu", "cuda", "auto"), "Adapters are merged in the host's memory."),
    "trust_remote_code": ((False,), "Code that comes with a model is never run."),
}

# The same in a file that predicts.
PREDICTING: dict[str, tuple[tuple[Any, ...], str]] = {
    "do_train": ((False,), "The job predicts, and trains nothing."),
    "do_predict": ((True,), "An answer is written to every row: generated_predictions.jsonl, among the job's artifacts."),
    "predict_with_generate": ((True,), "Predictions are generated; there is no other way."),
}

_OUTPUT_DIR = "The service chooses where a job writes (GET /jobs/{id}/artifacts); the path given is kept as a label."


def is_flat(document: dict[str, Any]) -> bool:
    """No group is given as a group, and some key is an argument's name."""
    known = [key for key in document if key in GROUP_OF or key in COMMAND_LINE or key == "output_dir"]
    return bool(known) and not any(isinstance(document.get(group), dict) for group in GROUPS) and "steps" not in document


def nest(document: dict[str, Any]) -> tuple[dict[str, Any], dict[Place, Place], list[Refusal], list[Notice]]:
    """The nested document, where each of its places stood in the flat one, what is refused and what is to be known."""
    nested: dict[str, Any] = {}
    places: dict[Place, Place] = {}
    refusals: list[Refusal] = []
    notices: list[Notice] = []
    predicts = document.get("do_predict") is True and document.get("do_train") is not True
    command_line = COMMAND_LINE | (PREDICTING if predicts else {})
    if predicts:
        nested["do"] = "predict"
    for key, value in document.items():
        group = GROUP_OF.get(key)
        if key == "seed" and "task" in document:
            group = "evaluation"
        if key == "output_dir":
            places[("labels", key)] = (key,)
            notices.append(Notice((key,), _OUTPUT_DIR))
        elif key in command_line:
            fits, why = command_line[key]
            if _fits(value, fits):
                notices.append(Notice((key,), why))
            else:
                refusals.append(Refusal((key,), why))
        elif key in GROUPS:
            refusals.append(Refusal((key,), f"{key} is a group of arguments, an object; or leave it out and name its arguments."))
        elif group is None:
            nested[key] = value
        else:
            nested.setdefault(group, {})[key] = value
            places[(group, key)] = (key,)
    if _only_exports(document):
        nested["do"] = "export"
        notices.append(Notice(("export_dir",), "There is an export_dir and no dataset to train on, so the job exports."))
    labels = document.get("labels", {})
    if "output_dir" in document and isinstance(labels, dict):
        nested["labels"] = {**labels, "output_dir": document["output_dir"]}
    return nested, places, refusals, notices


def _only_exports(document: dict[str, Any]) -> bool:
    """As LLaMA-Factory's files for its command export are."""
    return document.get("export_dir") is not None and not {"do", "do_train", "stage", "dataset"} & document.keys()


def _fits(value: Any, fits: tuple[Any, ...]) -> bool:
    """Whether it is one of these values, or of one of these types; 1 is not true, and true is not a number."""
    return type(value) in fits or any(type(value) is type(fit) and value == fit for fit in fits)
