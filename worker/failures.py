"""How the work says that it cannot go on.

JobFailure             the attempt ends; `reason` is for programs, `sentence` for people
└── (one class: what ended it is a Reason, which the store keeps and clients switch on)
"""

from enum import StrEnum
from typing import Any


class Reason(StrEnum):
    """Why a job ended. Cancelled is not here: it is a wish that was met, not a failure."""

    bad_row = "bad_row"  # one row of a data set cannot be used; `where` says which
    bad_data = "bad_data"  # a data set as a whole cannot be used
    missing_data = "missing_data"  # a data set or its file is not where the job looks for it
    bad_model = "bad_model"  # a model's files cannot be used, or do not have what the job trains
    missing_model = "missing_model"  # a model is not where the job looks for it
    no_gpu = "no_gpu"  # the job needs a GPU and its worker has none
    out_of_memory = "out_of_memory"  # of the GPU, or of the host
    out_of_disk = "out_of_disk"  # a checkpoint or a file could not be written
    not_finite = "not_finite"  # the loss became infinite or not a number
    worker_lost = "worker_lost"  # the lease ran out more often than the job allows
    killed = "killed"  # a process was ended by a signal that nobody here sent
    internal_error = "internal_error"  # a defect of ours; the log has the traceback


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
