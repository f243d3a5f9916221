"""The loss of pt and sft, with logits only where a token is trained.

A transformers model makes the logits of every position, of prompts and padding too, and keeps them for the backward pass. Beside
a small model or a wide vocabulary that is most of an update's memory, and much of its time. Here the trainer asks the model for
its last hidden states instead, and the head is applied to those that a label follows.

Shapes: B texts of T tokens, N of which are trained; D width, V vocabulary.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from transformers.modeling_layers import GradientCheckpointingLayer

from service.specs.training import TrainingArguments
from worker.data.tokenize import MASKED
from worker.models.adapters import Model
from worker.probes.token import evaluating, hf_model_of, logit_scale

Batch = dict[str, Any]

# Trained tokens whose logits are made at once; the gradient of a chunk is taken before the next is made.
CHUNK = 256
# What a model is called with so that it makes its hidden states and, since it must make some, the logits of one position.
INSTEAD_OF_LOGITS = {"output_hidden_states": True, "logits_to_keep": 1}


@dataclass(frozen=True)
class WithoutLogits:
    """A collator's batch for a model that is to make no logits."""

    batch_of: Callable[[Sequence[Batch]], Batch]

    def __call__(self, rows: Sequence[Batch]) -> Batch:
        return self.batch_of(rows) | INSTEAD_OF_LOGITS


@dataclass(frozen=True)
class NextTokenLoss:
    """The sum of -log p of the trained tokens, over how many of them an update has; the mean of a batch that stands alone."""

    head: torch.nn.Module

    def __call__(
        self, outputs: Any, labels_BT: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        following_BT = labels_BT[:, 1:]
        trained_BT = following_BT != MASKED
        hidden_ND = outputs.hidden_states[-1][:, :-1][trained_BT]
        targets_N = following_BT[trained_BT]
        count = len(targets_N) if num_items_in_batch is None else num_items_in_batch
        return self._sum(hidden_ND, targets_N) / count

    def _sum(self, hidden_ND: torch.Tensor, targets_N: torch.Tensor) -> torch.Tensor:
        plain = _plain(self.head)
        if plain is None or hidden_ND.dtype != torch.float32 or len(targets_N) <= CHUNK:
            return F.cross_entropy(self.head(hidden_ND.to(self._computes_in)).float(), targets_N, reduction="sum")
        options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=CHUNK, chunking_method=None, acc_policy="accurate")
        return F.linear_cross_entropy(
            hidden_ND, plain.weight, targets_N, linear_bias=plain.bias, reduction="sum", options=options
        )

    @property
    def _computes_in(self) -> torch.dtype:
        """The type of the head's weight. Under autocast the trainer hands on hidden states as fp32, and a head that does not
        train is in half precision: what the model itself would have given it is half precision, too.
        """
        weight = self.head.weight
        assert isinstance(weight, torch.Tensor)
        return weight.dtype


def next_token_loss(model: Model, training: TrainingArguments) -> NextTokenLoss | None:
    """None where the loss is another than that of the next token, the model's logits are more than its head's, or ranks hold the
    model in parts: the head's weight is whole only within its forward pass.

    Ranks that each have the model average gradients as these are ready, the head's with all that it is used for.
    """
    whole = hf_model_of(model)
    if training.fsdp or training.label_smoothing_factor or _does_more(whole):
        return None
    loss = NextTokenLoss(whole.get_output_embeddings())
    return loss if _is_as_the_models_own(loss, model) else None


def keep_last_activations(model: Model) -> None:
    """The last layer's are needed again as soon as the loss is known. With no logits to be held beside them they are kept, where
    the other layers' are computed anew: what is held at most is the same, and a pass through one layer is saved.
    """
    layers = [
        layer for layer in model.modules() if isinstance(layer, GradientCheckpointingLayer) and layer.gradient_checkpointing
    ]
    for layer in layers[-1:]:
        layer.gradient_checkpointing = False


def _does_more(whole: Any) -> bool:
    """What a model says of itself; that a loss is the same on a few tokens of half precision would not rule it out."""
    config = whole.config.get_text_config()
    transforms = logit_scale(config) != 1 or getattr(config, "final_logit_softcapping", None) is not None
    adds = getattr(config, "output_router_logits", False)
    return transforms or adds or "logits_to_keep" not in inspect.signature(whole.forward).parameters


@torch.no_grad()
def _is_as_the_models_own(loss: NextTokenLoss, model: Model) -> bool:
    """On a few tokens: a family may do to its logits what its config does not say."""
    device = next(model.parameters()).device
    rows = model.get_input_embeddings().weight.shape[0]
    ids_BT = torch.randint(rows, (2, 16), generator=torch.Generator().manual_seed(0)).to(device)
    with evaluating(model):
        outputs = model(
            input_ids=ids_BT,
            attention_mask=torch.ones_like(ids_BT),
            labels=ids_BT,
            output_hidden_states=True,
            use_cache=False,
        )
    if outputs.hidden_states is None:
        return False
    own, made = outputs.loss, loss(outputs, ids_BT)
    tolerance = 1e-5 if own.dtype == torch.float32 and next(model.parameters()).dtype == torch.float32 else 1e-2
    return bool((made - own).abs() <= tolerance * (1 + own.abs()))


def _plain(head: torch.nn.Module) -> torch.nn.Linear | None:
    """The head if it is a linear layer in fp32 that does what its weight says: without an adapter, a hook or autocast."""
    if type(head) is not torch.nn.Linear or head.weight.dtype != torch.float32 or head._forward_hooks:
        return None
    return None if torch.is_autocast_enabled(head.weight.device.type) else head
