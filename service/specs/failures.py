"""How the work says that it cannot go on.

JobFailure             the attempt ends; `reason` is for programs, `sentence` for people
└── (one class: what ended it is a Reason, which the store keeps and clients switch on)
"""

from typing import Any

from service.specs.reasons import Reason


class JobFailure(Exception):
    """The work cannot go on. `where` holds what is known of the place: file, row, column, line."""

    def __init__(self, reason: Reason, sentence: str, **where: Any):
        super().__init__(sentence)
        self.reason = reason
        self.sentence = sentence
        self.where = where

    def __reduce__(self) -> tuple[Any, ...]:
        # raised in a tokenising process and read in its parent: the default would call JobFailure(sentence)
        return _rebuilt, (self.reason, self.sentence, self.where)


def _rebuilt(reason: Reason, sentence: str, where: dict[str, Any]) -> JobFailure:
    return JobFailure(reason, sentence, **where)
