"""How much memory a step takes of one GPU at its peak, estimated from the model's files, without torch.

What is counted exactly: the weights as the worker holds them, their gradients, the optimiser's state. What is a model of the
computation: activations, of a decoder whose layers are attention and a gated MLP between norms, with batches of cutoff_len tokens
(texts that are shorter take less); and the logits. tests/worker/test_memory.py holds each part against tensors that are counted.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from math import prod
from typing import Any

from service.library import models, weights
from service.library.check import Roots, is_elsewhere
from service.library.errors import LibraryError
from service.library.models import Model
from service.library.plan import PlannedStep, plan_parameters
from service.library.weights import Tensors
from service.specs.job import ResolvedJob, ResolvedStep, with_lora_defaults
from service.specs.lineage import lineages, origin

FLOAT, HALF = 4, 2  # bytes of a number
ESTIMATED = ("pt", "sft")

# What a pass over the vocabulary keeps at a time, seven buffers of one tile of logits; the worker's, and a test holds them equal.
MEASURED_LOGITS_BYTES = 7 * FLOAT * 2**23

# A process that uses CUDA at all: its context, and the libraries' kernels and workspaces.
CONTEXT_BYTES = 600_000_000

# bitsandbytes keeps a scale for each block of 64 weights: a float, or with double quantization a byte and a float for 256 blocks.
BLOCK, BLOCKS = 64, 256


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak, part by part."""

    weights: int
    gradients: int
    optimiser: int
    activations: int
    logits: int
    context: int = CONTEXT_BYTES

    @property
    def peak(self) -> int:
        return sum(getattr(self, field.name) for field in fields(self))

    @property
    def least(self) -> int:
        """What it takes whatever the texts are: without the parts that depend on their length."""
        return self.peak - self.activations - self.logits


@dataclass(frozen=True)
class Shape:
    """What the activations of a decoder depend on, from its config."""

    hidden: int
    inner: int
    layers: int
    queries: int  # numbers of all heads of a token
    keys: int
    vocabulary: int


def of_job(roots: Roots, resolved: ResolvedJob) -> dict[str, Memory | str]:
    """Each step's, by name; where it is not known, a sentence that says why. Raises LibraryError, OSError."""
    planned = {step.name: step for step in plan_parameters(roots, resolved)}
    return {step.name: _of_step(roots, resolved, step, planned[step.name]) for step in resolved.steps}


def estimate(
    tensors: Tensors, config: Mapping[str, Any], step: ResolvedStep, trainable: int, number: int = HALF
) -> Memory | None:
    """`number` is how many bytes a number has that a layer computes with: 2 on a GPU. None where the config does not tell."""
    shape = shape_of(config)
    if shape is None:
        return None
    is_lora = step.finetuning.finetuning_type == "lora"
    trained = HALF if is_lora and step.finetuning.lora_bf16_mode else FLOAT
    computed = number if is_lora or step.training.bf16 or step.training.fp16 else FLOAT
    held = _weights(tensors, step, number) if is_lora else weights.count(tensors) * (FLOAT + (HALF if computed < FLOAT else 0))
    added = trainable * trained if is_lora else 0  # an adapter is beside the model; what else trains is in it
    tokens = step.training.per_device_train_batch_size * step.data.cutoff_len
    return Memory(
        weights=held + added,
        gradients=trainable * trained,
        optimiser=_optimiser(tensors, step, trainable, trained),
        activations=tokens * _activations(shape, step, computed, trained),
        logits=tokens * shape.vocabulary * _logits(computed),
    )


def estimate_of_measuring(
    tensors: Tensors, config: Mapping[str, Any], step: ResolvedStep, trainable: int = 0, number: int = HALF
) -> Memory | None:
    """One model at a time, which the base's head stays beside; a batch of texts of cutoff_len passes layer after layer."""
    shape = shape_of(config)
    if shape is None:
        return None
    is_lora = step.finetuning.finetuning_type == "lora"
    computed = number if is_lora else FLOAT
    held = _weights(tensors, step, number) if is_lora else weights.count(tensors) * FLOAT
    tokens = step.training.per_device_eval_batch_size * step.data.cutoff_len
    return Memory(
        weights=held + shape.vocabulary * shape.hidden * computed,
        gradients=trainable * FLOAT,
        optimiser=0,
        activations=tokens * (_layer(shape, computed) + 2 * computed * shape.hidden),
        logits=MEASURED_LOGITS_BYTES,
    )


