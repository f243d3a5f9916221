"""Adapters as they lie in folders: looked at, laid on a model, and merged into it.

Merging adds scaling · B A to a weight. It happens in full precision only: peft would read a quantized weight as bitsandbytes has
packed it, and what came out would be another model (Hu et al. 2021, LoRA, section 4.1).
"""

import json
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from peft.utils.constants import EMBEDDING_LAYER_NAMES
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from service.specs.reasons import Reason
from worker.failures import JobFailure
from worker.models.start import SavedAdapter

# The model's config as it was under the adapter: RoPE that was scaled and a vocabulary that was grown are not in the base's own.
BASE_CONFIG = "base_config.json"

_CONFIG = "adapter_config.json"

# The fields of a LoraConfig that say how an adapter acts, and those that say nothing to one that is there already.
_ACTING = (
    "r",
    "target_modules",
    "exclude_modules",
    "lora_alpha",
    "lora_dropout",
    "fan_in_fan_out",
    "bias",
    "use_rslora",
    "modules_to_save",
    "layers_to_transform",
    "layers_pattern",
    "rank_pattern",
    "alpha_pattern",
    "use_dora",
    "lora_bias",
    "ensure_weight_tying",
)
_IDLE = (
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "init_lora_weights",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "revision",
    "task_type",
)
_INITIAL = (True, False, None, "gaussian", "orthogonal", "eva")

# Those that are of A, B and the layers they are for, or of modules that it brings whole, and nothing else.
_PLAIN = (
    "r",
    "target_modules",
    "exclude_modules",
    "lora_alpha",
    "lora_dropout",
    "fan_in_fan_out",
    "use_rslora",
    "layers_to_transform",
    "layers_pattern",
    "modules_to_save",
    "ensure_weight_tying",
)
_MATRICES = (".lora_A.weight", ".lora_B.weight")

_PREFIX = "base_model.model."
# Which side of an adapter's matrix is the model's and not the rank.
_LORA = {".lora_A.weight": 1, ".lora_B.weight": 0, ".lora_embedding_A": 1, ".lora_embedding_B": 0}


def merged(model: PreTrainedModel, adapters: Iterable[SavedAdapter]) -> PreTrainedModel:
    """The model with each adapter merged into it in order; changed in place. It must not be quantized."""
    for adapter in adapters:
        model = laid_on(model, adapter, is_trainable=False).merge_and_unload()
    return model


def merged_as_held(model: PreTrainedModel, adapters: Iterable[SavedAdapter]) -> PreTrainedModel:
    """The same, with every number of the type that it had. Adapters are fp32 here, so a sum in half precision is rounded once."""
    held = {name: parameter.dtype for name, parameter in model.named_parameters()}
    of_model = model.dtype
    for adapter in adapters:
        if not _is_added(model, adapter):
            model = merged(model, [adapter])
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.to(held.get(name, of_model))
    return model


def are_plain(adapters: Sequence[SavedAdapter], tied: bool) -> bool:
    """Whether each is nothing but A and B of some layers, which act as scaling · B A, and modules that it brings whole, such as
    embeddings: no bias, no variant, and nothing whole in whose place one below it has added something. `tied`: whether the
    model's head is its embeddings.
    """
    added: set[str] = set()
    for adapter in adapters:
        if not _is_plain(adapter, tied):
            return False
        layers, whole = _parts(adapter)
        if added & {_module(key) for key in whole}:
            return False
        added |= set(layers)
    return True


def acting_together(model: PreTrainedModel, adapters: Sequence[SavedAdapter]) -> PeftModel:
    """All of them on a model whose whole modules they have brought, none merged: each adds its own. They must be plain."""
    laid: PeftModel | None = None
    for number, adapter in enumerate(adapters):
        lora_config = _lora_config(adapter, _config(adapter))
        lora_config.modules_to_save, lora_config.ensure_weight_tying = None, False
        name = f"adapter_{number}"
        with _explained(adapter):
            if laid is None:
                laid = get_peft_model(model, lora_config, name)
            else:
                laid.add_adapter(name, lora_config)
            _fill(laid, adapter, name)
    assert laid is not None, "there is one at least"
    laid.base_model.set_adapter(list(laid.peft_config), inference_mode=True)
    return laid


