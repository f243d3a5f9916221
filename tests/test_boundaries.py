"""Who may import whom (docs: the architecture's table), seen in a process that imports a rule's modules one after another.

Modules are found by walking the folders, so a new file falls under its folder's rule without a word here. What all of a rule do
not load together, none loads alone. That each can be imported by itself follows from there being no cycle of imports: then it
does not matter which comes first.
"""

import ast
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# The side of the worker that keeps the database and starts children. Every other module of the worker is the child's side.
KEEPERS = {
    "worker.app",
    "worker.clean_up",
    "worker.gpus",
    "worker.presence",
    "worker.row_counts",
    "worker.settings",
    "worker.supervise",
    "worker.tasks",
}
MATHEMATICS = ("numpy", "scipy", "torch", "transformers", "peft", "trl", "accelerate", "datasets", "safetensors", "bitsandbytes")

# What comes along with pydantic.
PYDANTICS = {"pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"}


@dataclass(frozen=True)
class Boundary:
    """Modules, and what may not be loaded by importing one of them."""

    of: Callable[[str], bool]
    never: tuple[str, ...]


SPECS = "the specs know nothing but pydantic"
BOUNDARIES = {
    SPECS: Boundary(
        of=lambda module: within(module, "service.specs"),
        never=(
            "service.store",
            "service.api",
            "service.app",
            "sqlalchemy",
            "fastapi",
            "celery",
            "httpx2",
            "worker",
            *MATHEMATICS,
        ),
    ),
    "the store knows no door, no broker and no work": Boundary(
        of=lambda module: within(module, "service.store"),
        never=("service.api", "service.app", "service.dispatch", "fastapi", "starlette", "celery", "worker", *MATHEMATICS),
    ),
    "the service runs without torch": Boundary(
        of=lambda module: within(module, "service"),
        never=("worker", *MATHEMATICS),
    ),
    "the client knows no server": Boundary(
        of=lambda module: module == "service.client" or within(module, "service.clients"),
        never=(
            "service.api",
            "service.app",
            "service.store",
            "fastapi",
            "starlette",
            "sqlalchemy",
            "celery",
            "pydantic",
            "worker",
            *MATHEMATICS,
        ),
    ),
    "the worker that keeps the children stays small": Boundary(
        of=lambda module: module in KEEPERS,
        never=("service.api", "service.app", "fastapi", "starlette", *MATHEMATICS),
    ),
    "the child never touches the database, the broker or the door": Boundary(
        of=lambda module: within(module, "worker") and module not in KEEPERS,
        never=("service.store", "service.api", "service.app", "service.dispatch", "sqlalchemy", "celery", "fastapi", "starlette"),
    ),
    "the mathematics knows nothing of ours": Boundary(
        of=lambda module: within(module, "worker.information"),
        never=(
            "service",
            "worker.data",
            "worker.models",
            "worker.probes",
            "worker.stages",
            "worker.export",
            "transformers",
            "datasets",
        ),
    ),
}

IMPORT_EACH = """
import importlib, json, os, sys

answers, asked = {}, json.load(sys.stdin)
with os.fdopen(os.dup(1), "w") as stream:
    os.dup2(2, 1)  # whatever a module prints is not an answer
    for module in asked:
        before = set(sys.modules)
        try:
            importlib.import_module(module)
            answers[module] = sorted(set(sys.modules) - before)
        except BaseException as error:
            answers[module] = f"{type(error).__name__}: {error}"
    json.dump(answers, stream)
"""


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def files() -> list[Path]:
    return [file for package in ("service", "worker") for file in sorted((ROOT / package).rglob("*.py"))]


def packages() -> list[str]:
    return [str(file.parent.relative_to(ROOT)) for file in files() if file.name == "__init__.py"]


def modules() -> list[str]:
    """Every module of the service and the worker, as the files lie. A `__main__` is run, not imported."""
    named = map(module_of, files())
    return [module for module in named if not module.endswith(".__main__")]


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def of_rule(rule: str) -> list[str]:
    return [module for module in modules() if BOUNDARIES[rule].of(module)]


@cache
def loaded_by_each(rule: str) -> dict[str, list[str]]:
    """For each module of a rule, and pydantic before them, what its import has loaded that was not there yet."""
    modules = ["pydantic", *of_rule(rule)] if rule == SPECS else of_rule(rule)
    command = [sys.executable, "-c", IMPORT_EACH]
    done = subprocess.run(command, input=json.dumps(modules), capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    answers: dict[str, list[str] | str] = json.loads(done.stdout)
    failed = {module: answer for module, answer in answers.items() if isinstance(answer, str)}
    assert not failed, f"cannot be imported: {failed}"
    return {module: answer for module, answer in answers.items() if isinstance(answer, list)}


@pytest.mark.parametrize("rule", BOUNDARIES)
def test_the_modules_stay_within_their_boundary(rule: str) -> None:
    loaded = loaded_by_each(rule)
    assert loaded, "a rule of no modules"
    for module, names in loaded.items():
        crossed = [name for name in names if any(within(name, never) for never in BOUNDARIES[rule].never)]
        assert not crossed, f"{rule}, but {module} loads {', '.join(crossed[:5])}"


def test_the_specs_load_no_library_but_pydantic_and_what_it_needs() -> None:
    loaded = loaded_by_each(SPECS)
    names = {name for module in of_rule(SPECS) for name in loaded[module]}
    libraries = {name.split(".")[0] for name in names} - sys.stdlib_module_names
    assert {name for name in libraries if not name.startswith("_sysconfigdata")} <= {"service", *PYDANTICS}


def test_no_module_imports_itself_by_way_of_others() -> None:
    known = {module_of(file): file for file in files()}
    graph = {module: {name for name in imports_of(file) if name in known} for module, file in known.items()}
    assert "service.store.session" in graph["service.store.schema"]
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def imports_of(file: Path) -> Iterator[str]:
    """What is imported as the file is, in its own body and not in a function's or for types alone; names in packages, too."""
    for node in imported(ast.parse(file.read_text(encoding="utf-8")).body):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        else:
            assert node.level == 0, f"{file} imports from where it lies"
            yield str(node.module)
            yield from (f"{node.module}.{name.name}" for name in node.names)


def imported(body: Iterable[ast.AST]) -> Iterator[ast.Import | ast.ImportFrom]:
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from imported(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imported(ast.iter_child_nodes(node))


def test_every_module_falls_under_a_boundary() -> None:
    assert {module for rule in BOUNDARIES for module in of_rule(rule)} == set(modules())


@pytest.mark.parametrize("package", packages())
def test_a_package_file_is_empty(package: str) -> None:
    """What stands in one is imported by every file of the folder, and nobody looks for it there."""
    assert (ROOT / package / "__init__.py").read_text(encoding="utf-8") == ""


@pytest.mark.parametrize("folder", sorted({str(file.parent.relative_to(ROOT)) for file in files()}))
def test_a_folder_with_modules_is_a_package(folder: str) -> None:
    """Without its package file it would be left out of the wheel, and found here all the same."""
    assert (ROOT / folder / "__init__.py").exists()
