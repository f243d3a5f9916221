"""A model's weights on the disk: shards of safetensors, or of torch's own format for programs that read no other."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel

GB = 10**9  # as transformers counts shards

_INDEX = "model.safetensors.index.json"


def write(model: PreTrainedModel, folder: Path, most_gb: int, is_legacy: bool) -> None:
    """The weights, config.json and generation_config.json. No shard is larger, but for one that is a single tensor."""
    model.save_pretrained(folder, max_shard_size=most_gb * GB)
    if is_legacy:
        _as_bins(folder)


def _as_bins(folder: Path) -> None:
    """Each shard again as torch pickles it, and its index, which transformers 5 writes no more. One is in memory at a time."""
    for shard in sorted(folder.glob("model*.safetensors")):
        torch.save(load_file(shard), folder / _bin_name(shard.name))
        shard.unlink()
    index = folder / _INDEX
    if index.exists():
        document = json.loads(index.read_text(encoding="utf-8"))
        document["weight_map"] = {name: _bin_name(shard) for name, shard in document["weight_map"].items()}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        index.unlink()


def _bin_name(shard: str) -> str:
    """model-00001-of-00002.safetensors to pytorch_model-00001-of-00002.bin"""
    return f"pytorch_{shard.removesuffix('.safetensors')}.bin"
