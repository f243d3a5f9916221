"""An adapter by itself, without what a trainer keeps beside it."""

import json
import shutil
from pathlib import Path

import torch
from safetensors import safe_open

from worker.models.saved_adapters import BASE_CONFIG
from worker.models.start import SavedAdapter

_CONFIG = "adapter_config.json"
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


def write(adapter: SavedAdapter, folder: Path, base: str) -> str:
    """Its files, with the base named as jobs name it. The type of its numbers."""
    config = json.loads((adapter.folder / _CONFIG).read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base
    (folder / _CONFIG).write_text(json.dumps(config, indent=2), encoding="utf-8")
    for name in (*_WEIGHTS, BASE_CONFIG):
        if (adapter.folder / name).is_file():
            shutil.copyfile(adapter.folder / name, folder / name)
    return _dtype(next(folder / name for name in _WEIGHTS if (folder / name).is_file()))


def _dtype(file: Path) -> str:
    if file.suffix == ".safetensors":
        with safe_open(file, "pt") as tensors:
            name = next(iter(tensors.keys()))
            return str(tensors.get_tensor(name).dtype).removeprefix("torch.")
    tensors = torch.load(file, map_location="cpu", weights_only=True)
    return str(next(iter(tensors.values())).dtype).removeprefix("torch.")
