"""The models in the operator's folder: a model is a folder with a config.json and its weights."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.library.errors import LibraryError
from service.specs.roots import OutsideRoot, inside

# A model's name has at most this many parts: meta-llama/Llama-3.2-1B has two.
NAME_PARTS = 2
SHOWN = 20


@dataclass(frozen=True)
class Model:
    """A model that is there. `weights` are its files of weights, in the order in which transformers looks for them."""

    name: str
    folder: Path
    config: dict[str, Any]
    weights: tuple[Path, ...]


def find(root: Path, name: str) -> Model:
    """The model of that name. Raises LibraryError."""
    try:
        folder = inside(root, name)
    except OutsideRoot as error:
        raise LibraryError(str(error)) from None
    if _is_adapter(folder):
        raise LibraryError(f"{name!r} is an adapter, not a whole model: name it as adapter_name_or_path, beside its base.")
    if not (folder / "config.json").is_file():
        raise LibraryError(f"There is no model {name!r} in the models folder; there are: {_shown(list(names(root)))}.")
    config = _json_object(folder / "config.json", name)
    return Model(name, folder, config, tuple(_weights(folder, name)))


def find_adapter(root: Path, name: str) -> Model:
    """The adapter of that name; its config is adapter_config.json. Raises LibraryError."""
    try:
        folder = inside(root, name)
    except OutsideRoot as error:
        raise LibraryError(str(error)) from None
    if (folder / "config.json").is_file() and not (folder / "adapter_config.json").is_file():
        raise LibraryError(f"{name!r} is a whole model, not an adapter: name it as model_name_or_path.")
    if not _is_adapter(folder):
        known = _shown(list(adapter_names(root)))
        raise LibraryError(f"There is no adapter {name!r} in the models folder; there are: {known}.")
    config = _json_object(folder / "adapter_config.json", name)
    if config.get("peft_type") != "LORA":
        raise LibraryError(f"The adapter {name!r} is of the kind {config.get('peft_type')}; LORA is taken.")
    weights = [folder / file for file in ("adapter_model.safetensors", "adapter_model.bin") if (folder / file).is_file()]
    if not weights:
        raise LibraryError(f"The adapter {name!r} has no weights: neither adapter_model.safetensors nor adapter_model.bin.")
    return Model(name, folder, config, (weights[0],))


def quantized_with(model: Model) -> str | None:
    """The method by which a model's own files are quantized; None where they are not."""
    found = model.config.get("quantization_config")
    return str(found.get("quant_method")) if isinstance(found, dict) else None


def names(root: Path) -> Iterator[str]:
    """The names of the models there are."""
    return _named(root, lambda folder: (folder / "config.json").is_file(), NAME_PARTS)


def adapter_names(root: Path) -> Iterator[str]:
    """The names of the adapters there are."""
    return _named(root, _is_adapter, NAME_PARTS)


def _named(root: Path, is_one: Callable[[Path], bool], parts: int) -> Iterator[str]:
    for folder in sorted(path for path in root.glob("*") if path.is_dir() and not path.name.startswith(".")):
        if is_one(folder):
            yield folder.name
        elif parts > 1:
            yield from (f"{folder.name}/{name}" for name in _named(folder, is_one, parts - 1))


def _is_adapter(folder: Path) -> bool:
    return (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file()


def _shown(known: list[str]) -> str:
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    return ", ".join(known[:SHOWN]) + more if known else "none"


def _weights(folder: Path, name: str) -> list[Path]:
    for file in ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"):
        if not (folder / file).exists():
            continue
        found = _shards(folder / file, name) if file.endswith(".index.json") else [folder / file]
        for path in found:
            if not path.is_file():
                raise LibraryError(f"The model {name!r} lacks the weights file {path.name}.")
        return found
    raise LibraryError(f"The model {name!r} has no weights: neither model.safetensors nor pytorch_model.bin.")


def _shards(index: Path, name: str) -> list[Path]:
    places = _json_object(index, name).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise LibraryError(f"{index.name} of the model {name!r} has no weight_map.")
    try:
        return [inside(index.parent, str(shard)) for shard in sorted(set(map(str, places.values())))]
    except OutsideRoot as error:
        raise LibraryError(f"{index.name} of the model {name!r} names a bad file: {error}") from None


def _json_object(path: Path, name: str) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise LibraryError(f"{path.name} of the model {name!r} is not readable JSON.") from None
    if not isinstance(document, dict):
        raise LibraryError(f"{path.name} of the model {name!r} must be an object.")
    return document
