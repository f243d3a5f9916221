"""Every method of the client against the OpenAPI document: that what it asks for is there, and that all there is can be asked."""

import hashlib
import re
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
import pytest

from docs import generate_client
from service.client import AsyncClient, Client

# Each answer is all of these at once: a method reads from it what it needs.
ANSWER = {
    "id": "a",
    "name": "talks",
    "state": "succeeded",
    "data": [],
    "front": [],
    "measured": [],
    "has_more": False,
    "files": ["talks.jsonl"],
    "url": "/datasets/talks/uploads/a",
    "size": 2,
    "offset": 0,
}

Call = Callable[[Any, Path], Any]

CALLS: dict[str, Call] = {
    "submit": lambda client, file: client.submit({}, dry_run=True),
    "jobs": lambda client, file: list(client.jobs(state="failed", labels={"a": "b"}, name="c")),
    "job": lambda client, file: client.job("a"),
    "job_and_etag": lambda client, file: client.job_and_etag("a"),
    "change": lambda client, file: client.change("a", {"priority": 1}, if_match='"v1"'),
    "cancel": lambda client, file: client.cancel("a"),
    "pause": lambda client, file: client.pause("a"),
    "resume": lambda client, file: client.resume("a"),
    "retry": lambda client, file: client.retry("a"),
    "delete": lambda client, file: client.delete("a"),
    "watch": lambda client, file: list(client.watch("a")),
    "wait": lambda client, file: client.wait("a"),
    "events": lambda client, file: client.events("a", after=1),
    "follow_events": lambda client, file: list(client.follow_events("a", after=1)),
    "logs": lambda client, file: client.logs("a", attempt=1, tail=2),
    "follow_logs": lambda client, file: list(client.follow_logs("a", attempt=1)),
    "metrics": lambda client, file: client.metrics("a", checkpoint=1, measure="m", split="train", step="sft"),
    "series": lambda client, file: client.series("a", "loss", step="sft", points=2, from_step=0, to_step=1),
    "series_names": lambda client, file: client.series_names("a"),
    "follow_series": lambda client, file: list(client.follow_series("a", step="sft", after=1)),
    "surprisal": lambda client, file: client.surprisal("a", step="sft"),
    "versus": lambda client, file: client.versus("a", "b", step="sft", other_step="sft", checkpoint=1, other_checkpoint=2),
    "checkpoints": lambda client, file: client.checkpoints("a", rank_by="m"),
    "front": lambda client, file: client.front("a"),
    "measured_checkpoints": lambda client, file: client.measured_checkpoints("a", rank_by="entropy"),
    "generate": lambda client, file: list(client.generate("a", 1, step="sft", prompt="x")),
    "artifacts": lambda client, file: client.artifacts("a"),
    "download": lambda client, file: client.download("a", "sft/checkpoint-1/x", file.parent),
    "read": lambda client, file: client.read("a", "x", 0, 1),
    "datasets": lambda client, file: client.datasets(),
    "dataset": lambda client, file: client.dataset("talks"),
    "models": lambda client, file: client.models(),
    "versions": lambda client, file: client.versions("talks"),
    "upload": lambda client, file: client.upload("talks", file),
    "begin_upload": lambda client, file: client.begin_upload("talks", file, {"formatting": "openai"}),
    "send": lambda client, file: client.send(ANSWER, file),
    "preview_dataset": lambda client, file: client.preview_dataset("talks", limit=1),
    "validate": lambda client, file: client.validate("talks", limit=1),
    "inspect": lambda client, file: client.inspect("talks", "tiny"),
    "download_dataset": lambda client, file: client.download_dataset("talks", file.parent),
    "delete_dataset": lambda client, file: client.delete_dataset("talks@1"),
    "overview": lambda client, file: client.overview(),
    "workers": lambda client, file: client.workers(),
    "worker": lambda client, file: client.worker("w"),
    "drain": lambda client, file: client.drain("w", now=True),
    "undrain": lambda client, file: client.undrain("w"),
    "create_key": lambda client, file: client.create_key("me"),
    "keys": lambda client, file: client.keys(owner="me"),
    "revoke_key": lambda client, file: client.revoke_key("k"),
    "owners": lambda client, file: client.owners(),
    "owner": lambda client, file: client.owner("me"),
    "change_owner": lambda client, file: client.change_owner("me", {}),
    "audit": lambda client, file: list(client.audit(owner="me")),
    "refusals": lambda client, file: list(client.refusals(owner="me")),
    "create_webhook": lambda client, file: client.create_webhook("https://x", ["job.succeeded"]),
    "webhooks": lambda client, file: client.webhooks(),
    "webhook": lambda client, file: client.webhook("h"),
    "change_webhook": lambda client, file: client.change_webhook("h", {}),
    "delete_webhook": lambda client, file: client.delete_webhook("h"),
    "rotate_webhook": lambda client, file: client.rotate_webhook("h"),
    "test_webhook": lambda client, file: client.test_webhook("h"),
    "deliveries": lambda client, file: list(client.deliveries("h")),
    "delivery": lambda client, file: client.delivery("h", "d"),
    "replay": lambda client, file: client.replay("h", "d"),
    "measures": lambda client, file: client.measures(in_jobs=True),
    "is_ready": lambda client, file: client.is_ready(),
}

