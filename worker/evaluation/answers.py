"""What a model answers: of each question the likeliest of the four letters.

Shapes: Q questions, L letters, D width of the hidden states.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from service.specs.benchmark import LETTERS, Question
from worker.evaluation.prompts import Asking, Prompt
from worker.probes.token import UNSCORED, Document, Model, final_hidden_states, head_of, measure


@dataclass(frozen=True)
class Answers:
    """To one subject's questions, in the order of its file. `bits[q][l]` = −lg p(letter l), of the four letters alone."""

    rows: list[int]
    truth: list[int]  # which letter is right, from 0
    bits: list[list[float]]
    n_shown: list[int]
    n_cut: int

    @property
    def bits_QL(self) -> np.ndarray:
        return np.array(self.bits, dtype=np.float64).reshape(len(self.rows), len(LETTERS))

    @property
    def choice_Q(self) -> np.ndarray:
        """The likeliest letter, the first of equals; −1 where the model diverged."""
        return np.where(np.isfinite(self.bits_QL).all(axis=1), self.bits_QL.argmin(axis=1), -1)

    @property
    def truth_Q(self) -> np.ndarray:
        return np.array(self.truth, dtype=np.int64)

    def to_json(self) -> dict[str, Any]:
        """A number that is not finite is null, since JSON has no nan."""
        bits = [[value if math.isfinite(value) else None for value in values] for values in self.bits]
        return asdict(self) | {"bits": bits}

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> "Answers":
        bits = [[math.nan if value is None else value for value in values] for values in kept["bits"]]
        return cls(kept["rows"], kept["truth"], bits, kept["n_shown"], kept["n_cut"])


def answer(
    model: Model, questions: Sequence[Question], prompts: Sequence[Prompt], asking: Asking, tokenizer_size: int, batch_size: int
) -> Answers:
    bits_QL = letter_bits(model, [prompt.input_ids for prompt in prompts], asking.letters, tokenizer_size, batch_size)
    return Answers(
        rows=[question.row for question in questions],
        truth=[LETTERS.index(question.answer or "") for question in questions],
        bits=bits_QL.tolist(),
        n_shown=[prompt.n_shown for prompt in prompts],
        n_cut=sum(prompt.is_cut for prompt in prompts),
    )


def letter_bits(
    model: Model, prompts: Sequence[list[int]], letters: Sequence[list[int]], tokenizer_size: int, batch_size: int
) -> np.ndarray:
    """[Q, L] −lg p of each letter, given that one of them comes next."""
    is_one = all(len(letter) == 1 for letter in letters)
    of = _of_one_token_each if is_one else _of_several_tokens
    lg_p_QL = of(model, prompts, letters, tokenizer_size, batch_size) / math.log(2)
    with np.errstate(invalid="ignore"):  # a model that diverged gives nan
        bits_QL: np.ndarray = np.logaddexp2.reduce(lg_p_QL, axis=1, keepdims=True) - lg_p_QL
    return bits_QL


def _of_one_token_each(
    model: Model, prompts: Sequence[list[int]], letters: Sequence[list[int]], tokenizer_size: int, batch_size: int
) -> np.ndarray:
    """[Q, L] ln p but for what is the same of all letters: their logits, in fp32 from those rows of the head alone. One pass."""
    documents = [_document(ids, letters[0]) for ids in prompts]
    hidden_QD = final_hidden_states(model, documents, batch_size)
    head = head_of(model, tokenizer_size)
    logits = [head.logits_of(hidden_QD, torch.full((len(prompts),), letter)) for (letter,) in letters]
    return torch.stack(logits, dim=1).double().cpu().numpy()


def _of_several_tokens(
    model: Model, prompts: Sequence[list[int]], letters: Sequence[list[int]], tokenizer_size: int, batch_size: int
) -> np.ndarray:
    """[Q, L] ln p of each letter as the tokens that write it. A pass for each."""
    documents = [_document(ids, letter) for ids in prompts for letter in letters]
    nll = measure(model, documents, tokenizer_size, batch_documents=batch_size).nll
    return -math.log(2) * np.array(nll).reshape(len(prompts), len(letters))


def _document(prompt: list[int], letter: list[int]) -> Document:
    return Document([*prompt, *letter], [*[UNSCORED] * len(prompt), *letter], 1)
