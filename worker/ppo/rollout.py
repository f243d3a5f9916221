"""Responses: what a policy writes to its prompts, drawn as the generating arguments say."""

from collections.abc import Sequence

from service.specs.reasons import Reason
from worker.failures import JobFailure
from worker.models.adapters import Model
from worker.ppo.prompts import Prompt
from worker.writing.answers import answer
from worker.writing.batch import Manner, room

DIVERGED = "The policy's probabilities are no longer numbers. A lower learning_rate or a longer warm-up may help."


def respond(model: Model, prompts: Sequence[Prompt], seeds: Sequence[tuple[int, int]], manner: Manner) -> list[list[int]]:
    """A response to each, drawn by its own seed; one token at least."""
    rooms = [room(len(prompt), manner.generating) for prompt in prompts]
    try:
        return [response.tokens for response in answer(model, prompts, rooms, seeds, manner)]
    except JobFailure as failure:
        raise JobFailure(Reason.DIVERGED, DIVERGED) from failure
