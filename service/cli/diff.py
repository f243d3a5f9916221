"""finebits diff JOB JOB"""

import json
from typing import Any

import typer

from service.cli.as_json import AsJson
from service.cli.connection import connected
from service.cli.job_id import JobId
from service.cli.screen import Screen


def diff(
    context: typer.Context,
    one: JobId,
    other: JobId,
    spec: bool = typer.Option(
        False, "--spec", help="Of the documents as they came, and not of every argument as it is in force."
    ),
    as_json: AsJson = False,
) -> None:
    """Show in which arguments two jobs differ."""
    which = "spec" if spec else "resolved"
    with connected(context) as client:
        jobs: list[dict[str, Any]] = [dict(client.job(job_id)) for job_id in (one, other)]
    found = differences(*(flat(document) for document in without_others_steps(*(job[which] for job in jobs))))
    screen = Screen()
    if as_json:
        screen.json([{"argument": name, one: left, other: right} for name, (left, right) in found.items()])
    elif found:
        screen.pairs("Arguments that differ", [("1", _called(jobs[0])), ("2", _called(jobs[1]))])
        screen.table("", ["argument", "1", "2"], [[name, _shown(*sides), _shown(*sides[::-1])] for name, sides in found.items()])
    else:
        screen.say("They differ in no argument.")


def without_others_steps(one: Any, other: Any) -> tuple[Any, Any]:
    """The documents, in which a step that only one of them has is a word, and not each of its arguments."""
    names = [{step.get("name") for step in document.get("steps") or ()} for document in (one, other)]
    both = names[0] & names[1]

    def short(document: Any) -> Any:
        steps = [
            step if step.get("name") in both else {"name": step.get("name"), "do": step.get("do")} for step in document["steps"]
        ]
        return document | {"steps": steps}

    return tuple(short(document) if document.get("steps") else document for document in (one, other))


def differences(one: dict[str, Any], other: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """By argument, in the order of the first; what a side lacks is None there."""
    names = [*one, *(name for name in other if name not in one)]
    return {name: (one.get(name), other.get(name)) for name in names if one.get(name) != other.get(name)}


def flat(document: Any, place: str = "") -> dict[str, Any]:
    """Arguments by their place, as `--set` takes it; steps by their names."""
    if isinstance(document, dict) and document:
        is_step = place.startswith("steps.") and place.count(".") == 1
        inner = {key: value for key, value in document.items() if not (is_step and key == "name")}
        parts = [flat(value, f"{place}.{key}".lstrip(".")) for key, value in inner.items()]
    elif place == "steps" and isinstance(document, list):
        parts = [flat(step, f"steps.{step.get('name', index)}") for index, step in enumerate(document)]
    else:
        return {place: document}
    return {name: value for part in parts for name, value in part.items()}


def _called(job: Any) -> str:
    return f"{job['id']} {job['name'] or ''}".rstrip()


def _shown(value: Any, other: Any) -> str:
    """As JSON has it, so that a text and a number that look alike do not."""
    return value if isinstance(value, str) and not isinstance(other, int | float) else json.dumps(value, ensure_ascii=False)
