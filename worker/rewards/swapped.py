"""reward_model_type lora: the reward model's adapter and value head, on the model whose own adapter trains."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from peft import PeftConfig, PeftModel

from worker.models import value_head
from worker.models.saved_adapters import laid_beside
from worker.models.start import Start
from worker.models.value_head import ValueHead
from worker.probes.token import evaluating
from worker.rewards.scorer import padded_right
from worker.rewards.whole import load_head

REWARD = "reward"  # what peft calls it, beside "default", which trains


class SwappedAdapter:
    """Scores with the reward adapter in the place of the one that trains, which is there again, and trains, afterwards."""

    def __init__(self, model: PeftModel, head: ValueHead):
        self._model = model
        self._head = head
        # but while it scores, peft does not know of it: what it saves and loads is what trains, and nothing else
        self._config = model.peft_config.pop(REWARD)

    @torch.no_grad()
    def score(
        self, input_ids_BT: torch.Tensor, attention_mask_BT: torch.Tensor, prompts: list[str], responses: list[str]
    ) -> torch.Tensor:
        with evaluating(self._model), _in_its_place(self._model, self._config):
            return value_head.scores(self._model, self._head, *padded_right(input_ids_BT, attention_mask_BT))


def lay_swapped(start: Start, model: PeftModel, device: torch.device) -> SwappedAdapter:
    """`start` is the reward model's, whose adapter is laid beside the one that trains. Raises a JobFailure where it cannot be."""
    assert start.continued is not None, "the companion of type lora is an adapter"
    laid_beside(model, start.continued, REWARD)
    return SwappedAdapter(model, load_head(start, model, device))


@contextmanager
def _in_its_place(model: PeftModel, config: PeftConfig) -> Iterator[None]:
    """peft makes the adapter that it switches to trainable, and the other not."""
    trains = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    own = model.active_adapter
    model.peft_config[REWARD] = config
    try:
        model.set_adapter(REWARD, inference_mode=True)
        yield
    finally:
        model.set_adapter(own)
        del model.peft_config[REWARD]
        for parameter, requires_grad in trains:
            parameter.requires_grad_(requires_grad)
