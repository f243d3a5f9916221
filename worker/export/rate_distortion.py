"""Where a quantized model stands between bits and faults: what a weight costs as it is stored, and what was lost of it.

Shapes: M outputs of a layer, N inputs. A layer of n = MN weights of variance σ², stored in R bits each, has the mean squared
error D. No code of R bits a weight does better on Gaussian weights than D(R) = σ² 2^(−2R) (Cover & Thomas, Elements of
Information Theory, 2nd ed., theorem 10.3.2), and the layers of a model are as many sources, each with its own σ² and R. The
bound is on the error of the weights; GPTQ does not seek that, but the error of what they make of the calibration text.
"""

import json
import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers.pytorch_utils import Conv1D

from worker.information.channels import gaussian_distortion_rate

INPUTS_AT_ONCE = 1024


@dataclass(frozen=True)
class RateDistortion:
    """One row of the table. Rates in bits, errors in the square of the weights' own unit, means over all rounded weights."""

    bits: int  # asked for
    bits_per_weight: float  # of the rounded layers, as stored: with scales, zeros and the order of inputs
    bits_per_parameter: float  # of the whole model: with what is not rounded
    weight_variance: float
    weight_distortion: float
    gaussian_bound: float
    bits_above_bound: float | None  # so many fewer would do for this error, were the weights Gaussian; None: nothing was lost


@torch.no_grad()
def rate_distortion(whole: torch.nn.Module, packed: torch.nn.Module, folder: Path, bits: int) -> RateDistortion:
    """Of a model before, and as it is loaded again from `folder`: the layers that hold rounded weights are compared by name.

    ValueError where none does.
    """
    stored = _stored(folder)
    names = [name for name, _ in rounded_layers(packed)]
    if not names:
        raise ValueError("no layer of the model holds rounded weights")
    layers = [_Layer.of(name, whole, packed, stored) for name in names]
    n_weights = sum(layer.n_weights for layer in layers)
    distortion = sum(layer.squared_error for layer in layers) / n_weights
    bound = sum(layer.bound for layer in layers) / n_weights
    in_layers = sum(layer.bits for layer in layers)
    not_rounded = [tensor for name, tensor in stored.items() if not _is_of(name, names)]
    return RateDistortion(
        bits=bits,
        bits_per_weight=in_layers / n_weights,
        bits_per_parameter=8
        * sum(tensor.n_bytes for tensor in stored.values())
        / (n_weights + sum(tensor.n_numbers for tensor in not_rounded)),
        weight_variance=sum(layer.n_weights * layer.variance for layer in layers) / n_weights,
        weight_distortion=distortion,
        gaussian_bound=bound,
        bits_above_bound=0.5 * math.log2(distortion / bound) if distortion else None,
    )


def rounded_layers(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    return ((name, module) for name, module in model.named_modules() if hasattr(module, "qweight"))


@dataclass(frozen=True)
class _Layer:
    n_weights: int
    bits: int
    variance: float
    squared_error: float

    @classmethod
    def of(cls, name: str, whole: torch.nn.Module, packed: torch.nn.Module, stored: dict[str, "_Stored"]) -> "_Layer":
        weight_MN = _weight(whole.get_submodule(name))
        n_bytes = sum(tensor.n_bytes for tensor_name, tensor in stored.items() if _is_of(tensor_name, [name]))
        error = _squared_error(weight_MN, packed.get_submodule(name))
        return cls(weight_MN.numel(), 8 * n_bytes, float(weight_MN.double().var(correction=0)), error)

    @property
    def bound(self) -> float:
        """The least squared error of all its weights together."""
        return self.n_weights * gaussian_distortion_rate(self.variance, self.bits / self.n_weights)


@dataclass(frozen=True)
class _Stored:
    n_bytes: int
    n_numbers: int


def _stored(folder: Path) -> dict[str, _Stored]:
    """Every tensor of a folder's safetensors files, as their headers have it: 8 bytes of length, then JSON."""
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        for name, tensor in header.items():
            if name != "__metadata__":
                start, stop = tensor["data_offsets"]
                found[name] = _Stored(stop - start, math.prod(tensor["shape"]))
    return found


def _is_of(tensor: str, layers: Collection[str]) -> bool:
    """Whether it holds a rounded layer's weights, with scales, zeros and the order of inputs; its bias is not rounded."""
    layer, _, what = tensor.rpartition(".")
    return layer in layers and what != "bias"


def _weight(layer: torch.nn.Module) -> torch.Tensor:
    weight = layer.get_parameter("weight")
    return weight.T if isinstance(layer, Conv1D) else weight


def _squared_error(weight_MN: torch.Tensor, layer: torch.nn.Module) -> float:
    """Σ (w − ŵ)². ŵ is what the layer makes of each input alone, so that no packing need be known here."""
    scales, bias, n_inputs = layer.get_buffer("scales"), getattr(layer, "bias", None), weight_MN.shape[1]
    # a GPU's kernels take the type of the scales
    dtype = scales.dtype if scales.device.type == "cuda" else torch.float32
    total = 0.0
    for start in range(0, n_inputs, INPUTS_AT_ONCE):
        inputs = range(start, min(start + INPUTS_AT_ONCE, n_inputs))
        one_each = torch.zeros(1, len(inputs), n_inputs, device=scales.device, dtype=dtype)
        one_each[0, range(len(inputs)), inputs] = 1
        rounded_NM = layer(one_each)[0].double() - (0 if bias is None else bias.double())
        total += float((weight_MN[:, inputs].to(scales.device).double() - rounded_NM.T).square().sum())
    return total
