"""Writes the parts of the client that are made from others: `python -m docs.generate_client`, at the root of the repository.

The client that waits is made from the asynchronous one; what both are answered, from the service's OpenAPI document.
"""

import json
import re
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import unasync

from service.app import create_app
from service.settings import Settings

ROOT = Path(__file__).parents[1]
CLIENTS = ROOT / "service" / "clients"
PARTS = ("client", "connection", "datasets", "jobs", "operators", "results")

# What is called otherwise where nothing is awaited, beside what the library knows.
WORDS = {
    "asynchronous": "synchronous",
    "async_sleep": "sleep",
    "async_aside": "aside",
    "aclose": "close",
    "aread": "read",
    "aiter_lines": "iter_lines",
    "aiter_bytes": "iter_bytes",
    **{f"Async{name}": name for name in ("Client", "Connection", "Datasets", "Jobs", "Operators", "Results")},
}

# What the client calls a schema of the document, and all that is answered is one of these, or made of them.
NAMES = {
    "JobView": "Job",
    "NoticeView": "Notice",
    "StepView": "Step",
    "DryRun": "DryRun",
    "PlannedStepView": "PlannedStep",
    "MemoryView": "Memory",
    "EventView": "Event",
    "MetricsView": "MetricsView",
    "Measured": "Measured",
    "MeasuredModel": "MeasuredModel",
    "MeasuredValue": "Value",
    "AlertTestView": "AlertTest",
    "SeriesView": "Series",
    "SeriesNames": "SeriesNames",
    "StepSeries": "StepSeries",
    "Surprisal": "Surprisal",
    "ShownStep": "ShownStep",
    "ShownText": "ShownText",
    "ShownBits": "ShownBits",
    "Versus": "Versus",
    "Side": "Side",
    "PairedDifference": "PairedDifference",
    "CheckpointList": "CheckpointList",
    "CheckpointView": "Checkpoint",
    "service__api__views__FileView": "CheckpointFile",
    "RankView": "Rank",
    "FrontView": "FrontPoint",
    "ArtifactView": "Artifact",
    "DatasetView": "Dataset",
    "VersionView": "DatasetVersion",
    "SendingView": "Upload",
    "ValidationView": "Validation",
    "FaultView": "Fault",
    "RowList": "FirstRows",
    "RowView": "DataRow",
    "ModelNames": "ModelNames",
    "OverviewView": "Overview",
    "QueueView": "Queue",
    "WorkerView": "Worker",
    "SlotView": "Slot",
    "SlotJobView": "SlotJob",
    "KeyView": "Key",
    "ShownKey": "ShownKey",
    "OwnerView": "Owner",
    "Quota": "Quota",
    "UsageView": "Usage",
    "AuditView": "AuditEntry",
    "RefusalView": "Refusal",
    "WebhookView": "Webhook",
    "NewWebhookView": "NewWebhook",
    "DeliveryView": "Delivery",
    "TryView": "Try",
    "Measure": "Measure",
    "Notebook": "NotebookPlace",
}

# More of a field than the document says.
TYPES = {("JobView", "progress"): "Progress | None"}

HEAD = '''"""What the service answers, field by field. Times are ISO 8601 in UTC.

Written from the service's OpenAPI document by `python -m docs.generate_client`; do not edit it here.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict


class Progress(TypedDict, total=False):
    """Where a running job is. A value that is not known yet is null."""

    step: str
    position: int  # of the step among `steps`, from 1
    steps: int
    global_step: int
    max_steps: int
    epoch: float
    loss: float
    tokens_per_second: float
    eta_seconds: float
    phase: str
    held: str  # why no worker takes it now


class LogLines(TypedDict):
    """Lines of a log, whole ones, and which attempt wrote them."""

    attempt: int
    text: str


class Points(TypedDict):
    """Points of a training series as columns: `step` counts the updates."""

    step: list[int]
    value: list[float]


class Grown(TypedDict):
    """By how much the series of a pipeline's step have grown, by their names."""

    pipeline_step: str
    series: dict[str, Points]
'''

