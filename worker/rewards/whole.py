"""reward_model_type full: a frozen model of its own, with its value head."""

import torch
from transformers import PreTrainedTokenizerBase

from service.specs.job import ResolvedStep
from service.specs.reasons import Reason
from worker.failures import JobFailure
from worker.models import value_head
from worker.models.adapters import Model
from worker.models.assembly import frozen
from worker.models.start import Start
from worker.probes.token import evaluating
from worker.rewards.scorer import padded_right


class WholeModel:
    """Scores by a model that has nothing to do with the one that trains. `model` and `head` are frozen and on one device."""

    def __init__(self, model: Model, head: value_head.ValueHead):
        self._model = model
        self._head = head

    @torch.no_grad()
    def score(
        self, input_ids_BT: torch.Tensor, attention_mask_BT: torch.Tensor, prompts: list[str], responses: list[str]
    ) -> torch.Tensor:
        with evaluating(self._model):
            return value_head.scores(self._model, self._head, *padded_right(input_ids_BT, attention_mask_BT))


def load_whole(start: Start, step: ResolvedStep, tokenizer: PreTrainedTokenizerBase, device: torch.device) -> WholeModel:
    """A reward model as a step of its own. Its value head lies beside the last of its adapters, or beside the whole model."""
    model = frozen(start, step, tokenizer, device)
    return WholeModel(model, load_head(start, model, device))


def load_head(start: Start, model: Model, device: torch.device) -> value_head.ValueHead:
    """Frozen. Raises a JobFailure where there is none."""
    head = value_head.load(value_head.folder_of(start), value_head.width(model))
    if head is None:
        name = start.adapters[-1].name if start.adapters else start.whole.name
        sentence = f"The reward model {name!r} has no {value_head.SAFE} beside it: train one with the stage rm."
        raise JobFailure(Reason.BAD_MODEL, sentence)
    return head.requires_grad_(False).to(device)