def shape_of(config: Mapping[str, Any]) -> Shape | None:
    """None where it is no decoder of the usual make."""

    def first(*names: str) -> int | None:
        return next((config[name] for name in names if isinstance(config.get(name), int)), None)

    hidden, layers = first("hidden_size", "n_embd", "d_model"), first("num_hidden_layers", "n_layer", "num_layers")
    heads, vocabulary = first("num_attention_heads", "n_head"), first("vocab_size")
    if not (hidden and layers and heads and vocabulary):
        return None
    width = first("head_dim") or hidden // heads
    keys = (first("num_key_value_heads") or heads) * width
    return Shape(hidden, first("intermediate_size", "n_inner") or 4 * hidden, layers, heads * width, keys, vocabulary)


def changes_that_fit(tensors: Tensors, model: Model, step: ResolvedStep, room_bytes: int) -> list[str]:
    """The first of CHANGES that makes the step's peak fit, or as many of them together as it takes; none where all do not."""
    for _, change in CHANGES:
        if _fits(tensors, model, change(step), room_bytes):
            return [_named(change, step)]
    changed, named = step, []
    for _, change in CHANGES:
        after = change(changed)
        if after != changed:
            named.append(_named(change, changed))
            changed = after
        if _fits(tensors, model, changed, room_bytes):
            return named
    return []


def _of_step(roots: Roots, resolved: ResolvedJob, step: ResolvedStep, planned: PlannedStep) -> Memory | str:
    if step.do == "inspect":
        return "A step that inspects loads no model."
    if step.do == "train" and step.finetuning.stage not in ESTIMATED:
        return f"The memory of the stage {step.finetuning.stage} is not estimated yet."
    if planned.trainable_parameters is None:
        return planned.why_unknown.get("trainable_parameters", "How many parameters train is not known.")
    model, tensors = found(roots, resolved, step)
    estimated = estimate_of_measuring if step.do == "measure" else estimate
    known = estimated(tensors, model.config, step, planned.trainable_parameters) if model and tensors else None
    return known or "The model's config does not say what its layers are made of."


def found(roots: Roots, resolved: ResolvedJob, step: ResolvedStep) -> tuple[Model | None, Tensors | None]:
    """The model that a step goes back to, and its tensors, as far as they lie here."""
    known = lineages(resolved)
    whole = origin(known[step.name].whole, known)
    if is_elsewhere(roots, whole):
        return None, None
    model = models.find(roots.models, whole)
    return model, weights.tensors_of(model)


def _weights(tensors: Tensors, step: ResolvedStep, number: int) -> int:
    """Of a model that an adapter lies on: half precision, and with quantization its linear layers in fewer bits."""
    bits = step.model.quantization_bit
    quantized = weights.linear(tensors) if bits is not None else {}
    whole = sum(prod(shape) for name, shape in tensors.items() if name not in quantized)
    return whole * number + sum(_quantized_bytes(shape, step) for shape in quantized.values())


