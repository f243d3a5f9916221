"""A model that the ranks hold in parts (FSDP): what accelerate is told of it, and the whole for whoever looks at it alone."""

import os
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from transformers import TrainingArguments as TransformersArguments

from worker.models.adapters import Model
from worker.models.assembly import frozen
from worker.models.loading import load_tokenizer
from worker.models.start import Start
from worker.stages.step import StepWork

MARK = "ACCELERATE_USE_FSDP"  # which accelerate leaves in the environment, and would shard by in every later step


def shard_no_more() -> None:
    """For a step that does not, behind one that did."""
    os.environ.pop(MARK, None)


def shard_on_processors(arguments: TransformersArguments) -> None:
    """accelerate shards on GPUs alone, and torch on either: processors that stand for GPUs are to do what these would.

    To be called before the trainer is made, which takes the accelerator's state as it finds it.
    """
    precision: Any = arguments.mixed_precision
    Accelerator(cpu=True, mixed_precision=precision)
    plugin = FullyShardedDataParallelPlugin(**arguments.fsdp_plugin_args)
    if precision != "no":
        plugin.set_mixed_precision(precision)
    for state in (PartialState, AcceleratorState):
        state._shared_state["distributed_type"] = DistributedType.FSDP
    AcceleratorState._shared_state["fsdp_plugin"] = plugin


def is_sharded(model: torch.nn.Module) -> bool:
    return isinstance(model, FSDPModule)


def own_part(parameter: torch.Tensor) -> torch.Tensor:
    """What this rank holds of it."""
    return parameter.to_local() if isinstance(parameter, DTensor) else parameter


def whole_model(work: StepWork, checkpoint: Path) -> Model:
    """As it was saved, on this rank's device. All of it trains."""
    model = work.step.model
    as_saved = model.model_copy(update={"rope_scaling": None, "resize_vocab": False})  # both are in its files
    step = work.step.model_copy(update={"model": as_saved})
    tokenizer = load_tokenizer(checkpoint, model.split_special_tokens)
    whole = frozen(Start(checkpoint), step, tokenizer, torch.device("cpu" if work.use_cpu else "cuda"))
    whole.requires_grad_(True)
    return whole
