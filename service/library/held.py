"""How many bytes weights are held in: a step's own under an adapter, and those of the models that it asks beside them."""

from math import prod

from service.library import models, weights
from service.library.check import Roots, is_elsewhere
from service.library.weights import Tensors
from service.specs.companions import companions
from service.specs.job import ResolvedJob, ResolvedStep
from service.specs.lineage import lineages, origin

FLOAT, HALF = 4, 2  # bytes of a number

# bitsandbytes keeps a scale for each block of 64 weights: a float, or with double quantization a byte and a float for 256 blocks.
BLOCK, BLOCKS = 64, 256


def under_an_adapter(tensors: Tensors, step: ResolvedStep, number: int) -> int:
    """Of numbers of that many bytes, and with quantization the linear layers in fewer bits."""
    bits = step.model.quantization_bit
    quantized = weights.linear(tensors) if bits is not None else {}
    whole = sum(prod(shape) for name, shape in tensors.items() if name not in quantized)
    return whole * number + sum(_quantized_bytes(shape, step) for shape in quantized.values())


def beside(roots: Roots, resolved: ResolvedJob, step: ResolvedStep, own: Tensors, number: int) -> int | None:
    """Of the reference and the reward model, frozen. None where one cannot be read here. Raises LibraryError, OSError.

    An adapter that is swapped in, or that lies on one of them, adds next to nothing; one that is switched off nothing.
    """
    fine, known, held = step.finetuning, lineages(resolved), 0
    if fine.stage in ("ppo", "dpo") and fine.ref_model is None and fine.finetuning_type != "lora":
        held += weights.count(own) * FLOAT  # a second copy of what the step begins with
    for companion in companions(step):
        if companion.is_adapter:
            continue
        name = origin(companion.step.model.model_name_or_path, known)
        tensors = None if is_elsewhere(roots, name) else weights.tensors_of(models.find(roots.models, name))
        if tensors is None:
            return None
        held += under_an_adapter(tensors, companion.step, number)
    return held


def _quantized_bytes(shape: tuple[int, ...], step: ResolvedStep) -> int:
    n_weights = prod(shape)
    if step.model.quantization_bit == 8:
        return n_weights + FLOAT * shape[0]
    n_blocks = -(-n_weights // BLOCK)
    scales = n_blocks + FLOAT * -(-n_blocks // BLOCKS) if step.model.double_quantization else FLOAT * n_blocks
    return -(-n_weights // 2) + scales
