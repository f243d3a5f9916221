"""Which measures a job that names none has: all of the default ones that can be taken of what it trains on."""

from typing import Any

import pytest

from service.specs.job import resolve
from service.specs.measures import BY_NAME, DEFAULT_NAMES, OF_PAIRS, WITHOUT_MEMBERSHIP
from service.specs.read import read_job
from tests.specs.job_documents import a_job

HELD_OUT = {"data": {"val_size": 10}}


def names_of(**groups: Any) -> tuple[str, ...]:
    (step,) = resolve(read_job(a_job(**groups)).spec).steps
    return step.measures.names


def test_training_rows_are_held_against_others_where_there_are_both() -> None:
    membership = {name for name in DEFAULT_NAMES if BY_NAME[name].on == "membership"}
    assert membership == {
        "generalization_gap",
        "memorized_bits",
        "membership_auroc",
        "min_k_auroc",
        "zlib_auroc",
        "membership_tpr",
        "verbatim_rate",
    }
    assert set(WITHOUT_MEMBERSHIP) == set(DEFAULT_NAMES) - membership
    assert names_of(**HELD_OUT) == names_of(measures={"dataset": "others"}) == DEFAULT_NAMES
    assert names_of(**HELD_OUT, finetuning={"stage": "dpo"}) == DEFAULT_NAMES


@pytest.mark.parametrize(
    "groups",
    [
        {},
        HELD_OUT | {"finetuning": {"stage": "ppo", "reward_model": "scorer"}},
        {"data": {"val_size": 10, "streaming": True}, "training": {"max_steps": 5}},
        {"measures": {"names": ",".join(DEFAULT_NAMES)}},
    ],
)
def test_where_there_are_not_they_are_left_out_and_not_refused(groups: dict[str, Any]) -> None:
    assert names_of(**groups) == WITHOUT_MEMBERSHIP


def test_what_is_resolved_may_be_asked_for_again() -> None:
    for finetuning in ({"finetuning_type": "full"}, {"stage": "rm", "finetuning_type": "full"}):
        names = names_of(finetuning=finetuning)
        assert names_of(finetuning=finetuning, measures={"names": ",".join(names)}) == names
    assert names[-len(OF_PAIRS) :] == OF_PAIRS
