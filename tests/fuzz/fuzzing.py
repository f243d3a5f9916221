"""Requests that schemathesis makes of the OpenAPI document, sent through the application's middleware, and what is wrong with the
answers.

Its phases, in this order: the document's examples; every case at the borders of each schema; cases drawn from the schemas, valid
and not; and chains, in which an answer's values become the next request's parameters.
"""

import copy
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import schemathesis
from schemathesis import Case, HookContext, engine
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Asked

from service.specs.scopes import Scope
from tests.fuzz.world import KEYS, MARKS, World

PHASES = ("examples", "coverage", "fuzzing", "stateful")

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "missing_required_header",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
    "use_after_free",
    "ensure_resource_availability",
    "negative_data_rejection",
)

# A stream has no end: so long it is listened to.
STREAM_SECONDS = 0.1


@dataclass(frozen=True)
class Fault:
    """What is wrong, once for each operation and kind, with the first request that shows it."""

    asked_by: str
    operation: str
    check: str
    title: str
    message: str
    request: str


@dataclass
class Found:
    """Of one run, or of several."""

    statuses: Counter[int] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)  # "operationId status"
    faults: dict[tuple[str, str, str], Fault] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)  # of the tool: what it could not ask

    @property
    def requests(self) -> int:
        return sum(self.statuses.values())

    def add(self, fault: Fault) -> None:
        self.faults.setdefault((fault.operation, fault.check, fault.title), fault)


class Watched:
    """ASGI middleware, outermost: counts every answer, and looks for what is another owner's. One for all that ask, since the
    application's lifespan begins but once.
    """

    def __init__(self, app: ASGIApp):
        self._app = app
        self.found = Found()

    def begin(self, asked_by: str) -> None:
        owner, scopes = KEYS[asked_by]
        self._asked_by = asked_by
        self._hidden = [] if scopes == (Scope.ADMIN,) else [mark.encode() for whose, mark in MARKS.items() if whose != owner]

    async def __call__(self, scope: Asked, receive: Receive, send: Send) -> None:
        async def send_watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.found.statuses[message["status"]] += 1
                self.found.operations[f"{_name(scope)} {message['status']}"] += 1
            elif any(mark in message.get("body", b"") for mark in self._hidden):
                told = f"{scope['method']} {scope['path']}?{scope['query_string'].decode('latin-1')}"
                self.found.add(Fault(self._asked_by, _name(scope), "apart", "What is another owner's", "", told))
            await send(message)

        await self._app(scope, receive, send_watched)


def _name(scope: Asked) -> str:
    return str(getattr(scope.get("route"), "name", "none"))


def fuzz(
    watched: Watched, world: World, asked_by: str, seed: int, examples: int, seconds: float, phases: tuple[str, ...]
) -> None:
    """Asks with one key, until the phases are through or the time is up. `examples`: drawn cases for each operation."""
    watched.begin(asked_by)
    found = watched.found
    document = world.app.openapi()
    schema = schemathesis.openapi.from_dict(document, config=_config(world.keys[asked_by], seed, examples, phases))
    schema.app = watched
    schema.hook("map_case")(_nearer(document, world))
    until = time.monotonic() + seconds
    stream = engine.from_schema(schema).execute()
    for event in stream:
        if isinstance(event, events.ScenarioFinished):
            for fault in _faults(event, asked_by):
                found.add(fault)
        elif isinstance(event, events.NonFatalError):
            found.errors.append(f"{event.label}: {event.info.title}: {event.info.message}")
        if time.monotonic() > until:
            stream.stop()


def _config(key: str, seed: int, examples: int, phases: Sequence[str]) -> SchemathesisConfig:
    listened_to = [{"include-operation-id": name, "request-timeout": STREAM_SECONDS} for name in ("stream_events", "stream_log")]
    return SchemathesisConfig.from_dict(
        {
            "seed": seed,
            "base-url": "http://testserver",
            "headers": {"Authorization": f"Bearer {key}"},
            "continue-on-failure": True,
            "generation": {"max-examples": examples, "no-shrink": True, "database": "none"},
            "checks": {"enabled": False, **{name: {"enabled": True} for name in CHECKS}},
            "phases": {name: {"enabled": name in phases} for name in PHASES},
            "operations": listened_to,
        }
    )


def _nearer(document: dict[str, Any], world: World) -> Callable[[HookContext, Case], Case]:
    """Moves half of the valid cases to what is there: documents that are accepted, and ids of either owner's jobs."""
    jobs = [job for owned in world.jobs.values() for job in owned]
    bodies = {
        operation["operationId"]: _examples(operation) for path in document["paths"].values() for operation in path.values()
    }

    def nearer(context: HookContext, case: Case) -> Case:
        if case.meta is None or not case.meta.generation.mode.is_positive:
            return case
        drawn = crc32(repr((case.operation.label, case.path_parameters, case.query, case.body)).encode())
        if drawn % 2:
            return case
        for name, kept in (("job_id", ""), ("fine_tuning_job_id", "ft")):
            if name in case.path_parameters:
                case.path_parameters[name] = kept + jobs[drawn // 2 % len(jobs)]
        known = bodies.get(case.operation.definition.raw.get("operationId"), [])
        if known and isinstance(case.body, dict):
            case.body = copy.deepcopy(known[drawn // 2 % len(known)])
        return case

    return nearer


def _examples(operation: dict[str, Any]) -> list[Any]:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    return [example["value"] for example in content.get("examples", {}).values()]


def _faults(event: events.ScenarioFinished, asked_by: str) -> Iterator[Fault]:
    for case_id, nodes in event.recorder.checks.items():
        for node in nodes:
            if node.failure_info is not None:
                failure, label = node.failure_info.failure, event.recorder.cases[case_id].value.operation.label
                yield Fault(asked_by, label, node.name, failure.title, failure.message, node.failure_info.code_sample)
