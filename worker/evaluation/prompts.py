"""What a model is asked: a question with its choices, behind examples with their answers, up to where a letter would stand.

The prompts are MMLU's (Hendrycks et al. 2021, arXiv 2009.03300) and, in Chinese, C-Eval's (Huang et al. 2023, arXiv 2305.08322)
as LLaMA-Factory 0.5 writes it. With a template, each example is a turn of a conversation and the letter begins an answer.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from service.library.formats import Conversation, Message
from service.specs.benchmark import LETTERS, Question, Subject
from service.specs.reasons import Reason
from worker.data.templates import TEMPLATES
from worker.data.turns import encode_turns
from worker.failures import JobFailure


@dataclass(frozen=True)
class Wording:
    """`gap` stands between what asks for an answer and the answer."""

    head: str
    choice: str
    asks: str
    gap: str


WORDINGS = {
    "en": Wording(
        head="The following are multiple choice questions (with answers) about {subject}.\n\n",
        choice="\n{letter}. {text}",
        asks="\nAnswer:",
        gap=" ",
    ),
    "zh": Wording(
        head="以下是中国关于{subject}考试的单项选择题，请选出其中的正确答案。\n\n",
        choice="\n{letter}. {text}",
        asks="\n答案：",
        gap="",
    ),
}


@dataclass(frozen=True, slots=True)
class Prompt:
    """`n_shown` examples stand in it; one that is cut lacks its beginning, since it would not fit even with no example."""

    input_ids: list[int]
    n_shown: int
    is_cut: bool


class Asking:
    """One way to ask. `letters` are the tokens of each answer, A to D, behind what they have in common: most often one each.

    Raises a JobFailure where the tokenizer cannot tell them apart.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str | None, lang: str, most_tokens: int):
        self._tokenizer = tokenizer
        self._template = None if template is None else TEMPLATES[template]
        self._wording = WORDINGS[lang]
        self._most_tokens = most_tokens
        self.begins = _own_beginning(tokenizer) if template is None else []
        sample = Question(1, "?", ("1", "2", "3", "4"), "A")
        self.letters, self._tail = self._told_apart(Subject("any", "any", "Other"), sample)

    def prompt(self, subject: Subject, question: Question, shots: Sequence[Question]) -> Prompt:
        """With as many of the examples as fit, the last ones."""
        for n in range(len(shots), -1, -1):
            shown = shots[len(shots) - n :]
            whole = self._whole(subject, shown, question, LETTERS[0])
            input_ids = whole[: -len(self._tail)]
            if whole[len(input_ids) :] != self._tail:
                raise self._no_letters()
            if len(input_ids) <= self._most_tokens:
                return Prompt(input_ids, n, False)
        kept = self._most_tokens - len(self.begins)
        return Prompt([*self.begins, *input_ids[len(input_ids) - kept :]], 0, True)

    def text(self, subject: Subject, question: Question, shots: Sequence[Question]) -> str:
        """The prompt as plain text, without an answer."""
        examples = (f"{self.asked(shot)}{self._wording.gap}{shot.answer}\n\n" for shot in shots)
        return self._wording.head.format(subject=subject.name) + "".join(examples) + self.asked(question)

    def asked(self, question: Question) -> str:
        """One question with its choices, up to where the answer would stand."""
        choices = zip(LETTERS, question.choices, strict=True)
        written = (self._wording.choice.format(letter=letter, text=text) for letter, text in choices)
        return question.text + "".join(written) + self._wording.asks

    def _told_apart(self, subject: Subject, question: Question) -> tuple[list[list[int]], list[int]]:
        """The letters, and how a prompt that is answered A ends: with A, and with what ends an answer."""
        wholes = [self._whole(subject, (), question, letter) for letter in LETTERS]
        tails = [whole[_n_common(wholes) :] for whole in wholes]
        n_end = _n_common([tail[::-1] for tail in tails])
        letters = [tail[: len(tail) - n_end] for tail in tails]
        if not all(letters) or len(set(map(tuple, letters))) < len(LETTERS):
            raise self._no_letters()
        return letters, tails[0]

    def _whole(self, subject: Subject, shots: Sequence[Question], question: Question, letter: str) -> list[int]:
        """An answered prompt's tokens."""
        if self._template is None:
            text = f"{self.text(subject, question, shots)}{self._wording.gap}{letter}"
            ids: list[int] = self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
            return [*self.begins, *ids]
        conversation = Conversation(None, tuple(self._messages(subject, shots, question, letter)), "", question.row)
        turns = encode_turns(conversation, self._template, self._tokenizer).turns
        return [token for turn in turns for part in turn for token in part.ids]

    def _messages(self, subject: Subject, shots: Sequence[Question], question: Question, letter: str) -> Iterator[Message]:
        head = self._wording.head.format(subject=subject.name)
        for one in (*shots, question):
            yield Message("user", head + self.asked(one))
            yield Message("assistant", letter if one is question else one.answer or "")
            head = ""

    def _no_letters(self) -> JobFailure:
        sentence = "The model's tokenizer writes the answers A, B, C and D such that they cannot be told apart behind a prompt."
        return JobFailure(Reason.BAD_MODEL, sentence)


def _n_common(sequences: Sequence[list[int]]) -> int:
    """How many tokens they all begin with."""
    return next(
        (place for place, tokens in enumerate(zip(*sequences, strict=False)) if len(set(tokens)) > 1), min(map(len, sequences))
    )


def shots_of(examples: Sequence[Question], n_shot: int, seed: int, subject: str, row: int) -> list[Question]:
    """n_shot of the examples in a random order, or all of them; of a question always the same with the same seed."""
    return random.Random(f"{seed}/{subject}/{row}").sample(list(examples), min(n_shot, len(examples)))


def _own_beginning(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What the tokenizer itself puts before a text: BOS, or nothing."""
    with_it: list[int] = tokenizer("?")["input_ids"]
    bare: list[int] = tokenizer("?", add_special_tokens=False)["input_ids"]
    first = next((place for place in range(len(with_it)) if with_it[place : place + len(bare)] == bare), 0)
    return with_it[:first]
