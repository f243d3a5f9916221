"""A request's document as one of the models that describe it."""

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from service.specs.read import refusal_of
from service.specs.refusals import SpecRefused

AnyModel = TypeVar("AnyModel", bound=BaseModel)


def read_as(model: type[AnyModel], document: Any) -> AnyModel:
    """Raises SpecRefused."""
    try:
        return model.model_validate(document, strict=True)
    except ValidationError as error:
        raise SpecRefused(refusal_of(details) for details in error.errors(include_url=False)) from None
