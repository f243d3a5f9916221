"""The application as a whole: what it imports, what it declares, and how it starts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from service.api import health, sessions
from service.api import schema as api_schema
from service.app import KEYED, create_app, from_environment
from service.dispatch import Doorbell
from service.settings import Settings
from service.specs.job import JobSpec
from service.specs.ledger import GROUPS
from service.store.session import Database

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    settings = Settings(home=tmp_path_factory.mktemp("home"))
    return create_app(settings, Database(settings.database_url), Doorbell(settings.broker_url)).openapi()


def operations(document):
    return [operation for found in document["paths"].values() for operation in found.values()]


def references(node):
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for child in node.values():
            yield from references(child)
    elif isinstance(node, list):
        for child in node:
            yield from references(child)


def test_the_service_needs_neither_torch_nor_numpy_nor_the_worker():
    script = "import sys, service.app; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True, cwd=ROOT).stdout.split()
    assert "fastapi" in loaded
    assert not {"torch", "numpy", "transformers", "worker"} & set(loaded)


def test_it_is_made_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("FINEBITS_HOME", str(tmp_path))
    app = from_environment()
    assert app.state.settings.models_root == tmp_path / "models"
    app.state.database.close()


def test_operation_ids_are_the_names_of_functions(document):
    assert document["openapi"].startswith("3.1")
    names = [operation["operationId"] for operation in operations(document)]
    assert len(names) == len(set(names))
    endpoints = {endpoint for router in (health.router, sessions.router, *KEYED) for endpoint in map(_endpoint, router.routes)}
    assert set(names) == endpoints


def _endpoint(route):
    return route.endpoint.__name__


def test_every_reference_leads_somewhere(document):
    schemas = document["components"]["schemas"]
    assert {reference.removeprefix("#/components/schemas/") for reference in references(document)} <= set(schemas)


def test_every_operation_declares_its_errors_as_problems(document):
    for operation in operations(document):
        errors = {status: answer for status, answer in operation["responses"].items() if int(status) >= 400}
        assert {"422", "500", "503"} <= set(errors)
        assert all(list(answer["content"]) == ["application/problem+json"] for answer in errors.values())
        assert operation["operationId"] in ("livez", "readyz", "get_session") or "401" in errors


def test_whatever_is_kept_back_by_a_key_may_be_refused_for_coming_too_often(document):
    assert {one["operationId"] for one in operations(document) if "429" not in one["responses"]} == {"livez", "readyz"}


def test_every_stream_is_declared_as_events(document):
    contents = [answer.get("content", {}) for one in operations(document) for answer in one["responses"].values()]
    streams = [content["text/event-stream"] for content in contents if "text/event-stream" in content]
    assert len(streams) == 4
    for stream in streams:
        assert set(stream) == {"itemSchema"}
        assert set(stream["itemSchema"]["properties"]) == {"data", "event", "id", "retry"}


def test_the_body_of_a_job_is_declared_nested_and_flat(document):
    content = document["paths"]["/jobs"]["post"]["requestBody"]["content"]
    assert set(content) == {"application/json", "application/yaml"}
    schemas = document["components"]["schemas"]
    assert set(schemas["JobSpec"]["properties"]) == set(JobSpec.model_fields)
    assert {field for group in GROUPS.values() for field in group.model_fields} == set(schemas["FlatJob"]["properties"])


def test_the_document_is_json(document):
    assert json.loads(json.dumps(document)) == document


def test_the_examples_are_the_files(monkeypatch, tmp_path):
    (tmp_path / "short.json").write_text('{"a": 1}')
    (tmp_path / "flat.yaml").write_text("a: 1e-4\n")
    (tmp_path / "notes.txt").write_text("none")
    monkeypatch.setattr(api_schema, "EXAMPLES", tmp_path)
    assert api_schema.examples() == {"flat": {"value": {"a": 1e-4}}, "short": {"value": {"a": 1}}}


def test_every_example_of_the_house_is_declared(document):
    names = {path.stem for kind in ("json", "yaml", "yml") for path in (ROOT / "examples").glob(f"*.{kind}")}
    declared = document["paths"]["/jobs"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    assert set(declared) == names
