"""OpenAI's request for a fine-tuning job as a document of ours, and the places in it that ours are told by.

Any argument that a job has may stand beside OpenAI's keys, by its own name or in its group; it wins over what they would make it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from service.api.openai.hyperparameters import BETA, EPOCHS, auto_batch_size, base_rate, batch_arguments
from service.specs.flat import GROUP_OF
from service.specs.ledger import GROUPS
from service.specs.refusals import Place, Refusal, SpecRefused

# OpenAI's methods, and our stages by their own names.
STAGES = {"supervised": "sft", "dpo": "dpo", "sft": "sft", "pt": "pt", "rm": "rm", "ppo": "ppo"}
METHODS = {"sft": "supervised"}

# OpenAI's keys that have one argument of ours.
PLAIN: dict[str, tuple[str, ...]] = {
    "model": ("model", "model_name_or_path"),
    "training_file": ("data", "dataset"),
    "validation_file": ("measures", "dataset"),
    "seed": ("training", "seed"),
    "suffix": ("name",),
    "metadata": ("labels",),
}
OTHER = ("method", "hyperparameters", "integrations")


@dataclass(frozen=True)
class Known:
    """What must be looked up to answer: each raises SpecRefused where it finds nothing that it could."""

    model: Callable[[str], str]  # the place of a model by its name
    template: Callable[[str], str]  # what the model is spoken to with
    rows: Callable[[Any], int | None]  # of what is named as training_file


@dataclass
class Asked:
    """`document` is a job's, nested; `places` says where each of its arguments stood in the request."""

    document: dict[str, Any] = field(default_factory=dict)
    places: dict[Place, Place] = field(default_factory=dict)

    def set(self, to: tuple[str, ...], value: Any, at: Place) -> None:
        """An argument, or a key of the document itself. What was set before stands."""
        if to in self.places:
            return
        into = self.document if len(to) == 1 else self.document.setdefault(to[0], {})
        into[to[-1]] = value
        self.places[to] = at

    def get(self, group: str, name: str, default: Any = None) -> Any:
        return self.document.get(group, {}).get(name, default)

    def moved(self, refused: SpecRefused) -> SpecRefused:
        """The same refusals, by their places in the request."""
        return SpecRefused([Refusal(self._moved(refusal.place), refusal.detail) for refusal in refused.refusals])

    def _moved(self, place: Place) -> Place:
        for length in (2, 1):
            if place[:length] in self.places:
                return self.places[place[:length]] + place[length:]
        return place[1:] if len(place) > 1 and place[0] in GROUPS else place


def asked_for(body: Any, known: Known) -> Asked:
    """Raises SpecRefused for what is wrong with OpenAI's own keys; the rest is for whoever reads the document."""
    if not isinstance(body, dict):
        raise SpecRefused([Refusal((), "A fine-tuning job is an object with model and training_file.")])
    asked = Asked()
    stage, given = _method(body)
    _pass_through(asked, body)
    _pass_hyperparameters_through(asked, given)
    asked.set(("finetuning", "stage"), stage, ("method", "type"))
    refusals = [*_required(body), *_integrations(asked, body), *_plain(asked, body)]
    try:
        _model(asked, body, known)
    except SpecRefused as refused:
        refusals += refused.refusals
    refusals += _hyperparameters(asked, given, known)
    if refusals:
        raise SpecRefused(refusals)
    if stage != "ppo":  # whose buffers reach over the end of an epoch; the last update makes a checkpoint anyway
        asked.set(("training", "save_strategy"), "epoch", ("save_strategy",))
    return asked


def _method(body: dict[str, Any]) -> tuple[str, dict[Place, Any]]:
    """(the method's stage, the hyperparameters with their places)."""
    method = body.get("method") or {}
    _require_object(("method",), method)
    kind = method.get("type", "supervised")
    if kind not in STAGES:
        why = " Its graders are OpenAI's own; ppo learns from a reward model." if kind == "reinforcement" else ""
        raise SpecRefused([Refusal(("method", "type"), f"There is no method {kind!r}; there are {', '.join(STAGES)}.{why}")])
    own = method.get(kind) or {}
    _require_object(("method", kind), own)
    unknown: list[Place] = [("method", key) for key in method if key not in ("type", kind)]
    unknown += [("method", kind, key) for key in own if key != "hyperparameters"]
    if unknown:
        raise SpecRefused([Refusal(place, "There is no such key here.") for place in unknown])
    beside, within = body.get("hyperparameters") or {}, own.get("hyperparameters") or {}
    _require_object(("hyperparameters",), beside)
    _require_object(("method", kind, "hyperparameters"), within)
    found: dict[Place, Any] = {("hyperparameters", name): value for name, value in beside.items()}
    found |= {("method", kind, "hyperparameters", name): value for name, value in within.items()}
    return STAGES[kind], found


def _require_object(place: Place, value: Any) -> None:
    if not isinstance(value, dict):
        raise SpecRefused([Refusal(place, "Input should be an object.")])


