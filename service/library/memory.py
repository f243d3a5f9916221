"""How much memory a step takes of one GPU at its peak, estimated from the model's files, without torch.

What is counted exactly: the weights as the worker holds them, their gradients, the optimiser's state. What is a model of the
computation: activations, of a decoder whose layers are attention and a gated MLP between norms, with batches of cutoff_len tokens
(texts that are shorter take less); and the logits. tests/worker/test_memory.py holds each part against tensors that are counted.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from math import prod
from typing import Any

from service.library import held, models, weights
from service.library.check import Roots, is_elsewhere
from service.library.held import FLOAT, HALF, under_an_adapter
from service.library.models import Model
from service.library.plan import PlannedStep, plan_parameters
from service.library.weights import Tensors
from service.specs.generating import predicted_beams
from service.specs.job import ResolvedJob, ResolvedStep
from service.specs.lineage import lineages, origin

# The models that a step asks beside its own, in bytes, as the step is; None where that is not known.
Beside = Callable[[ResolvedStep], int | None]

# What a pass over the vocabulary keeps at a time, seven buffers of one tile of logits; the worker's, and a test holds them equal.
MEASURED_LOGITS_BYTES = 7 * FLOAT * 2**23

# Tokens whose logits the loss of pt and sft makes at once, in fp32; the worker's, too.
LOSS_TOKENS = 256
# What a config says of a model that the worker leaves its own loss, and so all its logits.
OWN_LOGITS = (
    "final_logit_softcapping",
    "logit_scale",
    "lm_head_multiplier",
    "output_multiplier",
    "logits_scaling",
    "output_router_logits",
)

# A process that uses CUDA at all: its context, and the libraries' kernels and workspaces. On an H200 it was 780 to 864 MB.
CONTEXT_BYTES = 800_000_000


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak, part by part."""

    weights: int
    beside: int  # the weights of the models that are asked beside it
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
    tensors: Tensors,
    config: Mapping[str, Any],
    step: ResolvedStep,
    trainable: int,
    number: int = HALF,
    n_gpus: int = 1,
    beside: int = 0,
) -> Memory | None:
    """Of one of `n_gpus`. `number` is how many bytes a number has that a layer computes with: 2 on a GPU.

    `beside` are the weights of the models that are asked beside it. None where the config does not tell.
    """
    shape = shape_of(config)
    if shape is None:
        return None
    is_lora = step.finetuning.finetuning_type == "lora"
    trained = HALF if is_lora and step.finetuning.lora_bf16_mode else FLOAT
    computed = number if is_lora or step.training.bf16 or step.training.fp16 else FLOAT
    # with the copy that autocast makes, which is gone after each layer where the backward pass makes it anew
    whole = FLOAT + (HALF if computed < FLOAT and step.model.disable_gradient_checkpointing else 0)
    own = under_an_adapter(tensors, step, number) if is_lora else weights.count(tensors) * whole
    added = trainable * trained if is_lora else 0  # an adapter is beside the model; what else trains is in it
    tokens = step.training.per_device_train_batch_size * _tokens_of_a_row(step)
    activations = tokens * _activations(shape, step, computed, trained)
    if step.finetuning.stage == "ppo":  # it writes first, and keeps the keys and values of what it has written
        activations = max(activations, tokens * (2 * shape.layers * shape.keys * computed + _layer(shape, computed)))
    parts = n_gpus if step.training.fsdp else 1
    # the first of those that share a model has it whole beside its part while it measures
    measured = own if parts > 1 and step.measures.names else 0
    return Memory(
        weights=(own + added) // parts + measured,
        beside=beside,
        gradients=trainable * trained // parts,
        optimiser=_optimiser(tensors, step, trainable, trained) // parts,
        activations=activations,
        logits=_all_logits(shape, config, step, tokens, computed),
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
    own = under_an_adapter(tensors, step, number) if is_lora else weights.count(tensors) * FLOAT
    batch_size = step.evaluation.batch_size if step.do == "evaluate" else step.training.per_device_eval_batch_size
    tokens = batch_size * step.data.cutoff_len
    return Memory(
        weights=own + shape.vocabulary * shape.hidden * computed,
        beside=0,
        gradients=trainable * FLOAT,
        optimiser=0,
        activations=tokens * (_layer(shape, computed) + 2 * computed * shape.hidden),
        logits=MEASURED_LOGITS_BYTES,
    )


def estimate_of_writing(
    tensors: Tensors, config: Mapping[str, Any], step: ResolvedStep, trainable: int = 0, number: int = HALF
) -> Memory | None:
    """As measuring, with the keys and values of every layer kept for the prompt and what is written, of each beam."""
    if step.do == "generate":  # one text
        step = step.model_copy(update={"training": step.training.model_copy(update={"per_device_eval_batch_size": 1})})
    shape, known = shape_of(config), estimate_of_measuring(tensors, config, step, trainable, number)
    if shape is None or known is None:
        return None
    written = step.generating.max_new_tokens if step.generating.max_new_tokens > 0 else step.generating.max_length
    texts = step.training.per_device_eval_batch_size * predicted_beams(step.generating, step.data.eval_num_beams)
    computed = number if step.finetuning.finetuning_type == "lora" else FLOAT
    kept = 2 * texts * (step.data.cutoff_len + written) * shape.layers * shape.keys * computed
    return replace(known, activations=known.activations + kept)


# Of steps that train nothing.
ESTIMATES = {"predict": estimate_of_writing, "generate": estimate_of_writing}


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


def _of_step(roots: Roots, resolved: ResolvedJob, step: ResolvedStep, planned: PlannedStep) -> Memory | str:
    if step.do == "inspect":
        return "A step that inspects loads no model."
    if planned.trainable_parameters is None:
        return planned.why_unknown.get("trainable_parameters", "How many parameters train is not known.")
    model, tensors = found(roots, resolved, step)
    if model is None or tensors is None:
        known = None
    elif step.do == "train":
        beside = beside_it(roots, resolved, tensors)(step)
        if beside is None:
            return "A model that is asked beside it is fetched when the job runs, or is in no safetensors."
        n_gpus = resolved.resources.gpus or 1
        known = estimate(tensors, model.config, step, planned.trainable_parameters, n_gpus=n_gpus, beside=beside)
    else:
        estimated = ESTIMATES.get(step.do, estimate_of_measuring)
        known = estimated(tensors, model.config, step, planned.trainable_parameters)
    return known or "The model's config does not say what its layers are made of."


def beside_it(roots: Roots, resolved: ResolvedJob, tensors: Tensors) -> Beside:
    """Of a step whose own model has these tensors. Raises LibraryError, OSError when it is asked."""
    return lambda step: held.beside(roots, resolved, step, tensors, HALF)


def found(roots: Roots, resolved: ResolvedJob, step: ResolvedStep) -> tuple[Model | None, Tensors | None]:
    """The model that a step goes back to, and its tensors, as far as they lie here."""
    known = lineages(resolved)
    whole = origin(known[step.name].whole, known)
    if is_elsewhere(roots, whole):
        return None, None
    model = models.find(roots.models, whole)
    return model, weights.tensors_of(model)


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
    of_layer = number * shape.hidden
    if step.model.quantization_bit == 8:  # bitsandbytes holds on to what comes into its layers, computed anew or not
        of_layer += number * (2 * shape.hidden + shape.queries + shape.inner)
    return shape.layers * of_layer + layer + final_norm


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


def _tokens_of_a_row(step: ResolvedStep) -> int:
    """A pair is two texts, and an answer that is judged alone is read with another prompt, too; ppo writes behind its prompts."""
    fine, written = step.finetuning, step.generating.max_new_tokens
    if fine.stage == "ppo":
        return step.data.cutoff_len + written if written > 0 else max(step.data.cutoff_len, step.generating.max_length)
    return (2 if fine.stage in ("rm", "dpo") else 1) * step.data.cutoff_len


def _all_logits(shape: Shape, config: Mapping[str, Any], step: ResolvedStep, tokens: int, number: int) -> int:
    """Of a batch; or of as many tokens as the loss takes at a time, beside the gradient of the head's weight, if that trains."""
    if step.finetuning.finetuning_type != "lora" and step.finetuning.stage in ("pt", "sft"):
        number = FLOAT  # the loss is made outside autocast
    of_token = shape.vocabulary * _logits(number, step)
    if tokens <= LOSS_TOKENS or not _in_parts(config, step, number):
        return tokens * of_token
    head = shape.vocabulary * shape.hidden * FLOAT if step.finetuning.finetuning_type == "full" else 0
    return min(tokens * of_token, LOSS_TOKENS * of_token + head)


def _in_parts(config: Mapping[str, Any], step: ResolvedStep, number: int) -> bool:
    """Whether the loss is made of some tokens after others: worker/stages/next_token_loss.py."""
    training = step.training
    if step.finetuning.stage not in ("pt", "sft") or training.fsdp or training.label_smoothing_factor or number != FLOAT:
        return False
    return step.finetuning.additional_target is None and not any(config.get(name) for name in OWN_LOGITS)


def _logits(number: int, step: ResolvedStep) -> int:
    """Bytes for each token and word: the logits, their log-probabilities in fp32, and the gradients of both.

    A reward model has none. Where a reference is asked, its logits and both their sums in fp32 come beside the policy's.
    """
    if step.finetuning.stage == "rm":
        return 0
    backward = 3 * FLOAT if number == FLOAT else 2 * number + 2 * FLOAT
    of_reference = number + (FLOAT if number == FLOAT else 2 * FLOAT)
    if step.finetuning.stage == "dpo":
        return max(backward, number + FLOAT + of_reference)
    if step.finetuning.stage == "ppo":
        return max(backward, number + of_reference)
    return backward
