"""The OpenAPI document: the job's schema, which no endpoint's signature says, and the examples, which are files."""

from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.api.access import SCHEME
from service.api.bodies import read_json, read_yaml
from service.api.openai.uploads import Completion, NewUpload
from service.api.problems import Problem
from service.api.scopes import SCOPES
from service.specs import flat
from service.specs.changes import JobChanges
from service.specs.generation import Generation
from service.specs.inspection import Inspection
from service.specs.job import JobSpec
from service.specs.ledger import GROUPS
from service.specs.webhooks import WebhookChanges, WebhookSpec

EXAMPLES = Path(__file__).parents[2] / "examples"

_REFERENCE = "#/components/schemas/{model}"


def examples() -> dict[str, Any]:
    """Every example request there is, by the name of its file."""
    found = {}
    for path in sorted(EXAMPLES.glob("*")) if EXAMPLES.is_dir() else ():
        if path.suffix == ".json":
            found[path.stem] = {"value": read_json(path.read_bytes())}
        elif path.suffix in (".yaml", ".yml"):
            found[path.stem] = {"value": read_yaml(path.read_bytes())}
    return found


_BODY = {
    "schema": {"anyOf": [{"$ref": _REFERENCE.format(model=name)} for name in ("JobSpec", "FlatJob")]},
    "examples": examples(),
}

# The body of POST /jobs, which the endpoint reads itself.
JOB_BODY = {"required": True, "content": {"application/json": _BODY, "application/yaml": _BODY}}

_INSPECTION = {
    "schema": {"$ref": _REFERENCE.format(model="Inspection")},
    "examples": {"instructions": {"value": {"model": "tiny-llama", "template": "alpaca", "cutoff_len": 256, "val_size": 0.1}}},
}

# The body of POST /datasets/{name}/inspect, which may be left out but for the model.
INSPECTION_BODY = {"content": {"application/json": _INSPECTION}}

_GENERATION = {
    "schema": {"$ref": _REFERENCE.format(model="Generation")},
    "examples": {"greedy": {"value": {"prompt": "What says the fox?", "max_new_tokens": 64, "do_sample": False}}},
}

# The body of POST /jobs/{job_id}/checkpoints/{global_step}/generate.
GENERATION_BODY = {"required": True, "content": {"application/json": _GENERATION}}

_CHANGES = {"schema": {"$ref": _REFERENCE.format(model="JobChanges")}, "examples": {"ahead": {"value": {"priority": 10}}}}

# The body of PATCH /jobs/{job_id}.
CHANGES_BODY = {"required": True, "content": {"application/json": _CHANGES, "application/merge-patch+json": _CHANGES}}

_WEBHOOK = {
    "schema": {"$ref": _REFERENCE.format(model="WebhookSpec")},
    "examples": {"ends": {"value": {"url": "https://example.com/hook"}}},
}

# The body of POST /webhooks.
WEBHOOK_BODY = {"required": True, "content": {"application/json": _WEBHOOK}}

_WEBHOOK_CHANGES = {
    "schema": {"$ref": _REFERENCE.format(model="WebhookChanges")},
    "examples": {"off": {"value": {"enabled": False}}},
}

# The body of PATCH /webhooks/{webhook_id}.
WEBHOOK_CHANGES_BODY = {
    "required": True,
    "content": {"application/json": _WEBHOOK_CHANGES, "application/merge-patch+json": _WEBHOOK_CHANGES},
}


# An event of a stream, as all of them are (OpenAPI 3.2's word for what a body repeats). What `data` holds, each operation says.
_EVENT = {
    "type": "object",
    "properties": {
        "data": {"type": "string"},
        "event": {"type": "string"},
        "id": {"type": "string"},
        "retry": {"type": "integer", "minimum": 0},
    },
}


def install(app: FastAPI) -> None:
    """Makes `app.openapi()` know the schemas that stand only in our own hands."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title, version=app.version, description=app.description, tags=app.openapi_tags, routes=app.routes
            )
            components = document.setdefault("components", {})
            components.setdefault("schemas", {}).update(_schemas())
            components["securitySchemes"] = SCHEME
            for operation in (operation for path in document["paths"].values() for operation in path.values()):
                for answer in operation["responses"].values():
                    if "text/event-stream" in answer.get("content", {}):
                        answer["content"]["text/event-stream"] = {"itemSchema": _EVENT}
                if operation["operationId"] in SCOPES:
                    operation["security"] = [{name: [SCOPES[operation["operationId"]]]} for name in SCHEME]
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _schemas() -> dict[str, Any]:
    job = JobSpec.model_json_schema(ref_template=_REFERENCE)
    problem = Problem.model_json_schema(ref_template=_REFERENCE)
    changes = JobChanges.model_json_schema(ref_template=_REFERENCE)
    inspection = Inspection.model_json_schema(ref_template=_REFERENCE)
    generation = Generation.model_json_schema(ref_template=_REFERENCE)
    others = {model.__name__: model.model_json_schema(ref_template=_REFERENCE) for model in (NewUpload, Completion)}
    nested = [document.pop("$defs", {}) for document in (job, problem, generation, *others.values())]
    parts = {name: part for defs in nested for name, part in defs.items()}
    return {
        **parts,
        **others,
        "JobSpec": job,
        "FlatJob": _flat_job(parts),
        "JobChanges": changes,
        "Inspection": inspection,
        "WebhookSpec": WebhookSpec.model_json_schema(ref_template=_REFERENCE),
        "WebhookChanges": WebhookChanges.model_json_schema(ref_template=_REFERENCE),
        "Generation": generation,
        "Problem": problem,
    }


def _flat_job(parts: dict[str, Any]) -> dict[str, Any]:
    """The same arguments without their groups, as LLaMA-Factory's files have them."""
    properties = {field: parts[GROUPS[group].__name__]["properties"][field] for field, group in flat.GROUP_OF.items()}
    description = "The arguments of all groups side by side; name, labels and the commands of a command line may stand there too."
    return {"title": "FlatJob", "type": "object", "description": description, "properties": properties}
