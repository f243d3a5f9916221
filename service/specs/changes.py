"""What may be changed of a job that is there already."""

from typing import Any, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from service.specs.base import Group
from service.specs.job import Label, Name
from service.specs.read import MISPLACED, refusal_of
from service.specs.redaction import credentials_in
from service.specs.refusals import Refusal, SpecRefused


class JobChanges(Group):
    """A merge patch (RFC 7396): what is not named stays, and null takes away."""

    priority: int | None = Field(default=None, ge=-100, le=100, description="Higher goes first. Cannot be null.")
    name: str | None = Field(default=None, min_length=1, max_length=256, description="For people; null takes it away.")
    labels: dict[Name, Label | None] | None = Field(
        default=None, description="Labels to add or replace; one that is null is taken away. Cannot be null."
    )

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        for name in ("priority", "labels"):
            if name in self.model_fields_set and getattr(self, name) is None:
                raise PydanticCustomError("null", "{name} cannot be null", {"name": name})
        if not self.model_fields_set:
            raise PydanticCustomError("nothing", "Give priority, name or labels")
        return self


def read_changes(document: Any) -> JobChanges:
    """Raises SpecRefused with everything that is wrong."""
    if isinstance(document, dict) and (found := list(credentials_in(document, but=()))):
        raise SpecRefused(Refusal(place, MISPLACED) for place in found)
    try:
        return JobChanges.model_validate(document)
    except ValidationError as error:
        raise SpecRefused(refusal_of(details) for details in error.errors(include_url=False)) from None
