"""From a name in the registry to the function that computes it. The registry may not import the mathematics; this may do both."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from service.specs.measures import REGISTRY

MEASURES = {name: measure for measure in REGISTRY for name in (measure.name, *measure.aliases)}


def named(name: str) -> Callable[..., Any]:
    """The function of a measure, by its name or an alias. ValueError for a name that there is not, or has no function."""
    measure = MEASURES.get(name)
    if measure is None:
        raise ValueError(f"There is no measure {name!r}; there are {', '.join(sorted(MEASURES))}.")
    if measure.function is None:
        raise ValueError(f"{measure.name} is computed at checkpoints only, and is no function of arrays.")
    return function(measure.function)


def function(path: str) -> Callable[..., Any]:
    """What a row's `function` stands for: "shannon.entropy" is `entropy` in `worker/information/shannon.py`."""
    module, _, attribute = path.rpartition(".")
    found: Callable[..., Any] = getattr(import_module(f"worker.information.{module}"), attribute)
    return found
