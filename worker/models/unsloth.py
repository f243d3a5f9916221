"""LoRA by unsloth (`use_unsloth`): it loads the model, lays the adapter on it and has kernels of its own for both.

The calls are those of unsloth 2026.10. It changes transformers' classes for the whole process, which is the job's own; loaded
after transformers it says that it would rather have come first, for kernels of what was made before then stay as they were.
"""

import os
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from service.specs.job import ResolvedStep
from service.specs.reasons import Reason
from worker.failures import JobFailure
from worker.models.adapters import as_trained, named_targets
from worker.models.dtype import compute_dtype
from worker.models.loading import load_config, refuse_broken_weights, refuse_small_vocabulary, said
from worker.models.quantization import quantized_with
from worker.models.start import Start

# Whose layers it has kernels for; the service's list too, and a test holds them equal.
FAMILIES = ("gemma", "gemma2", "llama", "mistral", "qwen2", "qwen3")
DEVICES = ("cuda",)


def with_new_adapter(start: Start, step: ResolvedStep, tokenizer: PreTrainedTokenizerBase, device: torch.device) -> PeftModel:
    """The whole model of the step on its device, with a new adapter that trains. Raises JobFailure before anything is loaded."""
    library = _library(device)
    config = load_config(start.whole)
    _refuse_unlike(start, config, step)
    refuse_broken_weights(start.whole)
    # what is trained on and measured are the logits, which it would leave out of its answers
    os.environ["UNSLOTH_RETURN_LOGITS"] = "1"
    checkpointing = not step.model.disable_gradient_checkpointing
    try:
        model, _ = library.from_pretrained(
            model_name=str(start.whole),
            max_seq_length=step.data.cutoff_len,
            dtype=compute_dtype(device),
            load_in_4bit=step.model.quantization_bit == 4,
            device_map={"": device},
            use_gradient_checkpointing=checkpointing,
            use_exact_model_name=True,  # it would take a copy on a hub that is quantized already
            fix_tokenizer=False,
            local_files_only=True,
            trust_remote_code=False,
        )
        refuse_small_vocabulary(start.whole, model, tokenizer)
        adapted: PeftModel = library.get_peft_model(
            model,
            r=step.finetuning.lora_rank,
            lora_alpha=step.finetuning.lora_alpha,
            lora_dropout=step.finetuning.lora_dropout,
            target_modules=named_targets(model, step.finetuning),
            bias="none",
            use_gradient_checkpointing=checkpointing,
            random_state=step.training.seed,
            max_seq_length=step.data.cutoff_len,
        )
    except (torch.OutOfMemoryError, MemoryError, JobFailure):
        raise
    except Exception as error:  # whatever it makes of a model, or of the libraries beside it
        raise JobFailure(Reason.BAD_MODEL, f"unsloth does not load {start.whole.name!r}: {said(error, start.whole)}") from None
    as_trained(adapted, step.finetuning)
    return adapted


def _library(device: torch.device) -> Any:
    if find_spec("unsloth") is None:
        raise JobFailure(
            Reason.MISSING_LIBRARY, "This worker does not have unsloth: leave out use_unsloth, and LoRA trains with peft."
        )
    if device.type not in DEVICES:
        raise JobFailure(Reason.NO_GPU, "unsloth's kernels run on a GPU, and this job has none: leave out use_unsloth.")
    try:
        return import_module("unsloth").FastLanguageModel
    except Exception as error:  # it looks for a GPU, for compilers and for versions of others as it is imported
        line = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise JobFailure(Reason.MISSING_LIBRARY, f"unsloth is installed on this worker and cannot be used: {line}") from None


def _refuse_unlike(start: Start, config: PreTrainedConfig, step: ResolvedStep) -> None:
    """What the service could not see, of a model that was made or fetched since."""
    name, longest = start.whole.name, getattr(config, "max_position_embeddings", None)
    if start.adapters:
        raise JobFailure(Reason.BAD_MODEL, f"{name!r} comes with adapters, and unsloth begins with whole models only.")
    if config.model_type not in FAMILIES:
        sentence = f"unsloth's kernels are for {', '.join(FAMILIES)} models; {name!r} is a {config.model_type} one."
        raise JobFailure(Reason.BAD_MODEL, sentence)
    if quantized_with(config) is not None:
        raise JobFailure(Reason.BAD_MODEL, f"The files of {name!r} are quantized already, which trains without unsloth only.")
    if isinstance(longest, int) and step.data.cutoff_len > longest:
        sentence = f"unsloth would stretch the positions of {name!r}, which has {longest}, to cutoff_len by itself."
        raise JobFailure(Reason.BAD_MODEL, sentence)
