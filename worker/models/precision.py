"""Modules that compute in another precision than the model around them."""

from typing import Any

import torch
from peft.utils import ModulesToSaveWrapper

# Parts of the names of layer norms: input_layernorm, ln_1, final_norm.
_NORMS = ("norm", "ln")


def upcast_layernorms(model: torch.nn.Module) -> int:
    """Norm weights in fp32, and their sums with them; what they answer stays of the model's type. Answers how many there are."""
    norms = [module for name, module in model.named_modules() if _is_norm(name, module)]
    for module in norms:
        outside = next(module.parameters()).dtype
        module.float()
        bridge(module, torch.float32, outside)
    return len(norms)


def upcast_head(head: torch.nn.Module) -> None:
    """Logits in fp32, whatever the head computes in."""
    head.register_forward_hook(lambda module, args, output: output.float())


def bridge_saved_modules(model: torch.nn.Module, outside: torch.dtype) -> None:
    """Whole modules that train in another precision than the model's take its states, and answer in its type."""
    for wrapper in model.modules():
        if not isinstance(wrapper, ModulesToSaveWrapper):
            continue
        for module in wrapper.modules_to_save.values():
            inside = next(module.parameters()).dtype
            if inside != outside:
                bridge(module, inside, outside)


def bridge(module: torch.nn.Module, inside: torch.dtype, outside: torch.dtype) -> None:
    """Casts what comes into a module, and what comes out of it."""
    module.register_forward_pre_hook(lambda module, args: tuple(_cast(value, inside) for value in args))
    module.register_forward_hook(lambda module, args, output: _cast(output, outside))


def _is_norm(name: str, module: torch.nn.Module) -> bool:
    own = list(module.parameters(recurse=False))
    last = name.rpartition(".")[2]
    return bool(own) and all(p.ndim == 1 for p in own) and any(part in last for part in _NORMS)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value
