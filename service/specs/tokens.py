"""The secrets of a job: tokens for hubs, and the reward API's. They are taken out of whatever is stored, shown or said."""

from collections.abc import Iterable
from typing import Any, Literal, get_args

from service.specs.job import ResolvedJob

Field = Literal["hf_hub_token", "ms_hub_token", "reward_api_key"]
FIELDS: tuple[Field, ...] = get_args(Field)
HIDDEN = "**********"

# The group that each stands in.
GROUPS: dict[Field, str] = {"hf_hub_token": "model", "ms_hub_token": "model", "reward_api_key": "finetuning"}


def hidden(document: Any) -> Any:
    """The document with stars in place of tokens, wherever it holds them: nested, in steps, or flat."""
    if isinstance(document, list):
        return [hidden(value) for value in document]
    if not isinstance(document, dict):
        return document
    return {key: HIDDEN if key in FIELDS and value is not None else hidden(value) for key, value in document.items()}


def tokens(job: ResolvedJob) -> dict[str, str]:
    """Each step's secrets, in clear, by `key`."""
    given = {key(step.name, field): getattr(getattr(step, GROUPS[field]), field) for step in job.steps for field in FIELDS}
    return {name: token.get_secret_value() for name, token in given.items() if token is not None}


def key(step: str, field: Field) -> str:
    """What a step's token is kept under: that for Hugging Face's hub, which was once the only one, under the step's own name."""
    return step if field == "hf_hub_token" else f"{step}/{field}"


def in_group(group: str) -> set[str]:
    """The secrets of a group: what is left out where its arguments are told."""
    return {field for field in FIELDS if GROUPS[field] == group}


def without(text: str, secrets: Iterable[str]) -> str:
    """The text with stars in place of each of the secrets."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return text
