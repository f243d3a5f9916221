"""Hubs' tokens: the only secrets of a job. They are taken out of whatever is stored, shown or said."""

from typing import Any

from service.specs.job import ResolvedJob

FIELDS = ("hf_hub_token", "ms_hub_token")
HIDDEN = "**********"


def hidden(document: Any) -> Any:
    """The document with stars in place of tokens, wherever it holds them: nested, in steps, or flat."""
    if isinstance(document, list):
        return [hidden(value) for value in document]
    if not isinstance(document, dict):
        return document
    return {key: HIDDEN if key in FIELDS and value is not None else hidden(value) for key, value in document.items()}


def tokens(job: ResolvedJob) -> dict[str, str]:
    """Each step's token for the hub, in clear."""
    given = {step.name: step.model.hf_hub_token for step in job.steps}
    return {name: token.get_secret_value() for name, token in given.items() if token is not None}
