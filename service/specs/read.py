"""From a document, nested or flat, to a job that can run, or to everything that is wrong with it at once."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from service.specs import flat, ledger, rules
from service.specs.job import JobSpec, ResolvedJob, resolve, set_by
from service.specs.ledger import Notice
from service.specs.redaction import credentials_in
from service.specs.refusals import Place, Refusal, SpecRefused
from service.specs.tokens import FIELDS


@dataclass(frozen=True)
class ReadJob:
    """A job as it was asked for, as it will run, and what its client should know."""

    spec: JobSpec
    resolved: ResolvedJob
    notices: tuple[Notice, ...]


MISPLACED = "This looks like a key or a token, and would be stored and shown here. Those are for the arguments that are named so."

# A check beyond the document, such as whether the model is there. Its places are those of the nested form (`place_of`).
Check = Callable[[JobSpec, ResolvedJob], Iterable[Refusal]]


def read_job(document: Any, also: Check = lambda spec, resolved: ()) -> ReadJob:
    """Raises SpecRefused with every refusal found; types first, since rules and `also` need whole groups to read."""
    if not isinstance(document, dict):
        raise SpecRefused([Refusal((), f"A job is an object with keys such as model and data, not {_kind(document)}.")])
    found = [Refusal(place, "Text may not hold a null byte.") for place in _null_bytes(document)]
    found += [Refusal(place, MISPLACED) for place in credentials_in(document, but=FIELDS)]
    try:
        read = _read_flat(document, also) if flat.is_flat(document) else _read_nested(document, also)
    except SpecRefused as refused:
        raise SpecRefused([*found, *refused.refusals]) from None
    if found:
        raise SpecRefused(found)
    return read


def _read_flat(document: dict[str, Any], also: Check) -> ReadJob:
    nested, places, refusals, notices = flat.nest(document)
    try:
        read = _read_nested(nested, also)
    except SpecRefused as refused:
        moved = [Refusal(_moved(refusal.place, places), refusal.detail) for refusal in refused.refusals]
        raise SpecRefused([*refusals, *moved]) from None
    if refusals:
        raise SpecRefused(refusals)
    moved_notices = [Notice(_moved(notice.place, places), notice.detail) for notice in read.notices]
    return ReadJob(read.spec, read.resolved, (*notices, *moved_notices))


def _read_nested(document: dict[str, Any], also: Check) -> ReadJob:
    try:
        spec = JobSpec.model_validate(document)
    except ValidationError as error:
        raise SpecRefused(refusal_of(details) for details in error.errors(include_url=False)) from None
    resolved = resolve(spec)
    found = [
        *ledger.refusals(spec),
        *rules.a_fraction_is_of_a_gpu(spec),
        *rules.several_gpus_train(spec, resolved),
        *rules.parts_are_of_several_gpus(spec, resolved),
        *rules.unsloth_is_alone(spec, resolved),
        *rules.names_are_unique(spec),
        *rules.results_do_not_meet(spec, resolved),
        *rules.references_point_back(spec, resolved),
        *rules.rewards_come_from_rm(spec, resolved),
        *rules.exports_have_names_of_their_own(spec, resolved),
        *rules.adapter_only_is_one_adapter(spec, resolved),
        *rules.rewards_write_nothing(spec, resolved),
        *rules.messages_are_answered(spec, resolved),
        *rules.conditions_hold(spec, resolved),
        *broken_rules(spec, resolved),
        *also(spec, resolved),
    ]
    if found:
        raise SpecRefused(dict.fromkeys(found))
    return ReadJob(spec, resolved, tuple(ledger.notices(spec)))


def broken_rules(spec: JobSpec, resolved: ResolvedJob) -> list[Refusal]:
    """What may not go together in any of the steps."""
    return [
        Refusal(place_of(spec, index, argument), why)
        for index, step in enumerate(resolved.steps)
        for rule in rules.RULES
        for argument, why in rule(step)
    ]


def place_of(spec: JobSpec, index: int, argument: str) -> Place:
    """Where the document sets an argument of a step: in the step itself, or in the job's group."""
    group, field, *deeper = argument.split(".")
    within: Place = tuple(int(key) if key.isdigit() else key for key in deeper)
    if spec.steps and field in set_by(spec.steps[index], group):
        return ("steps", index, group, field, *within)
    return (group, field, *within)


# Pydantic's sentences that speak of Python, said of JSON.
_SENTENCES = {
    "extra_forbidden": "There is no such argument.",
    "model_type": "Input should be an object.",
    "dict_type": "Input should be an object.",
    "tuple_type": "Input should be a list.",
}


def refusal_of(details: ErrorDetails) -> Refusal:
    """What pydantic found, as we say it."""
    place = details["loc"]
    if place[:1] == ("labels",):
        place = place[:2]  # pydantic adds "[key]" where the label's name is what is wrong
    return Refusal(place, _SENTENCES.get(details["type"], f"{details['msg']}."))


def _moved(place: Place, places: dict[Place, Place]) -> Place:
    """The same place in a flat document: a group's key stands there without its group."""
    if place == ("model",):
        return ("model_name_or_path",)
    if place[:2] in places:
        return places[place[:2]] + place[2:]
    return place[1:] if place[:1] and place[0] in ledger.GROUPS else place


def _null_bytes(document: dict[str, Any]) -> Iterator[Place]:
    """Where a text has a null byte: no database column and no file's name takes one."""
    todo: list[tuple[Place, Any]] = [((), document)]
    while todo:
        place, value = todo.pop()
        if isinstance(value, str) and "\0" in value:
            yield place
        elif isinstance(value, dict):
            todo += [((*place, key), value[key]) for key in reversed(value)]
        elif isinstance(value, list):
            todo += [((*place, index), value[index]) for index in reversed(range(len(value)))]


def _kind(document: Any) -> str:
    names = {type(None): "nothing", list: "a list", str: "a string", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(document), type(document).__name__)
