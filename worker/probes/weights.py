"""What rounding a checkpoint's weights would cost, against the least that it must."""

import math
from collections.abc import Iterator

import torch
from peft.tuners.tuners_utils import BaseTunerLayer

from worker.information.channels import gaussian_rate_distortion
from worker.probes.finding import Finding, exact
from worker.probes.token import Model, effective_weight, transformer_of

BITS = 4
WHY = "Nothing was sampled: the weights are known."


def rate_of_rounding(model: Model) -> Finding:
    """Bits a weight that a Gaussian source of the same variance needs for the error of 4-bit rounding, mean over the weights.

    The rest up to 4 is what the rounding wastes on them. Each row has a scale of its own, its largest weight.
    """
    bits, weights = 0.0, 0
    for weight_OI in linear_weights(model):
        rate = _rate(weight_OI.float())
        if not math.isfinite(rate):
            return exact(math.nan, "Some weights are not finite, or all equal.", "none")
        bits += rate * weight_OI.numel()
        weights += weight_OI.numel()
    if not weights:
        return exact(math.nan, "The model has no linear layer whose weights are plain numbers.", "none")
    return exact(bits / weights, WHY, f"{BITS}-bit rounding to the nearest, a scale a row, of {weights} weights")


def linear_weights(model: Model) -> Iterator[torch.Tensor]:
    """Of every linear layer between the embeddings and the head, with its adapter's update where that acts."""
    inside: set[int] = set()
    for module in transformer_of(model).modules():
        if id(module) in inside:
            continue
        if isinstance(module, BaseTunerLayer):
            inside |= {id(child) for child in module.modules()}
        if isinstance(module, BaseTunerLayer) or type(module) is torch.nn.Linear:
            base = module.get_base_layer() if isinstance(module, BaseTunerLayer) else module
            if type(base) is torch.nn.Linear and base.weight.is_floating_point():
                yield effective_weight(module)[0]


def rounded(weight_OI: torch.Tensor) -> torch.Tensor:
    """To the nearest of 2^4 − 1 levels of each row, symmetric about 0."""
    top = 2 ** (BITS - 1) - 1
    scale_O1 = weight_OI.abs().amax(dim=1, keepdim=True).clamp(min=1e-30) / top
    return (weight_OI / scale_O1).round().clamp(-top, top) * scale_O1


def _rate(weight_OI: torch.Tensor) -> float:
    variance = float(weight_OI.double().var(correction=0))
    error = float((weight_OI - rounded(weight_OI)).double().square().mean())
    if not (math.isfinite(variance) and variance > 0 and error > 0):
        return math.nan
    return gaussian_rate_distortion(variance, error)
