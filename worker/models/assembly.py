"""A step's model, from its parts in the order in which they depend on one another.

Tokenizer and template tokens come before (the stage has them); then config, weights, merged adapters, vocabulary, attention,
upcasts, and last the adapter that trains, or what else does.
"""

from collections.abc import Callable

import torch
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from service.specs.job import ResolvedStep
from service.specs.reasons import Reason
from worker.failures import JobFailure
from worker.models import attention, rope
from worker.models.adapters import Model, prepare
from worker.models.dtype import compute_dtype
from worker.models.embeddings import grow_vocabulary
from worker.models.loading import (
    half_precision_of,
    load_config,
    load_model,
    refuse_broken_weights,
    refuse_small_vocabulary,
)
from worker.models.precision import upcast_head, upcast_layernorms
from worker.models.quantization import quantization, quantized_with, refuse_unreadable
from worker.models.saved_adapters import (
    acting_together,
    are_plain,
    base_config,
    bring_whole,
    laid_on,
    make_room,
    merged,
    merged_as_held,
)
from worker.models.start import Start
from worker.models.unsloth import with_new_adapter
from worker.models.widened import widen

# Tells the client something that was decided here, in a sentence.
Tell = Callable[[str], None]


def to_train(start: Start, step: ResolvedStep, tokenizer: PreTrainedTokenizerBase, device: torch.device, tell: Tell) -> Model:
    """The step's model on its device, with the parameters that train."""
    if step.model.use_unsloth:
        return with_new_adapter(start, step, tokenizer, device)
    model, grown = _whole(start, step, tokenizer, device, tell)
    if grown and start.continued is not None:
        sentence = (
            f"The vocabulary must grow, and the adapter {start.continued.name!r} has no rows for new tokens: with "
            "create_new_adapter it is merged, and a new one keeps them."
        )
        raise JobFailure(Reason.BAD_MODEL, sentence)
    if grown and step.finetuning.finetuning_type == "lora":
        verb = "are" if len(grown) > 1 else "is"
        tell(f"the vocabulary grew, so {' and '.join(grown)} {verb} trained whole and saved in the adapter.")
    checkpointing = not step.model.disable_gradient_checkpointing
    prepared = prepare(model, step.finetuning, checkpointing, start.continued, grown)
    return prepared if is_quantized(model) else prepared.to(device)


def frozen(
    start: Start, step: ResolvedStep, tokenizer: PreTrainedTokenizerBase, device: torch.device, sparing: bool = False
) -> Model:
    """What `to_train` began with, to be compared with or asked: nothing trains, and it keeps its type and its quantization.

    `sparing`: with half of the memory and the same numbers, where its files have half precision and it computes in fp32.
    """
    half = _half_to_keep(start, step, device) if sparing else None
    model, _ = _whole(start, step, tokenizer, device, lambda sentence: None, half)
    laid = _laid(model, start) if half is None else _laid_sparingly(model, start)
    laid.requires_grad_(False)
    laid.eval()
    if sparing:
        widen(laid)
    return laid if is_quantized(model) else laid.to(device)


def to_write(start: Start, dtype: torch.dtype | None) -> PreTrainedModel:
    """The model with all its adapters merged, on the CPU, in the type of its files or another: as if it had never trained."""
    config = load_config(start.whole)
    _remember_adapters(config, start)
    method = quantized_with(config)
    if method is not None:
        sentence = f"The model {start.whole.name!r} is quantized ({method}): only full precision is merged and exported."
        raise JobFailure(Reason.BAD_MODEL, sentence)
    # of two types the wider is merged in
    model = load_model(start.whole, torch.float32 if dtype == torch.float32 else "auto", config)
    written = merged_as_held(model, start.adapters)
    return written if dtype is None else written.to(dtype)


def computes_in(step: ResolvedStep, device: torch.device) -> torch.dtype:
    """What trains is fp32 and computes beside what does not: only under an adapter may the rest be of half precision."""
    return compute_dtype(device) if step.finetuning.finetuning_type == "lora" else torch.float32


def is_quantized(model: PreTrainedModel) -> bool:
    return bool(getattr(model, "is_quantized", False))


