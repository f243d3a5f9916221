"""Which parameters train: an adapter's, those of some layers, or all."""

import warnings
from collections.abc import Iterable, Iterator
from typing import TypeAlias

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils.constants import EMBEDDING_LAYER_NAMES
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from service.specs.finetuning import FinetuningArguments
from service.specs.job import with_lora_defaults
from service.specs.reasons import Reason
from worker.failures import JobFailure
from worker.models.precision import bridge_saved_modules
from worker.models.saved_adapters import laid_on
from worker.models.start import SavedAdapter

Model: TypeAlias = PreTrainedModel | PeftModel


def prepare(
    model: PreTrainedModel,
    finetuning: FinetuningArguments,
    gradient_checkpointing: bool,
    continued: SavedAdapter | None = None,
    grown: tuple[str, ...] = (),
) -> Model:
    """The model ready to train, changed in place: with the adapter that training goes on with, or a new one, or none.

    What trains is fp32, since many an update is too small for half precision; an adapter is bf16 with lora_bf16_mode. `grown`
    are modules with new rows, which nothing but training fills: an adapter trains and keeps them whole.
    """
    outside = model.dtype
    if continued is not None:
        prepared: Model = laid_on(model, continued, is_trainable=True)
    elif finetuning.finetuning_type == "lora":
        prepared = _lora(model, finetuning, grown)
    else:
        prepared = METHODS[finetuning.finetuning_type](model, finetuning)
    as_trained(prepared, finetuning)
    bridge_saved_modules(prepared, outside)
    if gradient_checkpointing:
        _checkpoint_gradients(prepared)
    return prepared


def as_trained(model: Model, finetuning: FinetuningArguments) -> None:
    """In place: what trains is of the type that it trains in, and an adapter names no base."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.bfloat16 if finetuning.lora_bf16_mode else torch.float32)
    _forget_base_name(model)


def named_targets(model: PreTrainedModel, finetuning: FinetuningArguments) -> list[str]:
    """What a new adapter lies on, by name, for a library that knows no "all": every linear layer but the head."""
    targets = list(finetuning.lora_target or ())
    _refuse_unknown(
        model, "lora_target", [target for target in targets if target != "all"], (torch.nn.Linear, torch.nn.Embedding)
    )
    if "all" not in targets:
        return targets
    head = model.get_output_embeddings()
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and module is not head]
    return sorted({name.rpartition(".")[2] for name in linear} | {target for target in targets if target != "all"})


def trainable_parameters(model: torch.nn.Module) -> tuple[int, int]:
    """(how many numbers train, how many there are)"""
    counts = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(count for count, trains in counts if trains), sum(count for count, _ in counts)


def _full(model: PreTrainedModel, finetuning: FinetuningArguments) -> Model:
    model.requires_grad_(True)
    return model


def _freeze(model: PreTrainedModel, finetuning: FinetuningArguments) -> Model:
    """The named modules of the last n layers, or of the first n where the number is negative."""
    layers = _chosen_layers(model.config.num_hidden_layers, finetuning.num_layer_trainable)
    modules = [tuple(name.split(".")) for name in finetuning.name_module_trainable]
    choices = sorted({rest[0] for name, _ in model.named_parameters() for _, rest in _layer_and_rest(name)})
    matched = set()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(False)
        for layer, rest in _layer_and_rest(name):
            for module in modules:
                if module == ("all",) or rest[: len(module)] == module:
                    matched.add(module)
                    parameter.requires_grad_(layer in layers)
    unknown = [".".join(module) for module in modules if module not in matched]
    if unknown:
        _refuse("name_module_trainable", unknown, ["all", *choices])
    return model


def _lora(model: PreTrainedModel, finetuning: FinetuningArguments, grown: tuple[str, ...] = ()) -> Model:
    finetuning = with_lora_defaults(finetuning)
    targets = list(finetuning.lora_target or ())
    additional = list(dict.fromkeys((*(finetuning.additional_target or ()), *grown)))
    named = [target for target in targets if target != "all"]
    _refuse_unknown(model, "lora_target", named, (torch.nn.Linear, Conv1D, torch.nn.Embedding))
    _refuse_unknown(model, "additional_target", additional, (torch.nn.Module,))
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=finetuning.lora_rank,
        lora_alpha=finetuning.lora_alpha,
        lora_dropout=finetuning.lora_dropout,
        target_modules=targets if named == targets else (_packed(model) or "all-linear"),
        modules_to_save=additional or None,
        # a head that is the embeddings transposed stays so, or it would not learn what they learn
        ensure_weight_tying=model.config.tie_word_embeddings and _names_embeddings([*named, *additional]),
    )
    with warnings.catch_warnings():
        # peft 0.21 asks transformers for a property by its old name
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        return get_peft_model(model, config)


METHODS = {"full": _full, "freeze": _freeze, "lora": _lora}


def _chosen_layers(n_layers: int, n_trainable: int) -> range:
    if abs(n_trainable) > n_layers:
        sentence = f"num_layer_trainable is {n_trainable}, and the model has {n_layers} layers only."
        raise JobFailure(Reason.BAD_MODEL, sentence)
    return range(n_layers - n_trainable, n_layers) if n_trainable > 0 else range(-n_trainable)


def _layer_and_rest(name: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """(layer, the names below it) of a parameter in a layer, such as model.layers.11.mlp.up_proj.weight; nothing of another.

    The first number in a name is the layer's; a later one counts something inside it, such as an expert."""
    parts = name.split(".")
    for position, part in enumerate(parts):
        if part.isdecimal():
            yield int(part), tuple(parts[position + 1 :])
            return


def _refuse_unknown(model: PreTrainedModel, argument: str, names: Iterable[str], kinds: tuple[type, ...]) -> None:
    """peft is content if any name matches; here each must."""
    fitting = [name for name, module in model.named_modules() if isinstance(module, kinds)] + _packed(model)
    unknown = [name for name in names if not any(f".{module_name}".endswith(f".{name}") for module_name in fitting)]
    if unknown:
        choices = {module_name.rpartition(".")[2] for module_name in fitting}
        _refuse(argument, unknown, sorted(choice for choice in choices if choice and not choice.isdecimal()))


def _packed(model: PreTrainedModel) -> list[str]:
    """The linear layers of a GPTQ checkpoint, by their whole names: peft's "all-linear" does not know their classes."""
    return [name for name, module in model.named_modules() if hasattr(module, "qweight")]


def _names_embeddings(names: Iterable[str]) -> bool:
    return any(name.rpartition(".")[2] in EMBEDDING_LAYER_NAMES for name in names)


def _refuse(argument: str, unknown: list[str], choices: list[str]) -> None:
    sentence = f"The model has no module {', '.join(unknown)} for {argument}; there are: {', '.join(choices)}."
    raise JobFailure(Reason.BAD_MODEL, sentence)


def _forget_base_name(model: Model) -> None:
    """With a name peft would look its config up as it saves, on a hub too, to guess whether the vocabulary grew.

    Modules that grew are saved whole anyway, and what is downloaded names the base as the job does.
    """
    if isinstance(model, PeftModel):
        for config in model.peft_config.values():
            config.base_model_name_or_path = ""


def _checkpoint_gradients(model: Model) -> None:
    """Activations are computed again in the backward pass instead of being kept; the gradients are the same."""
    # with a cache, keys and values would be appended a second time by the recomputation
    model.config.use_cache = False
    model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    if isinstance(model, PeftModel):
        model.enable_input_require_grads()
