"""How many parameters a model has, and how many of them train, read off the headers of its safetensors files.

A header is eight bytes of length (little-endian) and a JSON object of tensors: {name: {dtype, shape, data_offsets}}.
https://github.com/huggingface/safetensors#format
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from math import prod
from pathlib import Path

from service.library.errors import LibraryError
from service.library.models import Model, quantized_with
from service.specs.finetuning import FinetuningArguments

Shape = tuple[int, ...]
Tensors = dict[str, Shape]

# The format's own limit: no header is longer.
LONGEST_HEADER = 100_000_000

# Which side of an adapter's matrix is the model's and not the rank.
_SIDES = {".lora_A.weight": 1, ".lora_B.weight": 0}

# Kept in the files of some older models, and not parameters.
_BUFFERS = ("rotary_emb.inv_freq", ".masked_bias")
_EMBEDDINGS = ("embed", "wte", "wpe", "shared")
_HEADS = ("lm_head", "embed_out")


def tensors_of(model: Model) -> Tensors | None:
    """The shape of every parameter; None where the files do not say it: no safetensors, or packed. Raises LibraryError."""
    if any(path.suffix != ".safetensors" for path in model.weights) or quantized_with(model) is not None:
        return None
    tensors: Tensors = {}
    for path in model.weights:
        stat = path.stat()
        tensors |= _header(path, model.name, stat.st_mtime_ns, stat.st_size)
    if model.config.get("tie_word_embeddings") is True and any(_is_embedding(name) for name in tensors):
        tensors = {name: shape for name, shape in tensors.items() if not _is_head(name)}
    return {name: shape for name, shape in tensors.items() if not _is_buffer(name, shape)}


def count(tensors: Tensors) -> int:
    return sum(map(prod, tensors.values()))


def width(tensors: Tensors) -> int | None:
    """Of the states that a head reads, which is that of the embeddings; None where no tensor is named as those are."""
    return next((shape[-1] for name, shape in tensors.items() if len(shape) == 2 and _is_embedding(name)), None)


def trainable(tensors: Tensors, finetuning: FinetuningArguments, model: Model) -> int | None:
    """How many numbers train; None where the files' names are not those of the modules that would."""
    return METHODS[finetuning.finetuning_type](tensors, finetuning, model)


def count_adapter(model: Model, adapter: Model) -> int | None:
    """How many numbers of an adapter train on that model; None where its files do not say it."""
    tensors = tensors_of(adapter)
    if tensors is None:
        return None
    if model.config.get("tie_word_embeddings") is True and any(_is_embedding(name) for name in tensors):
        # a head that is the embeddings is saved beside them, and is one with them as it trains
        tensors = {name: shape for name, shape in tensors.items() if not (_is_head(name) and "lora_" not in name)}
    return count(tensors)


def fit(model: Model, finetuning: FinetuningArguments) -> None:
    """Raises LibraryError when the model does not have what is to be trained."""
    tensors = tensors_of(model)
    if tensors is not None:
        trainable(tensors, finetuning, model)


def fit_adapter(model: Model, adapter: Model) -> None:
    """Raises LibraryError when the adapter was made on a model of another shape."""
    base, own = tensors_of(model), tensors_of(adapter)
    if base is None or own is None or any(".experts." in name for name in base):
        return
    for key, shape in own.items():
        ending = next((ending for ending in _SIDES if key.endswith(ending)), None)
        if ending is None:
            continue  # a module that is saved whole: a vocabulary that grew has more rows, and is taken so
        name = key.removeprefix("base_model.model.").removesuffix(ending)
        place = _named(base, f"{name}.weight")
        if not place and not _is_head(name):
            raise _another_base(model, adapter, f"it has no {name}")
        given = shape[_SIDES[ending]]
        # either side: a file may hold its matrices transposed, as GPT-2's does, and the worker looks again
        if place and not any(given in found for found in place.values()):
            sizes = " or ".join("x".join(map(str, found)) for found in place.values())
            raise _another_base(model, adapter, f"{name} is {sizes} and the adapter's side is {given}")


def _another_base(model: Model, adapter: Model, why: str) -> LibraryError:
    made_on = Path(str(adapter.config.get("base_model_name_or_path") or "another model")).name
    sentence = f"The adapter {adapter.name!r} was made on {made_on!r} and does not fit the model {model.name!r}: {why}."
    return LibraryError(sentence, "model.adapter_name_or_path")


def _full(tensors: Tensors, finetuning: FinetuningArguments, model: Model) -> int:
    return count(tensors)


def _freeze(tensors: Tensors, finetuning: FinetuningArguments, model: Model) -> int:
    """The named modules of the last n layers, or of the first n where the number is negative."""
    below = {name: _layer_and_rest(name) for name in tensors}
    rests = [rest for found in below.values() if found for rest in [found[1]]]
    modules = [tuple(name.split(".")) for name in finetuning.name_module_trainable]
    choices = ["all", *sorted({rest[0] for rest in rests if rest})]
    _refuse_unknown(
        "name_module_trainable",
        [".".join(module) for module in modules if not any(_is_within(rest, module) for rest in rests)],
        choices,
    )
    layers = _chosen_layers(1 + max((found[0] for found in below.values() if found), default=-1), finetuning)
    trains = {
        name: tensors[name]
        for name, found in below.items()
        if found and found[0] in layers and any(_is_within(found[1], module) for module in modules)
    }
    return count(trains)