def _quantized_bytes(shape: tuple[int, ...], step: ResolvedStep) -> int:
    n_weights = prod(shape)
    if step.model.quantization_bit == 8:
        return n_weights + FLOAT * shape[0]
    n_blocks = -(-n_weights // BLOCK)
    scales = n_blocks + FLOAT * -(-n_blocks // BLOCKS) if step.model.double_quantization else FLOAT * n_blocks
    return -(-n_weights // 2) + scales


def _optimiser(tensors: Tensors, step: ResolvedStep, trainable: int, trained: int) -> int:
    """AdamW keeps two numbers for each that trains, in its type; SGD none; Adafactor a row and a column of each matrix."""
    if step.training.optim == "adamw_torch":
        return 2 * trained * trainable
    if step.training.optim == "sgd" or step.finetuning.finetuning_type == "lora":
        return 0  # of an adapter's narrow matrices the rows and columns are next to nothing
    return FLOAT * sum(sum(shape) if len(shape) == 2 else prod(shape) for shape in tensors.values())


def _activations(shape: Shape, step: ResolvedStep, number: int, trained: int) -> int:
    """Bytes of one token. With gradient checkpointing each layer keeps its input alone, and one layer at a time is whole."""
    layer = _layer(shape, number)
    if step.finetuning.finetuning_type == "lora":
        layer += _adapted(shape, number, trained)
    final_norm = FLOAT * shape.hidden + 2 * number * shape.hidden
    if step.model.disable_gradient_checkpointing:
        return shape.layers * layer + final_norm
    return shape.layers * number * shape.hidden + layer + final_norm


def _layer(shape: Shape, number: int) -> int:
    """What the backward pass of one layer needs of one token.

    Two norms keep their input, in fp32, and what they answer before and after the scale; attention its queries, keys, values and
    answer, with a number for each softmax in fp32, left out here; the MLP its two inner states, the activation and the product.
    """
    norms = 2 * (FLOAT * shape.hidden + 2 * number * shape.hidden)
    attention = number * (2 * shape.queries + 2 * shape.keys)
    return norms + attention + 4 * number * shape.inner


def _adapted(shape: Shape, number: int, trained: int) -> int:
    """peft casts what comes into each adapted layer to the adapter's type, and keeps it; of one type it is there already."""
    if number == trained:
        return 0
    return trained * (3 * shape.hidden + shape.queries + 2 * shape.hidden + shape.inner)


def _logits(number: int) -> int:
    """Bytes for each token and word: the logits, their log-probabilities in fp32, and the gradients of both."""
    return 3 * FLOAT if number == FLOAT else 2 * number + 2 * FLOAT


Change = Callable[[ResolvedStep], ResolvedStep]


def _checkpointed(step: ResolvedStep) -> ResolvedStep:
    return step.model_copy(update={"model": step.model.model_copy(update={"disable_gradient_checkpointing": False})})


def _one_at_a_time(step: ResolvedStep) -> ResolvedStep:
    n_batches = step.training.gradient_accumulation_steps * step.training.per_device_train_batch_size
    smaller = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": n_batches}
    return step.model_copy(update={"training": step.training.model_copy(update=smaller)})


def _with_adapter(step: ResolvedStep) -> ResolvedStep:
    lora = with_lora_defaults(step.finetuning.model_copy(update={"finetuning_type": "lora"}))
    return step.model_copy(update={"finetuning": lora})


def _in_four_bits(step: ResolvedStep) -> ResolvedStep:
    if step.finetuning.finetuning_type != "lora":
        return step
    return step.model_copy(update={"model": step.model.model_copy(update={"quantization_bit": 4})})


# The cheapest to have first: what costs time, then what changes the training.
CHANGES: tuple[tuple[str, Change], ...] = (
    ("gradient checkpointing (disable_gradient_checkpointing false)", _checkpointed),
    ("per_device_train_batch_size 1 with gradient_accumulation_steps {accumulation}", _one_at_a_time),
    ("finetuning_type lora", _with_adapter),
    ("quantization_bit 4", _in_four_bits),
)


def _named(change: Change, step: ResolvedStep) -> str:
    name = next(name for name, known in CHANGES if known is change)
    return name.format(accumulation=change(step).training.gradient_accumulation_steps)


def _fits(tensors: Tensors, model: Model, step: ResolvedStep, room_bytes: int) -> bool:
    try:
        trainable = weights.trainable(tensors, step.finetuning, model)
    except LibraryError:
        return False
    known = estimate(tensors, model.config, step, trainable) if trainable is not None else None
    return known is not None and known.peak <= room_bytes
