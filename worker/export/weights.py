"""A model's weights on the disk: shards of safetensors, or of torch's own format for programs that read no other.

What transformers decides of a model's files (their names, which tensor goes where, what a tied or a converted weight is called)
is asked of transformers; the bytes are written here, so that they are hashed on their way.
"""

import json
from pathlib import Path
from typing import IO, cast

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion
from transformers.modeling_utils import remove_tied_weights_from_state_dict

from worker.export.hashed_file import HashedFile

GB = 10**9  # as transformers counts shards

# safetensors' names of types, in the order in which its files hold them: the widest first, so that every tensor is aligned.
_TYPES = {
    torch.int64: "I64",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}

Tensors = dict[str, torch.Tensor]


def write(model: PreTrainedModel, folder: Path, most_gb: int, is_legacy: bool) -> dict[str, str]:
    """The weights, config.json and generation_config.json, as `save_pretrained` writes them. No shard is larger, but for one that
    is a single tensor. Answers the SHA-256 of each file of weights by its name.
    """
    model.save_pretrained(folder, state_dict={})  # no weights: what stands beside them
    tensors = _to_save(model)
    pattern = "pytorch_model{suffix}.bin" if is_legacy else "model{suffix}.safetensors"
    split = split_torch_state_dict_into_shards(tensors, filename_pattern=pattern, max_shard_size=most_gb * GB)
    hashes = {}
    for name, keys in split.filename_to_tensors.items():
        with HashedFile(folder / name) as file:
            (_write_bin if is_legacy else _write_safetensors)({key: tensors[key].contiguous() for key in keys}, file)
        hashes[name] = file.sha256
    if split.is_sharded:
        total = {"total_parameters": model.num_parameters(), **split.metadata}
        _write_index(folder / f"{pattern.format(suffix='')}.index.json", total, split.tensor_to_filename)
    return hashes


def _to_save(model: PreTrainedModel) -> Tensors:
    """Each weight once, by the name that it has in files."""
    left_out = set(model._keys_to_ignore_on_save or ())
    held = {name: tensor for name, tensor in model.state_dict().items() if name not in left_out}
    return cast(Tensors, revert_weight_conversion(model, remove_tied_weights_from_state_dict(held, model)))


def _write_safetensors(tensors: Tensors, file: HashedFile) -> None:
    """As safetensors' documentation has it: 8 bytes with the header's length, the header in JSON, and the tensors in order."""
    order = list(_TYPES)
    keys = sorted(tensors, key=lambda key: (order.index(tensors[key].dtype), key))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for key in keys:
        tensor = tensors[key]
        start, end = end, end + tensor.nbytes
        header[key] = {"dtype": _TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for key in keys:
        file.write(tensors[key].reshape(-1).view(torch.uint8).numpy().data)


def _write_bin(tensors: Tensors, file: HashedFile) -> None:
    """As torch pickles it."""
    torch.save(tensors, cast(IO[bytes], file))


def _write_index(file: Path, metadata: dict[str, object], weight_map: dict[str, str]) -> None:
    document = {"metadata": metadata, "weight_map": weight_map}
    file.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")