def _pass_through(asked: Asked, body: dict[str, Any]) -> None:
    """Every key that is not OpenAI's: a group, an argument by its name, or what a job has besides, such as steps."""
    for key, value in body.items():
        if key in GROUPS and isinstance(value, dict):
            for name, item in value.items():
                asked.set((key, name), item, (key, name))
        elif key in PLAIN or key in OTHER:
            continue
        elif key in GROUP_OF:
            asked.set((GROUP_OF[key], key), value, (key,))
        else:
            asked.set((key,), value, (key,))


_HYPERPARAMETERS = ("n_epochs", "batch_size", "learning_rate_multiplier", "beta")


def _pass_hyperparameters_through(asked: Asked, given: dict[Place, Any]) -> None:
    for place, value in given.items():
        name = str(place[-1])
        if name not in _HYPERPARAMETERS:
            asked.set((GROUP_OF[name], name) if name in GROUP_OF else (name,), value, place)


def _required(body: dict[str, Any]) -> list[Refusal]:
    has_groups = isinstance(body.get("model"), dict), isinstance(body.get("data"), dict) or "dataset" in body
    needed = [name for name, has_own in zip(("model", "training_file"), has_groups, strict=True) if not has_own]
    return [Refusal((name,), f"{name} is missing.") for name in needed if body.get(name) is None and "steps" not in body]


# What OpenAI has of a run in Weights & Biases.
_WANDB = {"project": "project", "name": "run_name", "entity": "wandb_entity", "tags": "run_tags"}


def _integrations(asked: Asked, body: dict[str, Any]) -> list[Refusal]:
    """One at the most, with Weights & Biases; to where is the operator's to say."""
    given = body.get("integrations") or []
    if not isinstance(given, list) or len(given) > 1:
        return [Refusal(("integrations",), "integrations must be a list of one: the only kind is wandb.")]
    for number, one in enumerate(given):
        place: Place = ("integrations", number)
        if not isinstance(one, dict) or one.get("type") != "wandb" or not isinstance(one.get("wandb"), dict):
            return [Refusal(place, 'An integration is {"type": "wandb", "wandb": {"project": ...}}; there is no other kind.')]
        unknown: list[Place] = [(*place, key) for key in one.keys() - {"type", "wandb"}]
        unknown += [(*place, "wandb", key) for key in one["wandb"].keys() - _WANDB.keys()]
        if unknown:
            return [Refusal(where, "There is no such key here.") for where in sorted(unknown, key=str)]
        if not isinstance(one["wandb"].get("project"), str):
            return [Refusal((*place, "wandb", "project"), "project is missing: the name of a project.")]
        asked.set(("training", "report_to"), ["wandb"], (*place, "type"))
        for key, value in one["wandb"].items():
            if value is not None:
                asked.set(("training", _WANDB[key]), value, (*place, "wandb", key))
    return []


def _plain(asked: Asked, body: dict[str, Any]) -> list[Refusal]:
    refusals = []
    for key, to in PLAIN.items():
        value = body.get(key)
        if value is None or key == "model" or (key in GROUPS and isinstance(value, dict)):
            continue
        if key.endswith("_file") and not isinstance(value, str):
            refusals.append(Refusal((key,), f"{key} must be the id of a file, or the name of a data set."))
            continue
        asked.set(to, value, (key,))
    return refusals


def _model(asked: Asked, body: dict[str, Any], known: Known) -> None:
    name = body.get("model")
    if isinstance(name, str):
        asked.set(PLAIN["model"], known.model(name), ("model",))
    elif name is not None and not isinstance(name, dict):
        raise SpecRefused([Refusal(("model",), "model must be the name of a model.")])
    named = asked.get("model", "model_name_or_path")
    if isinstance(named, str) and asked.get("finetuning", "stage") != "pt":
        asked.set(("data", "template"), known.template(named), ("template",))


def _hyperparameters(asked: Asked, given: dict[Place, Any], known: Known) -> list[Refusal]:
    values = {str(place[-1]): (place, value) for place, value in given.items()}
    refusals: list[Refusal] = []

    def number(name: str, kinds: tuple[type, ...], auto: Any) -> Any:
        place, value = values.get(name, (("hyperparameters", name), None))
        if value in (None, "auto"):
            return auto, place
        if type(value) not in kinds or value <= 0:
            whole = "a whole number" if kinds == (int,) else "a number"
            refusals.append(Refusal(place, f"{name} must be {whole} above 0, or auto."))
            return auto, place
        return value, place

    epochs, place = number("n_epochs", (int, float), EPOCHS)
    asked.set(("training", "num_train_epochs"), float(epochs), place)
    size, place = number("batch_size", (int,), auto_batch_size(known.rows(asked.get("data", "dataset"))))
    for argument, value in batch_arguments(size).items():
        asked.set(("training", argument), value, place)
    multiplier, place = number("learning_rate_multiplier", (int, float), 1)
    stage, kind = asked.get("finetuning", "stage"), asked.get("finetuning", "finetuning_type", "lora")
    asked.set(("training", "learning_rate"), multiplier * base_rate(str(stage), str(kind)), place)
    beta, place = number("beta", (int, float), BETA)
    if stage == "dpo":
        asked.set(("finetuning", "dpo_beta"), float(beta), place)
    elif "beta" in values:
        refusals.append(Refusal(place, "beta is dpo's; this method has none."))
    return refusals