def bring_whole(model: PreTrainedModel, adapter: SavedAdapter) -> None:
    """Puts the modules that a plain adapter has whole into the place of the model's, in fp32; the vocabulary grows to them."""
    config, shapes = _config(adapter), _shapes(adapter)
    _grow_to(model, shapes)
    _refuse_another_base(model, adapter, config, shapes)
    with _explained(adapter), _opened(adapter) as tensor:
        for key in _parts(adapter)[1]:
            model.get_parameter(key).data = tensor(f"{_PREFIX}{key}").float()


def laid_on(model: PreTrainedModel, adapter: SavedAdapter, is_trainable: bool) -> PeftModel:
    """The model with the adapter on it, as its file has it; the vocabulary grows to the adapter's first."""
    config, shapes = _config(adapter), _shapes(adapter)
    _grow_to(model, shapes)
    _refuse_another_base(model, adapter, config, shapes)
    lora_config = _lora_config(adapter, config)
    with _explained(adapter):
        return PeftModel.from_pretrained(model, adapter.folder, is_trainable=is_trainable, config=lora_config, torch_device="cpu")


def laid_beside(model: PeftModel, adapter: SavedAdapter, name: str) -> None:
    """The adapter under that name beside those that the model has, neither acting nor training."""
    config, shapes = _config(adapter), _shapes(adapter)
    _refuse_another_base(model.get_base_model(), adapter, config, shapes)
    lora_config = _lora_config(adapter, config)
    with _explained(adapter):
        model.add_adapter(name, lora_config)
        model.load_adapter(str(adapter.folder), name, is_trainable=False, torch_device="cpu")


def make_room(model: PreTrainedModel, adapter: SavedAdapter) -> None:
    """Rows for an adapter that was made on a model with a larger vocabulary; it fills them when it is laid on."""
    _grow_to(model, _shapes(adapter))


def base_config(adapter: SavedAdapter) -> dict[str, Any]:
    """The config of the model under the adapter; empty where the adapter came without it."""
    return _json_object(adapter, BASE_CONFIG) if (adapter.folder / BASE_CONFIG).is_file() else {}


@torch.no_grad()
def _is_added(model: PreTrainedModel, adapter: SavedAdapter) -> bool:
    """Whether scaling · B A was added to each weight, in place and in fp32, layer by layer, and whole modules put in place.

    It is what peft does, without the layers that it puts in and takes out again. Where it is False, nothing was done.
    """
    if not _is_plain(adapter, model.config.tie_word_embeddings):
        return False
    config, shapes = _config(adapter), _shapes(adapter)
    _grow_to(model, shapes)
    _refuse_another_base(model, adapter, config, shapes)
    acting = _lora_config(adapter, config)
    names, whole = _parts(adapter)
    layers = {name: model.get_submodule(name) for name in names}
    ranks = {shape[0] if key.endswith(".lora_A.weight") else shape[1] for key, shape in shapes.items() if key not in whole}
    is_tied = model.config.tie_word_embeddings and any(layer is model.get_output_embeddings() for layer in layers.values())
    known = all(type(layer) in (torch.nn.Linear, Conv1D) for layer in layers.values())
    if not known or is_tied or ranks != {acting.r} or len(shapes) != 2 * len(layers) + len(whole):
        return False  # for peft, which may refuse it
    scaling = acting.lora_alpha / (math.sqrt(acting.r) if acting.use_rslora else acting.r)
    with _explained(adapter), _opened(adapter) as tensor:
        for name, layer in layers.items():
            product_MN = tensor(f"{_PREFIX}{name}.lora_B.weight").float() @ tensor(f"{_PREFIX}{name}.lora_A.weight").float()
            layer.weight.data.add_(product_MN.T if isinstance(layer, Conv1D) else product_MN, alpha=scaling)
        for key in whole:
            parameter = model.get_parameter(key)
            parameter.data = tensor(f"{_PREFIX}{key}").to(parameter.dtype)
    return True


