"""A model that keeps the half precision of its files in memory, and computes in fp32 all the same.

To widen a bf16 number is exact, so nothing of what it computes depends on when it is done. Here it is done where a weight acts,
a layer at a time, and the wide copy is gone behind it: a model takes the room of its files, not twice that. For a look at a text
or two; who computes for long widens once.
"""

from functools import partial
from typing import Any

import torch
from torch.nn.functional import linear

HALF = (torch.bfloat16, torch.float16)

# Numbers of a weight that are wide at once: 8 MB. A head has many times that.
_AT_ONCE = 2**21
# Norms and biases stay wide: what they take is nothing.
_SMALL = 2**16


def widen(model: torch.nn.Module) -> None:
    """Has every layer of half precision compute in fp32, from now on. In place."""
    for module in model.modules():
        halves = [parameter for parameter in module.parameters(recurse=False) if parameter.dtype in HALF]
        if not halves:
            continue
        if type(module) is torch.nn.Linear:
            module.forward = partial(_linear, module)  # type: ignore[method-assign]
        elif type(module) is torch.nn.Embedding:
            module.register_forward_hook(lambda _, __, rows: rows.float())
        elif all(parameter.numel() <= _SMALL for parameter in halves):
            for parameter in halves:
                parameter.data = parameter.data.float()
        else:
            _widen_while_it_acts(module)


def _linear(layer: torch.nn.Linear, states: torch.Tensor) -> torch.Tensor:
    made = states.new_empty(*states.shape[:-1], layer.out_features)
    rows = max(1, _AT_ONCE // layer.in_features)
    for start in range(0, layer.out_features, rows):
        some = slice(start, start + rows)
        bias = None if layer.bias is None else layer.bias[some].float()
        made[..., some] = _product(states, layer.weight[some].float(), bias)
    return made


def _product(states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """By oneDNN on a CPU: what torch takes by itself, MKL, is less than half as fast on AMD's, and no faster on others."""
    if states.device.type == "cpu" and torch.backends.mkldnn.is_available():
        made: torch.Tensor = torch.ops.mkldnn._linear_pointwise(states, weight, bias, "none", [], "")
        return made
    return linear(states, weight, bias)


def _widen_while_it_acts(module: torch.nn.Module) -> None:
    """Of any other kind: its own parameters are wide from before its forward pass until behind it."""
    kept: dict[str, torch.Tensor] = {}

    def before(*_: Any) -> None:
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.dtype in HALF:
                kept[name] = parameter.data
                parameter.data = parameter.data.float()

    def after(*_: Any) -> None:
        for name, parameter in module.named_parameters(recurse=False):
            if name in kept:
                parameter.data = kept.pop(name)

    module.register_forward_pre_hook(before)
    module.register_forward_hook(after, always_call=True)