WRITTEN = "# Written from service/clients/asynchronous/{part}.py by `python -m docs.generate_client`; do not edit it here.\n"
PLAIN = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}
WIDTH = 128


def files() -> list[Path]:
    return [CLIENTS / "answers.py", *(CLIENTS / "synchronous" / f"{part}.py" for part in PARTS)]


@cache
def written() -> dict[Path, str]:
    """Each file as it should be."""
    waiting = {CLIENTS / "synchronous" / f"{part}.py": text for part, text in _without_async().items()}
    return {CLIENTS / "answers.py": _formatted(_answers()), **waiting}


@cache
def document() -> dict[str, Any]:
    """The service's OpenAPI document, of our own door alone, and of it what programs ask: sessions are a browser's."""
    whole = create_app(Settings(home=Path("nowhere")), database=None, dispatch=None).openapi()  # type: ignore[arg-type]
    return whole | {"paths": {path: of for path, of in whole["paths"].items() if not path.startswith(("/v1/", "/session"))}}


def answered() -> set[str]:
    """The schemas of the answers when all goes well."""
    answers = [
        answer
        for operations in document()["paths"].values()
        for operation in operations.values()
        for status, answer in operation["responses"].items()
        if status.startswith("2")
    ]
    return set(re.findall(r"#/components/schemas/(\w+)", json.dumps(answers)))


def _without_async() -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        rule = unasync.Rule(f"{CLIENTS / 'asynchronous'}/", f"{folder}/", WORDS)
        unasync.unasync_files([str(CLIENTS / "asynchronous" / f"{part}.py") for part in PARTS], [rule])
        made = {part: Path(folder, f"{part}.py").read_text(encoding="utf-8") for part in PARTS}
    return {part: _formatted(WRITTEN.format(part=part) + text) for part, text in made.items()}


def _answers() -> str:
    schemas = document()["components"]["schemas"]
    return HEAD + "".join(line for name in NAMES for line in _class(name, schemas))


def _class(name: str, schemas: dict[str, Any]) -> Iterator[str]:
    schema = schemas[name]
    yield f"\n\nclass {NAMES[name]}(TypedDict):\n"
    described = schema.get("description")
    if described:
        yield textwrap.indent("\n".join(textwrap.wrap(f'"""{described}', WIDTH - 4)), "    ") + '"""\n\n'
    for field, of in schema["properties"].items():
        kind = TYPES.get((name, field)) or _type(of, schemas)
        yield from _field(f"    {field}: {kind}", of.get("description"))


def _field(line: str, comment: str | None) -> Iterator[str]:
    """The comment behind it, or where there is no room above it."""
    beside = f"{line}  # {comment}" if comment else line
    if len(beside) > WIDTH:
        yield from (f"    # {part}\n" for part in textwrap.wrap(comment or "", WIDTH - 6))
        beside = line
    yield f"{beside}\n"


def _type(schema: dict[str, Any], schemas: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return NAMES[name] if name in NAMES else _type(schemas[name], schemas)
    if "anyOf" in schema:
        return " | ".join(_type(kind, schemas) for kind in schema["anyOf"])
    if "const" in schema or "enum" in schema:
        return f"Literal[{', '.join(repr(value) for value in schema.get('enum') or [schema['const']])}]"
    if schema.get("type") == "array":
        return f"list[{_type(schema['items'], schemas)}]"
    if schema.get("type") == "object":
        of = schema.get("additionalProperties")
        return f"dict[str, {_type(of, schemas) if isinstance(of, dict) else 'Any'}]"
    return PLAIN[schema["type"]] if "type" in schema else "Any"


def _formatted(text: str) -> str:
    for command in (["check", "--quiet", "--fix-only", "--unsafe-fixes", "--select", "C4,I,UP028"], ["format", "--quiet"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(CLIENTS / "made.py"), "-"]
        text = subprocess.run(ruff, input=text, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    return text


if __name__ == "__main__":
    for file, text in written().items():
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