def _fill(model: PeftModel, adapter: SavedAdapter, name: str) -> None:
    """Its matrices from its file."""
    with _opened(adapter) as tensor:
        keys = [f"{_PREFIX}{key}" for key in _shapes(adapter) if key.endswith(_MATRICES)]
        result = set_peft_model_state_dict(model, {key: tensor(key) for key in keys}, name)
    missing = [key for key in result.missing_keys if f".{name}." in key]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing[:3])}")


def _is_plain(adapter: SavedAdapter, tied: bool) -> bool:
    config, (_, whole) = _config(adapter), _parts(adapter)
    acting = {name: config.get(name) for name in _ACTING if name not in _PLAIN}
    if any(value for name, value in acting.items() if (name, value) != ("bias", "none")):
        return False
    if whole and tied and not config.get("ensure_weight_tying"):
        return False  # one of the two may go its own way
    saved = [*(config.get("modules_to_save") or ()), *(EMBEDDING_LAYER_NAMES if tied else ())]
    return all(_module(key).endswith(tuple(saved)) for key in whole)  # by their names' ends, as peft has it


def _parts(adapter: SavedAdapter) -> tuple[list[str], list[str]]:
    """The layers that it has matrices for, and the parameters that it has whole, by their names in the model."""
    keys = {key: next((ending for ending in _MATRICES if key.endswith(ending)), None) for key in _shapes(adapter)}
    layers = dict.fromkeys(key.removesuffix(ending) for key, ending in keys.items() if ending is not None)
    return list(layers), [key for key, ending in keys.items() if ending is None]


def _module(key: str) -> str:
    return key.rpartition(".")[0]


@contextmanager
def _opened(adapter: SavedAdapter) -> Iterator[Callable[[str], torch.Tensor]]:
    """Its tensors by the names that they have in its file. It is opened anew for each: what was read would stay in memory."""
    file = adapter.folder / "adapter_model.safetensors"
    if file.is_file():
        yield lambda name: _tensor(file, name)
    else:
        yield torch.load(adapter.folder / "adapter_model.bin", map_location="cpu", weights_only=True).__getitem__


def _tensor(file: Path, name: str) -> torch.Tensor:
    with safe_open(file, "pt") as tensors:
        tensor: torch.Tensor = tensors.get_tensor(name)
    return tensor


@contextmanager
def _explained(adapter: SavedAdapter) -> Iterator[None]:
    with warnings.catch_warnings():
        # peft 0.21 asks transformers for a property by its old name
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        warnings.filterwarnings("error", "Found missing adapter keys")
        try:
            yield
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except Exception as error:  # whatever a file of somebody else's can make the libraries raise
            line = (str(error).strip().splitlines() or [type(error).__name__])[0].replace(str(adapter.folder), adapter.name)
            raise _bad(adapter, f"cannot be loaded: {line[:300]}") from None


def _config(adapter: SavedAdapter) -> dict[str, Any]:
    if not adapter.folder.is_dir():
        raise JobFailure(Reason.MISSING_MODEL, f"There is no adapter {adapter.name!r} in the models folder.")
    config = _json_object(adapter, _CONFIG)
    if config.get("peft_type") != "LORA":
        raise _bad(adapter, f"is of the kind {config.get('peft_type')}; LORA is taken", _CONFIG)
    return config


def _lora_config(adapter: SavedAdapter, config: dict[str, Any]) -> LoraConfig:
    """What says how the matrices act. Other fields make peft import a module that the file names, or begin with other weights."""
    begun_with = config.get("init_lora_weights", True)
    if begun_with not in _INITIAL:
        raise _bad(adapter, f"was begun with init_lora_weights {begun_with!r}, which changes the base's own weights", _CONFIG)
    unknown = sorted(name for name, value in config.items() if value and name not in (*_ACTING, *_IDLE))
    if unknown:
        raise _bad(adapter, f"uses {', '.join(unknown)} of peft, which is not taken", _CONFIG)
    return LoraConfig(task_type="CAUSAL_LM", **{name: config[name] for name in _ACTING if config.get(name) is not None})


def _shapes(adapter: SavedAdapter) -> dict[str, tuple[int, ...]]:
    """The adapter's tensors by the names of the model's, and their shapes."""
    for name in ("adapter_model.safetensors", "adapter_model.bin"):
        file = adapter.folder / name
        if file.is_file():
            return {key.removeprefix(_PREFIX): shape for key, shape in _shapes_of(adapter, file).items()}
    raise _bad(adapter, "has no weights: neither adapter_model.safetensors nor adapter_model.bin")


