"""GPTQ: a model's linear layers rounded to 2, 3, 4 or 8 bits, each so that its outputs change least (arXiv 2210.17323).

gptqmodel does the mathematics. It is the extra `gptq`, imported here alone and only when a model is quantized.
"""

import fnmatch
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig
from transformers.pytorch_utils import Conv1D

from service.specs.reasons import Reason
from worker.export.calibration import Calibration
from worker.failures import JobFailure
from worker.models.dtype import compute_dtype
from worker.models.loading import load_config
from worker.models.quantization import quantized_with, refuse_unreadable

# Weights that share one scale, along a layer's inputs: fewer are nearer to the weights and cost more bits.
GROUP_SIZES = (128, 64, 32)
WHOLE_ROWS = -1

CALIBRATION = "calibration.json"

# A library that writes a folder of another's: (source, target, bits, group size, windows, bytes of a shard, device).
Quantizer = Callable[[Path, Path, int, int, list[list[int]], int, torch.device], None]


def quantize(
    source: Path, target: Path, bits: int, calibration: Calibration, shard_bytes: int, device: torch.device, by: Quantizer
) -> None:
    """Writes to `target`, which is not there yet, the model of `source` in so many bits, with everything that lies beside it.

    Adapters are merged before: a rounded weight takes none. Raises JobFailure.
    """
    config = load_config(source)
    if (method := quantized_with(config)) is not None:
        raise JobFailure(Reason.BAD_MODEL, f"The model {source.name!r} is quantized already ({method}): export it as it is.")
    refuse_long_windows(config, calibration)
    by(source, target, bits, group_size(config), [window.input_ids for window in calibration.windows], shard_bytes, device)
    _clean(source, target)
    record = json.dumps(calibration.to_json() | {"bits": bits, "group_size": group_size(config)}, ensure_ascii=False, indent=2)
    (target / CALIBRATION).write_text(record + "\n", encoding="utf-8")


def gptqmodel(
    source: Path, target: Path, bits: int, group: int, windows: list[list[int]], shard_bytes: int, device: torch.device
) -> None:
    """The library. Raises JobFailure where this worker does not have it."""
    refuse_unreadable("gptq")
    os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")  # fewer than two stop it at its import on a small host
    from gptqmodel import GPTQModel, QuantizeConfig
    from transformers import AutoConfig

    scratch = target.with_name(f"{target.name}.scratch")
    config = QuantizeConfig(
        bits=bits,
        group_size=group,
        desc_act=False,
        act_group_aware=group != WHOLE_ROWS,
        offload_to_disk=True,
        offload_to_disk_path=str(scratch),
    )
    stored = AutoConfig.from_pretrained(source, local_files_only=True, trust_remote_code=False).dtype or torch.float32
    dtype = stored if device.type == "cpu" or stored != torch.float32 else compute_dtype(device)
    try:
        model = GPTQModel.load(str(source), config, trust_remote_code=False, device=str(device), dtype=dtype)
        seen = [{"input_ids": window, "attention_mask": [1] * len(window)} for window in windows]
        model.quantize(seen, batch_size=1, calibration_data_min_length=1)
        model.save(str(target), max_shard_bytes=shard_bytes)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def group_size(config: PreTrainedConfig) -> int:
    """The largest that divides the inputs of every layer; -1, one scale for a whole row of weights, where none does."""
    inputs = _layer_inputs(config)
    return next((size for size in GROUP_SIZES if all(width % size == 0 for width in inputs)), WHOLE_ROWS)


def refuse_long_windows(config: PreTrainedConfig, calibration: Calibration) -> None:
    """What a layer sees beyond the positions that the model knows is nothing that it will see."""
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    longest = max(len(window.input_ids) for window in calibration.windows)
    if isinstance(positions, int) and longest > positions:
        sentence = f"export_quantization_maxlen is {longest}, and the model has {positions} positions: set it to that or less."
        raise JobFailure(Reason.BAD_DATA, sentence)


def _layer_inputs(config: PreTrainedConfig) -> set[int]:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    head = model.get_output_embeddings()
    linear = [module for module in model.modules() if isinstance(module, (torch.nn.Linear, Conv1D)) and module is not head]
    return {module.in_features if isinstance(module, torch.nn.Linear) else module.nx for module in linear}


def _clean(source: Path, target: Path) -> None:
    """The tokenizer and what else lies beside the weights stay as they are; nothing says where on this host it was made."""
    (target / "quant_log.csv").unlink(missing_ok=True)
    for file in sorted(source.iterdir()):
        if file.is_file() and file.name != "config.json" and not _is_weights(file.name):
            shutil.copy2(file, target / file.name)
    for name in ("config.json", "quantize_config.json"):
        if (target / name).is_file():
            document = json.loads((target / name).read_text(encoding="utf-8"))
            (target / name).write_text(json.dumps(_without_paths(document), indent=2) + "\n", encoding="utf-8")


def _is_weights(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in ("model*.safetensors", "model.safetensors.index.json"))


def _without_paths(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_paths(inner) for key, inner in value.items() if not key.endswith("_path")}
    return [_without_paths(inner) for inner in value] if isinstance(value, list) else value
