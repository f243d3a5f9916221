"""Requests that schemathesis makes of the OpenAPI document, sent through the application's middleware, and what is wrong with the
answers.

First what the document itself holds: its examples, and the borders of each schema, one by one. Then chains of what is drawn from
the schemas, valid and not, in which an answer's values become the next request's parameters.
"""

import copy
import random
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
import schemathesis
from schemathesis import Case, HookContext, Response, SerializationContext, engine
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import Failure, ServerError
from schemathesis.engine import events
from schemathesis.engine.recorder import RecordedScenario
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Asked

from service.api.problems import Code
from service.specs.scopes import Scope
from tests.fuzz.world import KEYS, MARKS, World

BORDERS = ("examples", "coverage")

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "missing_required_header",
    "unsupported_method",
    "allow_header_conformance",
    "use_after_free",
    "ensure_resource_availability",
    "negative_data_rejection",
)

# Asks again without the key. In chains schemathesis 4.32 cannot: the requests that it adds upset its own list of them.
AT_THE_BORDERS = ("ignored_auth",)

# A stream has no end: so long it is listened to once it has begun.
STREAM_SECONDS = 0.1
LONGEST_SECONDS = 120  # until one has begun


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
    crashes: dict[str, str] = field(default_factory=dict)  # tracebacks, one for each operation and kind
    errors: list[str] = field(default_factory=list)  # of the tool: what it could not ask

    @property
    def requests(self) -> int:
        return sum(self.statuses.values())

    @property
    def wrong(self) -> list[str]:
        """Everything, as a report has it."""
        faults = [
            f"{one.check}, asked by {one.asked_by}: {one.operation}: {one.title}\n{one.message}\n{one.request}"
            for one in self.faults.values()
        ]
        crashes = [f"crash in {name}\n{told}" for name, told in self.crashes.items()]
        return faults + crashes + [f"not asked: {told}" for told in self.errors]

    @property
    def unanswered(self) -> list[str]:
        """Operations that were asked, and never said more than what was wrong."""
        asked, well = set(), set()
        for told in self.operations:
            name, _, status = told.partition(" ")
            asked.add(name)
            if status < "400":
                well.add(name)
        return sorted(asked - well)

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
        status, is_over = 0, False

        async def send_watched(message: Message) -> None:
            nonlocal status, is_over
            if message["type"] == "http.response.start":
                if Headers(raw=message["headers"]).get("content-type", "").startswith("text/event-stream"):
                    listening.deadline = anyio.current_time() + STREAM_SECONDS
                status = message["status"]
                self.found.statuses[message["status"]] += 1
                self.found.operations[f"{_name(scope)} {message['status']}"] += 1
            elif title := self._what_is_wrong(status, message.get("body", b"")):
                told = f"{scope['method']} {scope['path']}?{scope['query_string'].decode('latin-1')}"
                self.found.add(Fault(self._asked_by, _name(scope), "every answer", title, "", told))
            is_over = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        try:
            with anyio.CancelScope() as listening:
                await self._app(scope, receive, send_watched)
            if listening.cancelled_caught and not is_over:
                await send({"type": "http.response.body", "body": b""})
        except Exception as error:  # the answer is a 500 by then, and a server goes on
            self.found.crashes[f"{_name(scope)} {type(error).__name__}"] = "".join(traceback.format_exception(error)[-12:])

    def _what_is_wrong(self, status: int, body: bytes) -> str | None:
        """Of answers that no check looks at, too: the last of a chain that is broken off."""
        if any(mark in body for mark in self._hidden):
            return "What is another owner's"
        return "Server error" if status >= 500 and f'"{Code.NO_WORKER_FREE}"'.encode() not in body else None


