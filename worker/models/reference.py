"""The frozen model that preference training and PPO hold theirs against: what it gives to each token of a text.

Which one it is follows LLaMA-Factory: the one that `ref_model` names; else under LoRA the model with its adapter switched off,
and where whole weights train a second copy of what the step began with. An adapter that training goes on with is switched off
like a new one: the reference is then the model without it. With create_new_adapter it is merged, and the reference has it.

Shapes: B texts, T tokens of the longest, V vocabulary.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from service.specs.job import ResolvedStep
from worker.models.adapters import Model
from worker.models.assembly import frozen
from worker.models.start import Start
from worker.probes.token import evaluating


@dataclass(frozen=True)
class Reference:
    """A model that answers with its gradients and its dropout off. `as_reference` makes it the reference for that long.

    `autocast` is the type that the training computes in beside it, so that equal weights give equal numbers; None: its own.
    """

    model: Model
    as_reference: Callable[[], AbstractContextManager[object]] = nullcontext
    autocast: torch.dtype | None = None

    @torch.no_grad()
    def log_probs(self, input_ids_BT: torch.Tensor, attention_mask_BT: torch.Tensor) -> torch.Tensor:
        """log p of each token after the first given those before it, in nats: [B, T−1] float32. Padding is on the right."""
        device = input_ids_BT.device.type
        computing = torch.autocast(device, self.autocast) if self.autocast else nullcontext()
        with asked(self.model), self.as_reference(), computing:
            logits_BTV = self.model(input_ids=input_ids_BT, attention_mask=attention_mask_BT, use_cache=False).logits
        return next_token_log_probs(logits_BTV, input_ids_BT)


def reference(
    model: Model,
    start: Start,
    step: ResolvedStep,
    named: tuple[Start, ResolvedStep] | None,
    tokenizer: PreTrainedTokenizerBase,
    device: torch.device,
) -> Reference:
    """Of the step that trains `model`, which began with `start`; `named` is what `ref_model` stands for, as a step of its own."""
    autocast = torch.bfloat16 if step.training.bf16 else torch.float16 if step.training.fp16 else None
    if named is not None:
        return Reference(frozen(*named, tokenizer, device), autocast=autocast)
    if isinstance(model, PeftModel):
        return Reference(model, model.disable_adapter, autocast)
    return Reference(frozen(start, step, tokenizer, device), autocast=autocast)


def next_token_log_probs(logits_BTV: torch.Tensor, input_ids_BT: torch.Tensor) -> torch.Tensor:
    """log softmax of the logits at t, at the token t + 1: [B, T−1] float32, in nats."""
    B, T, V = logits_BTV.shape
    nll = torch.nn.functional.cross_entropy(
        logits_BTV[:, :-1].float().reshape(-1, V), input_ids_BT[:, 1:].reshape(-1), reduction="none"
    )
    return -nll.view(B, T - 1)


@contextmanager
def asked(model: Model) -> Iterator[None]:
    """Evaluation, save for layers that would compute otherwise than those of the model that trains beside it."""
    with evaluating(model):
        for module in model.modules():
            module.training = _has_a_way_to_train(module)
        try:
            yield
        finally:
            model.eval()  # `evaluating` gives back only what was in training


def _has_a_way_to_train(module: torch.nn.Module) -> bool:
    """Attention in shifted groups, and bitsandbytes' eight bits, whose kernel on a CPU is another one in training."""
    return hasattr(module, "shifted_group") or type(module).__name__ == "Linear8bitLt"
