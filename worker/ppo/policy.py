"""The policy that PPO trains, and the critic that it carries: one model, with a head for tokens and a head for values."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from worker.models import value_head
from worker.models.adapters import Model
from worker.models.start import Start
from worker.models.value_head import ValueHead


class Policy(torch.nn.Module):
    """`model` is saved and measured as any other; `critic` is kept in a file beside it. `autocast`: the type it computes in."""

    def __init__(self, model: Model, critic: ValueHead, autocast: torch.dtype | None = None):
        super().__init__()
        self.model = model
        self.critic = critic
        self._autocast = autocast

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def computing(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, self._autocast) if self._autocast else nullcontext()

    def forward(self, input_ids_BN: torch.Tensor, attention_mask_BN: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(logits [B, N, V], values [B, N] fp32) of one pass; padding stands on the right."""
        states: list[torch.Tensor] = []
        hook = _transformer(self.model).register_forward_hook(lambda module, args, out: states.append(out.last_hidden_state))
        try:
            with self.computing():
                output = self.model(input_ids=input_ids_BN, attention_mask=attention_mask_BN, use_cache=False)
        finally:
            hook.remove()
        return output.logits, self.critic(states[-1])


def first_critic(start: Start, model: Model) -> ValueHead:
    """The value head beside what the step begins with, where a ppo or rm step left one; else a new one, which answers 0."""
    width = value_head.width(model)
    critic = value_head.load(value_head.folder_of(start), width) or ValueHead(width)
    return critic.to(next(model.parameters()).device)


def restore_critic(critic: ValueHead, folder: Path) -> None:
    """As a checkpoint has it."""
    saved = value_head.load(folder, critic.summary.in_features)
    assert saved is not None, "a PPO checkpoint whose files are whole has a value head"
    critic.load_state_dict(saved.state_dict())


def _transformer(model: Model) -> Any:
    """All but the head, whose last states are after the final norm."""
    whole = model.get_base_model() if isinstance(model, PeftModel) else model
    return getattr(whole, whole.base_model_prefix)
