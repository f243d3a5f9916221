"""What the dashboard's form for jobs is made of: the spec's own schema, each argument's fate, and the examples."""

from functools import cache

import orjson

from service.api.schema import examples
from service.specs.job import JobSpec
from service.specs.ledger import GROUPS, LEDGER
from service.specs.rules import TEMPLATES

# Of jobs alone: a step's own arguments are written as text.
_OF_STEPS = ("Step", "Overrides")


@cache
def form() -> bytes:
    """As JSON: {schema, fates, templates, examples}; a fate stands for each argument that does not simply work."""
    schema = JobSpec.model_json_schema()
    schema["$defs"] = {name: part for name, part in schema["$defs"].items() if not name.endswith(_OF_STEPS)}
    return orjson.dumps(
        {
            "schema": schema,
            "groups": list(GROUPS),
            "fates": {name: {"kind": fate.kind, "why": fate.why} for name, fate in LEDGER.items() if fate.kind != "works"},
            "templates": TEMPLATES,
            "examples": {name: example["value"] for name, example in examples().items()},
        }
    )
