from itertools import islice

import pytest

from service.specs.generating import GeneratingArguments
from service.specs.reasons import Reason
from worker.data.prepared import Prepared, Streamed
from worker.data.tokenize import Coverage, Example
from worker.failures import JobFailure
from worker.ppo import prompts
from worker.ppo.prompts import endless, sentence, streamed, usable
from worker.writing.batch import room

POOL = [[n] for n in range(7)]


def prepared(*prompts, **counts):
    coverage = Coverage(**{"rows": len(prompts), "truncated": 0, "dropped": 0, "tokens": 0, "trained_tokens": 0} | counts)
    return Prepared([Example(list(prompt), []) for prompt in prompts], [], coverage, "validation")


def test_every_pass_has_each_prompt_once_in_an_order_of_its_own():
    taken = list(islice(endless(POOL, seed=3), 21))
    passes = [taken[start : start + 7] for start in (0, 7, 14)]
    assert [sorted(one) for one in passes] == [POOL] * 3
    assert passes[0] != passes[1] != passes[2]
    assert list(islice(endless(POOL, seed=4), 7)) != passes[0]


@pytest.mark.parametrize("start", [0, 5, 7, 16])
def test_it_goes_on_from_wherever_it_was(start):
    assert list(islice(endless(POOL, 3, start), 10)) == list(islice(endless(POOL, 3), start, start + 10))


def test_room_is_max_new_tokens_or_what_the_prompt_leaves_of_max_length():
    assert room(3, GeneratingArguments(max_new_tokens=5, max_length=4)) == 5
    assert room(3, GeneratingArguments(max_new_tokens=0, max_length=4)) == 1


def test_prompts_that_are_empty_or_leave_no_room_are_left_out_and_counted():
    data = prepared([], [1], [1, 2, 3], [1, 2, 3, 4], truncated=1)
    pool = usable(data, GeneratingArguments(max_new_tokens=0, max_length=3))
    assert pool == [[1]]
    assert sentence(data, pool) == "1 prompt of 1 tokens, 1 truncated, 3 empty or without room for a response"


def test_a_data_set_without_a_usable_prompt_is_refused():
    with pytest.raises(JobFailure) as raised:
        usable(prepared([], [1, 2]), GeneratingArguments(max_new_tokens=0, max_length=2))
    assert raised.value.reason == Reason.BAD_DATA


def a_stream(rows):
    return Streamed(({"input_ids": row} for row in rows), [], "validation")  # type: ignore[arg-type]


def test_a_stream_passes_over_what_was_used_and_what_cannot_be():
    assert list(streamed(a_stream([[1], [], [2], [3]]), GeneratingArguments(), start=1)) == [[2], [3]]


def test_a_stream_with_nothing_usable_ends_the_job_and_does_not_look_for_ever(monkeypatch):
    monkeypatch.setattr(prompts, "IN_VAIN", 3)
    with pytest.raises(JobFailure) as raised:
        list(streamed(a_stream([[1], [], [], [1], [], [], [], [1]]), GeneratingArguments()))
    assert raised.value.reason == Reason.BAD_DATA
