"""Weights of four or eight bits: quantized while they are loaded, or quantized in their files."""

from importlib.util import find_spec

import torch
from transformers import BitsAndBytesConfig, PreTrainedConfig

from service.specs.model import ModelArguments
from service.specs.reasons import Reason
from worker.extras import EXTRAS
from worker.failures import JobFailure

# What reads a checkpoint that is already quantized, by the method that its config names.
LIBRARIES = {"bitsandbytes": ("bitsandbytes",), "gptq": EXTRAS["gptq"]}


def quantized_with(config: PreTrainedConfig) -> str | None:
    """The method by which a checkpoint's own files are quantized; None where they are not."""
    found = getattr(config, "quantization_config", None)
    if found is None:
        return None
    named = found if isinstance(found, dict) else found.to_dict()
    method = named.get("quant_method")
    return str(getattr(method, "value", method))


def refuse_unreadable(method: str) -> None:
    """Before anything is loaded: a library that is not there would be an ImportError deep in a loader."""
    if method not in LIBRARIES:
        raise JobFailure(Reason.BAD_MODEL, f"The model is quantized with {method}; {', '.join(sorted(LIBRARIES))} are taken.")
    missing = [library for library in LIBRARIES[method] if find_spec(library) is None]
    if missing:
        sentence = f"The model is quantized with {method}, and this worker does not have {', '.join(missing)}, which reads it."
        raise JobFailure(Reason.MISSING_LIBRARY, sentence)


def quantization(arguments: ModelArguments, compute_dtype: torch.dtype) -> BitsAndBytesConfig | None:
    """What loading is told. The head stays whole: bitsandbytes leaves the output embeddings out."""
    if arguments.quantization_bit == 8:
        return BitsAndBytesConfig(load_in_8bit=True)
    if arguments.quantization_bit == 4:
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_compute_dtype=compute_dtype,
            bnb_4bit_quant_type=arguments.quantization_type,
            bnb_4bit_use_double_quant=arguments.double_quantization,
        )
    return None


def keep_packing(model: torch.nn.Module) -> None:
    """Stops bitsandbytes from repacking four-bit weights for a CPU's bf16 units at the first forward pass in evaluation mode.

    Measuring would change the model that training goes on with: the scales are rounded to bf16, and never rounded back.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]