def _whole(
    start: Start,
    step: ResolvedStep,
    tokenizer: PreTrainedTokenizerBase,
    device: torch.device,
    tell: Tell,
    kept_half: torch.dtype | None = None,
) -> tuple[PreTrainedModel, tuple[str, ...]]:
    """Everything but what trains, and the names of the modules that got new rows."""
    arguments = step.model
    dtype = computes_in(step, device)

    config = load_config(start.whole)
    _remember_adapters(config, start)
    _scale_positions(config, step, tell)
    method = quantized_with(config)
    _refuse_bad_mix(start, step, method)
    if method is not None and arguments.quantization_bit is not None:
        tell(f"the model's files are quantized already ({method}), so quantization_bit {arguments.quantization_bit} is not used.")
    bits = quantization(arguments, dtype) if method is None else None

    # merged in full precision, whatever it computes in afterwards
    model = load_model(start.whole, kept_half or (torch.float32 if start.merged else dtype), config, bits, device)
    if kept_half is not None:
        for adapter in start.adapters:
            bring_whole(model, adapter)
    elif start.merged:
        model = merged(model, start.merged).to(dtype)
    if start.continued is not None:
        make_room(model, start.continued)
    grown = grow_vocabulary(model, tokenizer, step.training.seed) if arguments.resize_vocab else ()
    refuse_small_vocabulary(start.whole, model, tokenizer)
    _choose_attention(model, step, device, dtype, tell)
    _upcast(model, step, dtype, tell)
    return model, grown


def _laid(model: PreTrainedModel, start: Start) -> Model:
    return model if start.continued is None else laid_on(model, start.continued, is_trainable=False)


def _laid_sparingly(model: PreTrainedModel, start: Start) -> Model:
    """What would be merged acts instead: a sum in half precision would be rounded."""
    return acting_together(model, start.adapters) if start.adapters else model


def _half_to_keep(start: Start, step: ResolvedStep, device: torch.device) -> torch.dtype | None:
    """The type of its files, where all that is written into its weights can lie beside them instead."""
    config = load_config(start.whole)
    if (
        computes_in(step, device) != torch.float32
        or step.model.quantization_bit is not None
        or quantized_with(config) is not None
    ):
        return None
    if not are_plain(start.adapters, config.get_text_config().tie_word_embeddings):
        return None
    refuse_broken_weights(start.whole)
    return half_precision_of(start.whole)


def _remember_adapters(config: PreTrainedConfig, start: Start) -> None:
    """Adapters were trained on positions that may have been stretched; the last of them knows."""
    for adapter in start.adapters:
        parameters = base_config(adapter).get("rope_parameters")
        if isinstance(parameters, dict):
            config.rope_parameters = parameters


def _scale_positions(config: PreTrainedConfig, step: ResolvedStep, tell: Tell) -> None:
    rope_type = step.model.rope_scaling
    if rope_type is None:
        return
    factor = rope.scale(config, rope_type, step.data.cutoff_len)
    if factor == 1:
        tell(f"cutoff_len {step.data.cutoff_len} fits into the model's positions, so rope_scaling has the factor 1.")
    else:
        tell(f"the positions are stretched {rope_type}ly by the factor {factor:g}.".replace("dynamicly", "dynamically"))


def _refuse_bad_mix(start: Start, step: ResolvedStep, method: str | None) -> None:
    if method is None:
        return
    refuse_unreadable(method)
    if step.finetuning.finetuning_type != "lora":
        sentence = f"The model {start.whole.name!r} is quantized, so it can only be trained with finetuning_type lora."
        raise JobFailure(Reason.BAD_MODEL, sentence)
    if start.merged:
        names = ", ".join(repr(adapter.name) for adapter in start.merged)
        sentence = f"The model {start.whole.name!r} is quantized, and no adapter can be merged into it ({names})."
        raise JobFailure(Reason.BAD_MODEL, sentence)


def _choose_attention(model: PreTrainedModel, step: ResolvedStep, device: torch.device, dtype: torch.dtype, tell: Tell) -> None:
    if step.model.shift_attn:
        attention.use_shifted(model, step.data.cutoff_len // 4)
    if step.model.flash_attn:
        why_not = attention.use_flash(model, device, dtype)
        if why_not is not None:
            tell(f"flash_attn: {why_not}; scaled dot product attention is used.")


def _upcast(model: PreTrainedModel, step: ResolvedStep, dtype: torch.dtype, tell: Tell) -> None:
    asked = [name for name in ("upcast_layernorm", "upcast_lmhead_output") if getattr(step.model, name)]
    if asked and dtype == torch.float32:
        tell(f"{' and '.join(asked)}: everything is computed in fp32 here anyway.")
    elif asked:
        if step.model.upcast_layernorm:
            upcast_layernorms(model)
        if step.model.upcast_lmhead_output:
            upcast_head(model.get_output_embeddings())
