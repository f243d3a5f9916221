"""Who may import whom (docs: the architecture's table), seen in a process that imports one module and looks at what came along.

Modules are found by walking the folders, so a new file falls under its folder's rule without a word here. A process is started
for each rule; it loads libraries that the rule permits, then forks for each module, so that every verdict is the module's own.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
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

# What stands directly under worker/, folders and files.
OF_THE_WORKER = {path.stem for path in (ROOT / "worker").iterdir() if not path.name.startswith("__")}
# What comes along with pydantic.
PYDANTICS = {"pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"}


@dataclass(frozen=True)
class Boundary:
    """Modules, what may not be loaded by importing one of them, and the permitted libraries that are loaded beforehand."""

    of: Callable[[str], bool]
    never: tuple[str, ...]
    loaded: tuple[str, ...] = ()


BOUNDARIES = {
    "the specs know nothing but pydantic": Boundary(
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
        loaded=("pydantic",),
    ),
    "the store knows no door, no broker and no work": Boundary(
        of=lambda module: within(module, "service.store"),
        never=("service.api", "service.app", "service.dispatch", "fastapi", "starlette", "celery", "worker", *MATHEMATICS),
        loaded=("pydantic", "sqlalchemy"),
    ),
    "the service runs without torch": Boundary(
        of=lambda module: within(module, "service"),
        never=("worker", *MATHEMATICS),
        loaded=("pydantic_settings", "sqlalchemy.orm", "alembic", "fastapi", "celery", "httpx2", "typer", "rich"),
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
        loaded=("pydantic", "sqlalchemy", "celery"),
    ),
    "the child never touches the database, the broker or the door": Boundary(
        of=lambda module: within(module, "worker") and module not in KEEPERS,
        never=("service.store", "service.api", "service.app", "service.dispatch", "sqlalchemy", "celery", "fastapi", "starlette"),
        loaded=("pydantic", "scipy.stats", "torch", "transformers.trainer", "peft", "datasets"),
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
        loaded=("numpy", "scipy.stats", "torch"),
    ),
}

IMPORT_EACH = """
import importlib, json, os, sys

asked = json.load(sys.stdin)
for library in asked["loaded"]:
    importlib.import_module(library)
answers = {}
for module in asked["modules"]:
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.dup2(2, 1)  # whatever a module prints is not an answer
        try:
            importlib.import_module(module)
            answer = sorted(sys.modules)
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        with os.fdopen(writing, "w") as stream:
            json.dump(answer, stream)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        answers[module] = json.load(stream)
    os.wait()
json.dump(answers, sys.stdout)
"""


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def files() -> list[Path]:
    return [file for package in ("service", "worker") for file in sorted((ROOT / package).rglob("*.py"))]


def packages() -> list[str]:
    return [str(file.parent.relative_to(ROOT)) for file in files() if file.name == "__init__.py"]


def modules() -> list[str]:
    """Every module of the service and the worker, as the files lie. A `__main__` is run, not imported."""
    named = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files()]
    return [module for module in named if not module.endswith(".__main__")]


def cases() -> list[tuple[str, str]]:
    return [(rule, module) for rule, boundary in BOUNDARIES.items() for module in modules() if boundary.of(module)]


@cache
def loaded_by_each(rule: str) -> dict[str, list[str] | str]:
    """For each module of a rule, all modules that are loaded once it is, or the error that its import raised."""
    boundary = BOUNDARIES[rule]
    asked = {"loaded": boundary.loaded, "modules": [module for module in modules() if boundary.of(module)]}
    command = [sys.executable, "-c", IMPORT_EACH]
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:  # an answer, not an exception: those are not cached, and each test would wait for it again
        return dict.fromkeys(asked["modules"], done.stderr)
    return json.loads(done.stdout)


@pytest.mark.parametrize(("rule", "module"), cases())
def test_a_module_stays_within_its_boundary(rule: str, module: str) -> None:
    loaded = loaded_by_each(rule)[module]
    assert isinstance(loaded, list), f"{module} cannot be imported: {loaded}"
    crossed = [name for name in loaded if any(within(name, never) for never in BOUNDARIES[rule].never)]
    assert not crossed, f"{rule}, but {module} loads {', '.join(crossed[:5])}"


@pytest.mark.parametrize("module", [module for module in modules() if within(module, "service.specs")])
def test_the_specs_load_no_library_but_pydantic_and_what_it_needs(module: str) -> None:
    rule = "the specs know nothing but pydantic"
    pydantic_alone = loaded_by_each(rule)["service.specs"]
    loaded = loaded_by_each(rule)[module]
    assert isinstance(loaded, list), f"{module} cannot be imported: {loaded}"
    libraries = {name.split(".")[0] for name in set(loaded) - set(pydantic_alone)} - sys.stdlib_module_names
    assert {name for name in libraries if not name.startswith("_sysconfigdata")} <= {"service", *PYDANTICS}


def test_every_module_of_the_worker_falls_under_a_boundary() -> None:
    covered = {module for _, module in cases()}
    assert covered == set(modules())


@pytest.mark.parametrize("package", packages())
def test_a_package_file_is_empty(package: str) -> None:
    """What stands in one is imported by every file of the folder, and nobody looks for it there."""
    assert (ROOT / package / "__init__.py").read_text(encoding="utf-8") == ""


@pytest.mark.parametrize("folder", sorted({str(file.parent.relative_to(ROOT)) for file in files()}))
def test_a_folder_with_modules_is_a_package(folder: str) -> None:
    """Without its package file it would be left out of the wheel, and found here all the same."""
    assert (ROOT / folder / "__init__.py").exists()