# What the client leaves out, and why.
LEFT_OUT = {
    ("GET", "/livez"): "for whoever starts the service",
    ("GET", "/metrics"): "for Prometheus",
    ("PUT", "/datasets/{name}"): "upload goes on after a break, and this does not",
    ("DELETE", "/datasets/{name}/uploads/{upload_id}"): "one that nobody goes on with is forgotten",
}


@cache
def operations() -> dict[tuple[str, str], dict[str, Any]]:
    paths = generate_client.document()["paths"]
    return {(method.upper(), path): of for path, methods in paths.items() for method, of in methods.items()}


def operation_of(request: httpx2.Request) -> tuple[str, str]:
    """The most literal path that the request is of."""
    for method, path in sorted(operations(), key=lambda one: (one[1].count("{"), -len(one[1]))):
        pattern = re.sub(r"\\{[a-z_]+\\}", "[^/]+", re.escape(path).replace(r"artifacts/\{name\}", "artifacts/.+"))
        if method == request.method and re.fullmatch(pattern, request.url.path):
            return method, path
    raise AssertionError(f"There is no {request.method} {request.url.path}.")


@cache
def asked_by(name: str) -> list[httpx2.Request]:
    """What a method asks of a service that likes everything."""
    asked = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        request.read()
        asked.append(request)
        if request.url.path.endswith(("/stream", "/generate")):
            return httpx2.Response(200, text="event: end\ndata: {}\n\n", headers={"content-type": "text/event-stream"})
        headers = {"etag": f'"{hashlib.sha256(httpx2.Response(200, json=ANSWER).content).hexdigest()}"'}
        return httpx2.Response(200, json=ANSWER, headers=headers)

    with tempfile.TemporaryDirectory() as folder, Client() as client:
        client._http.close()
        client._http = httpx2.Client(transport=httpx2.MockTransport(answer), base_url=client.base_url)
        file = Path(folder, "talks.jsonl")
        file.write_text("{}")
        CALLS[name](client, file)
    return asked


def test_every_method_is_called_here() -> None:
    for form in (Client, AsyncClient):
        assert {name for name in dir(form) if not name.startswith("_")} - {"close"} == set(CALLS)


@pytest.mark.parametrize("name", CALLS)
def test_what_a_method_asks_for_is_there(name: str) -> None:
    requests = asked_by(name)
    assert requests
    for request in requests:
        operation = operations()[operation_of(request)]
        parameters = {(one["in"], one["name"]) for one in operation.get("parameters", [])}
        assert {("query", query) for query in request.url.params} <= parameters
        for header in ("if-match", "upload-offset", "last-event-id"):
            assert header not in request.headers or ("header", header) in parameters
        assert not request.content or "requestBody" in operation


def test_all_that_there_is_can_be_asked() -> None:
    reached = {operation_of(request) for name in CALLS for request in asked_by(name)}
    assert operations().keys() - reached == LEFT_OUT.keys()
