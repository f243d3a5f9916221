"""Whether two models read the same tokens."""

from pathlib import Path

from transformers import PreTrainedTokenizerBase

from service.specs.job import ResolvedStep
from service.specs.reasons import Reason
from worker.data.templates import TEMPLATES, add_tokens
from worker.failures import JobFailure
from worker.models.loading import load_tokenizer


def refuse_other_tokens(model: Path, tokenizer: PreTrainedTokenizerBase, step: ResolvedStep, role: str) -> None:
    """Raises a JobFailure unless each token of the step's tokenizer is the same one in the model's own, which may have more.

    `role` is what the sentence calls the model, such as "the reference model". The template's tokens are added to both.
    """
    why = why_other_tokens(model, tokenizer, step)
    if why is not None:
        whose = f"{role[0].upper()}{role[1:]} {model.name!r}"
        sentence = f"{whose} has another tokenizer: {why}. The two models would read different texts."
        raise JobFailure(Reason.BAD_MODEL, sentence)


def why_other_tokens(model: Path, tokenizer: PreTrainedTokenizerBase, step: ResolvedStep) -> str | None:
    """The first token that is another one in the model's own tokenizer; None where there is none."""
    other = load_tokenizer(model, step.model.split_special_tokens)
    add_tokens(TEMPLATES[step.data.template or "empty"], other)
    theirs = other.get_vocab()
    different = sorted((index, token) for token, index in tokenizer.get_vocab().items() if theirs.get(token) != index)
    if not different:
        return None
    index, token = different[0]
    there = f"there it is {theirs[token]}" if token in theirs else "there it is none"
    return f"the token {token!r} is {index} here, and {there} ({len(different)} differ)"
