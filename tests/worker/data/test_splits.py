import pytest

from service.specs.reasons import Reason
from worker.data.splits import sample, split
from worker.failures import JobFailure

ROWS = [f"row {number}" for number in range(100)]


@pytest.mark.parametrize(
    ("val_size", "held_out"), [(0, 0), (0.07, 7), (0.29, 29), (0.071, 8), (0.0001, 1), (1, 1), (1.0, 1), (30, 30), (99, 99)]
)
def test_sizes_are_exact_and_the_parts_are_the_rows(val_size, held_out):
    training, validation = split(ROWS, val_size, seed=3)
    assert (len(training), len(validation)) == (100 - held_out, held_out)
    assert sorted(training + validation) == sorted(ROWS)
    assert training == [row for row in ROWS if row in set(training)]
    assert validation == [row for row in ROWS if row in set(validation)]


def test_the_seed_decides():
    assert split(ROWS, 10, seed=1) == split(ROWS, 10, seed=1)
    assert split(ROWS, 10, seed=1) != split(ROWS, 10, seed=2)


@pytest.mark.parametrize(("rows", "val_size"), [(ROWS, 100), (ROWS, 250), (ROWS[:1], 0.5), (ROWS[:2], 0.9)])
def test_something_must_be_left_to_train_on(rows, val_size):
    with pytest.raises(JobFailure, match="none would be left to train on") as caught:
        split(rows, val_size, seed=0)
    assert caught.value.reason == Reason.BAD_DATA


def test_a_sample_is_seeded_and_in_order():
    few = sample(ROWS, 10, seed=1)
    assert few == [row for row in ROWS if row in set(few)]
    assert (len(set(few)), few) == (10, sample(ROWS, 10, seed=1))
    assert few != sample(ROWS, 10, seed=2)
    assert sample(ROWS, None, seed=1) == sample(ROWS, 1000, seed=1) == ROWS