def _lora(tensors: Tensors, finetuning: FinetuningArguments, model: Model) -> int | None:
    """r (in + out) for each matrix that gets an adapter, and the whole of each additional target."""
    if any(".experts." in name for name in tensors):
        return None  # transformers fuses the experts that the files hold one by one
    targets = finetuning.lora_target or ("all",)
    additional = finetuning.additional_target or ()
    matrices = {name.removesuffix(".weight"): shape for name, shape in tensors.items() if _is_matrix(name, shape)}
    adapted = _linear(matrices) if "all" in targets else _each(matrices, targets, _named)
    saved = _each(tensors, additional, _under)
    absent = [] if "all" in targets else [target for target in targets if not _named(matrices, target)]
    unsaved = [target for target in additional if not _under(tensors, target)]
    _refuse_unknown("lora_target", _not_heads(absent), _last_parts(matrices))
    _refuse_unknown("additional_target", _not_heads(unsaved), _last_parts(name.rpartition(".")[0] for name in tensors))
    if absent or unsaved:
        return None  # a head that is tied to the embeddings is in no file
    return finetuning.lora_rank * sum(map(sum, adapted.values())) + count(saved)


METHODS: dict[str, Callable[[Tensors, FinetuningArguments, Model], int | None]] = {
    "full": _full,
    "freeze": _freeze,
    "lora": _lora,
}


def _chosen_layers(n_layers: int, finetuning: FinetuningArguments) -> range:
    n_trainable = finetuning.num_layer_trainable
    if abs(n_trainable) > n_layers:
        sentence = f"num_layer_trainable is {n_trainable}, and the model has {n_layers} layers only."
        raise LibraryError(sentence, "finetuning.num_layer_trainable")
    return range(n_layers - n_trainable, n_layers) if n_trainable > 0 else range(-n_trainable)


def _layer_and_rest(name: str) -> tuple[int, tuple[str, ...]] | None:
    """(layer, the names below it) of a tensor in a layer; the first number in a name is the layer's."""
    parts = name.split(".")
    for position, part in enumerate(parts):
        if part.isdecimal():
            return int(part), tuple(parts[position + 1 :])
    return None


def _is_within(rest: tuple[str, ...], module: tuple[str, ...]) -> bool:
    return module == ("all",) or rest[: len(module)] == module


def _is_matrix(name: str, shape: Shape) -> bool:
    return len(shape) == 2 and name.endswith(".weight")


def _is_embedding(name: str) -> bool:
    return any(word in part for part in name.split(".") for word in _EMBEDDINGS)


def _is_head(name: str) -> bool:
    return any(part in _HEADS for part in name.split("."))


def _is_buffer(name: str, shape: Shape) -> bool:
    return name.endswith(_BUFFERS) or (name.endswith(".attn.bias") and len(shape) == 4)


def _named(modules: Tensors, target: str) -> Tensors:
    """The modules that a target names by the end of their names. A file may leave out what stands before all names."""
    return {
        name: shape for name, shape in modules.items() if f".{name}".endswith(f".{target}") or f".{target}".endswith(f".{name}")
    }


def _under(tensors: Tensors, target: str) -> Tensors:
    """The tensors in the modules that peft would save for a target: any whose name ends so, "norm" as well as "layernorm"."""
    return {
        name: shape
        for name, shape in tensors.items()
        if any(module.endswith(target) for module in accumulate(name.split(".")[:-1], "{}.{}".format))
    }


def _each(tensors: Tensors, targets: Iterable[str], match: Callable[[Tensors, str], Tensors]) -> Tensors:
    return {name: shape for target in targets for name, shape in match(tensors, target).items()}


def linear(tensors: Tensors) -> Tensors:
    """The weights of linear layers, without embeddings and heads: what quantization packs."""
    return _linear({name: shape for name, shape in tensors.items() if _is_matrix(name, shape)})


def _linear(matrices: Tensors) -> Tensors:
    return {name: shape for name, shape in matrices.items() if not _is_embedding(name) and not _is_head(name)}


def _not_heads(names: list[str]) -> list[str]:
    return [name for name in names if not _is_head(name)]


def _last_parts(names: Iterable[str]) -> list[str]:
    return sorted({name.rpartition(".")[2] for name in names})


def _refuse_unknown(argument: str, unknown: Sequence[str], choices: Sequence[str]) -> None:
    if unknown:
        sentence = f"The model has no module {', '.join(unknown)}; there are: {', '.join(choices)}."
        raise LibraryError(sentence, f"finetuning.{argument}")


@lru_cache(maxsize=256)
def _header(path: Path, model: str, mtime_ns: int, size: int) -> Tensors:
    """The tensors of one file. Time and size are for the cache: a file that changed is read again."""
    broken = f"The weights file {path.name} of the model {model!r} cannot be read: "
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > min(size - 8, LONGEST_HEADER):
                raise LibraryError(f"{broken}its header does not fit into it.")
            header = json.loads(stream.read(length))
        tensors = dict(_shapes(header))
        end = max((int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"), default=0)
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        raise LibraryError(f"{broken}its header is not one of safetensors.") from None
    if 8 + length + end != size:
        raise LibraryError(f"{broken}it has {size} bytes, and its header says {8 + length + end}.")
    return tensors


def _shapes(header: dict[str, dict[str, list[int]]]) -> Iterator[tuple[str, Shape]]:
    for name, entry in header.items():
        if name != "__metadata__":
            yield name, tuple(int(size) for size in entry["shape"])