@schemathesis.serializer("application/offset+octet-stream")
def _bytes(context: SerializationContext, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _name(scope: Asked) -> str:
    return str(getattr(scope.get("route"), "name", "none"))


def at_the_borders(
    watched: Watched,
    world: World,
    asked_by: str,
    seed: int,
    seconds: float,
    phases: Sequence[str] = BORDERS,
    without: Sequence[str] = (),
) -> None:
    """Asks with one key what the document itself holds: its examples, and each schema's borders, one by one. `without`: what
    is left out.
    """
    schema = _schema(watched, world, asked_by, seed, phases, without)
    _follow(engine.from_schema(schema).execute(), watched, asked_by, time.monotonic() + seconds, None)


def in_chains(watched: Watched, world: World, asked_by: str, seed: int, requests: int, seconds: float) -> None:
    """Asks with one key what is drawn, valid and not, six requests in a row: an answer's values are the next one's parameters."""
    schema = _schema(watched, world, asked_by, seed, (), ())
    until_requests = watched.found.requests + requests
    _follow(engine.from_schema(schema).fuzz(), watched, asked_by, time.monotonic() + seconds, until_requests)


def _schema(watched: Watched, world: World, asked_by: str, seed: int, phases: Sequence[str], without: Sequence[str]) -> Any:
    document = world.app.openapi()
    left_out = [{"include-operation-id": name, "enabled": False} for name in without]
    valid = [{"include-operation-id": name, "generation": {"mode": "positive"}} for name in _only_named(document)]
    config = _config(world.key_for(asked_by), seed, phases, [*left_out, *valid])
    schema = schemathesis.openapi.from_dict(document, config=config)
    schema.app = watched
    schema.hook("map_case")(_nearer(document, world))
    schema.hook("filter_failure")(_is_wrong)
    watched.begin(asked_by)
    return schema


def _follow(stream: Any, watched: Watched, asked_by: str, until: float, until_requests: int | None) -> None:
    found = watched.found
    for event in stream:
        if isinstance(event, events.ScenarioFinished | events.FuzzScenarioFinished):
            for fault in _faults(event.recorder, asked_by):
                found.add(fault)
        elif isinstance(event, events.NonFatalError):
            found.errors.append(f"{event.label}: {event.info.title}: {event.info.message}")
        if time.monotonic() > until or (until_requests is not None and found.requests >= until_requests):
            stream.stop()


def _config(key: str, seed: int, phases: Sequence[str], operations: list[dict[str, Any]]) -> SchemathesisConfig:
    checks = (*CHECKS, *AT_THE_BORDERS) if phases else CHECKS
    listened_to = [
        {"include-operation-id": name, "request-timeout": LONGEST_SECONDS}
        for name in ("stream_events", "stream_log", "stream_series")
    ]
    return SchemathesisConfig.from_dict(
        {
            "seed": seed,
            "suppress-health-check": ["all"],
            "base-url": "http://testserver",
            "headers": {"Authorization": f"Bearer {key}"},
            "continue-on-failure": True,
            "generation": {"no-shrink": True, "database": "none"},
            "checks": {"enabled": False, **{name: {"enabled": True} for name in checks}},
            "phases": {name: {"enabled": name in phases} for name in (*BORDERS, "fuzzing", "stateful")},
            "operations": [*listened_to, *operations],
        }
    )


def _only_named(document: dict[str, Any]) -> list[str]:
    """Operations that nothing invalid can be asked of: any text may be a name, and is one of nothing then."""
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    return [
        operation["operationId"]
        for operation in operations
        if "requestBody" not in operation and all(one["in"] == "path" for one in operation.get("parameters", ()))
    ]


def _nearer(document: dict[str, Any], world: World) -> Callable[[HookContext, Case], Case]:
    """Moves most valid cases to what is there: documents that are accepted, and the names of what either owner has."""
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    bodies = {operation["operationId"]: _examples(operation) for operation in operations} | world.bodies

    def nearer(context: HookContext, case: Case) -> Case:
        if case.meta is None or not case.meta.generation.mode.is_positive:
            return case
        drawn = random.Random(repr((case.operation.label, case.path_parameters, case.query, case.body)))
        operation_id = case.operation.definition.raw["operationId"]
        first = case.operation.path.split("/")[1]
        for name in case.path_parameters if drawn.random() < 0.8 else ():
            if known := world.names.get(f"{operation_id} {name}") or world.names.get(f"{first} {name}"):
                case.path_parameters[name] = drawn.choice(known)
        if bodies[operation_id] and drawn.random() < 0.5:
            case.body = copy.deepcopy(drawn.choice(bodies[operation_id]))
            case.query.update(world.queries.get(operation_id, {}))
        return case

    return nearer


def _examples(operation: dict[str, Any]) -> list[Any]:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    return [example["value"] for example in content.get("examples", {}).values()]


def _is_wrong(context: HookContext, failure: Failure, case: Case, response: Response) -> bool:
    """That no worker is free to write a text at once is an answer, and so it is declared."""
    is_refusal = response.status_code == 503 and response.json()["code"] == Code.NO_WORKER_FREE
    return not (isinstance(failure, ServerError) and is_refusal)


def _faults(recorder: RecordedScenario, asked_by: str) -> Iterator[Fault]:
    for case_id, nodes in recorder.checks.items():
        for node in nodes:
            if node.failure_info is not None:
                failure, label = node.failure_info.failure, recorder.cases[case_id].value.operation.label
                yield Fault(asked_by, label, node.name, failure.title, failure.message, node.failure_info.code_sample)
