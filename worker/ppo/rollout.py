"""Responses: what a policy writes to its prompts, drawn as the generating arguments say."""

from collections.abc import Sequence

from worker.models.adapters import Model
from worker.ppo.prompts import Prompt
from worker.writing.batch import Manner, RequireNumbers, room, write

DIVERGED = "The policy's probabilities are no longer numbers. A lower learning_rate or a longer warm-up may help."


def respond(model: Model, prompts: Sequence[Prompt], manner: Manner) -> list[list[int]]:
    """A response to each, from torch's own generator; one token at least."""
    rooms = [room(len(prompt), manner.generating) for prompt in prompts]
    return write(model, prompts, rooms, manner, [RequireNumbers(DIVERGED)])