def _shapes_of(adapter: SavedAdapter, file: Path) -> dict[str, tuple[int, ...]]:
    try:
        if file.suffix == ".safetensors":
            with safe_open(file, "pt") as tensors:
                return {key: tuple(tensors.get_slice(key).get_shape()) for key in tensors.keys()}  # noqa: SIM118
        return {key: tuple(tensor.shape) for key, tensor in torch.load(file, map_location="meta", weights_only=True).items()}
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except SafetensorError as error:
        raise _bad(adapter, f"has a broken weights file {file.name}: {error}", file.name) from None
    except Exception:  # torch.load raises what its parsers raise, and its advice is not for a service to follow
        raise _bad(
            adapter, f"has a broken weights file {file.name}: it is damaged, or holds more than tensors", file.name
        ) from None


def _grow_to(model: PreTrainedModel, shapes: dict[str, tuple[int, ...]]) -> None:
    """Rows for an adapter that holds more of them; it fills them itself."""
    embeddings = model.get_input_embeddings()
    (name,) = (name for name, module in model.named_modules() if module is embeddings)
    rows = shapes.get(f"{name}.weight", (0,))[0]
    if rows > embeddings.num_embeddings:
        model.resize_token_embeddings(rows, mean_resizing=False)


def _refuse_another_base(
    model: PreTrainedModel, adapter: SavedAdapter, config: dict[str, Any], shapes: dict[str, tuple[int, ...]]
) -> None:
    """peft would pass over what it finds no place for, and say so in a warning."""
    modules = dict(model.named_modules())
    for key, shape in shapes.items():
        ending = next((ending for ending in _LORA if key.endswith(ending)), f".{key.rpartition('.')[2]}")
        name = key.removesuffix(ending)
        if name not in modules:
            raise _other_base(model, adapter, config, f"it has no {name}")
        fits = _place_for(modules[name], ending)
        given = (shape[_LORA[ending]],) if ending in _LORA else shape
        if fits != given:
            raise _other_base(model, adapter, config, f"{name} has {_sizes(fits)} where the adapter has {_sizes(given)}")


def _place_for(module: torch.nn.Module, ending: str) -> tuple[int, ...] | None:
    """The size that an adapter's matrix must have there, or the shape of a whole parameter; None where there is no such thing."""
    sizes = {
        ".lora_A.weight": getattr(module, "in_features", getattr(module, "nx", None)),
        ".lora_B.weight": getattr(module, "out_features", getattr(module, "nf", None)),
        ".lora_embedding_A": getattr(module, "num_embeddings", None),
        ".lora_embedding_B": getattr(module, "embedding_dim", None),
    }
    if ending in sizes:
        size = sizes[ending]
        return None if size is None else (size,)
    parameter = getattr(module, ending.removeprefix("."), None)
    return None if parameter is None else tuple(parameter.shape)


def _sizes(shape: tuple[int, ...] | None) -> str:
    return "no place" if shape is None else "x".join(map(str, shape))


def _other_base(model: PreTrainedModel, adapter: SavedAdapter, config: dict[str, Any], why: str) -> JobFailure:
    made_on = Path(str(config.get("base_model_name_or_path") or "another model")).name
    here = Path(model.config.name_or_path).name
    return _bad(adapter, f"was made on {made_on!r} and does not fit the model {here!r}: {why}")


def _json_object(adapter: SavedAdapter, name: str) -> dict[str, Any]:
    try:
        document = json.loads((adapter.folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _bad(adapter, f"has no {name}", name) from None
    except ValueError as error:
        raise _bad(adapter, f"has a {name} that is not valid JSON: {error}", name) from None
    if not isinstance(document, dict):
        raise _bad(adapter, f"has a {name} that is not an object", name)
    return document


def _bad(adapter: SavedAdapter, why: str, file: str | None = None) -> JobFailure:
    return JobFailure(Reason.BAD_MODEL, f"The adapter {adapter.name!r} {why}.", **({"file": file} if file else {}))
