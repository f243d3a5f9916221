"""The bodies of this door for the OpenAPI document, which endpoints read themselves."""

from typing import Any


def body_of(name: str) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}}


def _form(**properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


_BYTES = {"type": "string", "format": "binary"}

_FILE = {"type": "string", "description": "The id of a file of the purpose fine-tune, or the name of a data set."}

# What stands there by OpenAI's names; every argument of a job may stand beside it.
JOB_BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["model", "training_file"],
                "properties": {
                    "model": {"type": "string"},
                    "training_file": _FILE,
                    "validation_file": _FILE,
                    "method": {"type": "object"},
                    "hyperparameters": {"type": "object"},
                    "suffix": {"type": "string"},
                    "seed": {"type": "integer"},
                    "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
                },
                "additionalProperties": True,
            }
        }
    },
}

FILE_FORM = _form(file=_BYTES, purpose={"type": "string"})
PART_FORM = _form(data=_BYTES)
