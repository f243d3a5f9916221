"""What every group of arguments is: frozen, strict about types, and closed to unknown keys."""

from typing import Annotated, Any, TypeVar, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, create_model
from pydantic_core import PydanticCustomError


class Group(BaseModel):
    """A group of arguments. A misspelt key is an error that names its place, never a silent default."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


def split_commas(value: Any) -> Any:
    """ "q_proj, v_proj" and ["q_proj", "v_proj"] are the same list, kept as a tuple."""
    if isinstance(value, str):
        value = value.split(",")
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return tuple(item.strip() for item in value if item.strip())
    raise PydanticCustomError("comma_list", "Input should be a string with commas, or a list of strings")


CommaList = Annotated[tuple[str, ...], BeforeValidator(split_commas, json_schema_input_type=str | list[str])]

AnyGroup = TypeVar("AnyGroup", bound=Group)


def overrides_of(group: type[Group]) -> type[Group]:
    """The same group with every field optional: what a step may set over its job. Only what was set counts."""
    fields: dict[str, Any] = {}
    for name, field in group.model_fields.items():
        optional = field._copy()
        optional.default = None
        fields[name] = (field.annotation, optional)
    return cast(type[Group], create_model(f"{group.__name__}Overrides", __base__=Group, **fields))


def overridden(group: AnyGroup, overrides: Group | None) -> AnyGroup:
    """`group` with what `overrides` sets. Field types were checked when the overrides were read."""
    if overrides is None:
        return group
    return group.model_copy(update={name: getattr(overrides, name) for name in overrides.model_fields_set})
