"""The text that a quantizer sees is drawn at random, written down, and drawn again the same; too little of it is an error."""

import hashlib

import numpy as np
import pytest

from service.specs.dataset_info import Columns, DatasetEntry
from service.specs.reasons import Reason
from worker.data.files import Row
from worker.export.calibration import corpus_text, draw
from worker.failures import JobFailure

TEXT = DatasetEntry(file_name="text.txt", columns=Columns(prompt="text"))


def encode(text):
    """One token a character, told by its place in the alphabet."""
    return [ord(letter) for letter in text]


def rows(*lengths):
    """Row n repeats no token, and has none of another row's."""
    return [
        Row({"text": "".join(chr(1000 * (n + 1) + place) for place in range(length))}, "text.txt", n + 1, TEXT)
        for n, length in enumerate(lengths)
    ]


def drawn(lengths, n_windows, n_tokens, seed=42):
    return draw("letters", rows(*lengths), encode, n_windows, n_tokens, seed)


def test_windows_have_the_tokens_of_the_place_that_is_written_down():
    of = {row.number: encode(row.values["text"]) for row in rows(50, 9, 70)}
    windows = drawn([50, 9, 70], 5, 10).windows
    assert [window.input_ids for window in windows] == [of[window.row][window.offset : window.offset + 10] for window in windows]
    assert {len(window.input_ids) for window in windows} == {10}


@pytest.mark.parametrize("seed", range(5))
def test_no_token_is_in_two_windows(seed):
    windows = drawn([50, 9, 74], 12, 10, seed).windows
    tokens = [token for window in windows for token in window.input_ids]
    assert len(tokens) == len(set(tokens)) == 120


def test_every_long_row_has_a_window_before_one_has_two():
    assert sorted(window.row for window in drawn([100, 30, 9, 30], 3, 10).windows) == [1, 2, 4]


def test_the_same_seed_draws_the_same_and_another_seed_another():
    first = drawn([90, 80, 70], 6, 10)
    assert drawn([90, 80, 70], 6, 10) == first
    assert drawn([90, 80, 70], 6, 10, seed=7).windows != first.windows


def test_windows_do_not_all_begin_where_their_row_does():
    """A row's own beginning is no more likely than another place: 95 places, and the same window of 5 twice is rare."""
    assert len({drawn([99], 1, 5, seed).windows[0].offset for seed in range(40)}) > 20


def test_the_record_says_where_each_window_stands_and_hashes_what_it_holds():
    calibration = drawn([40, 40], 3, 10, seed=5)
    tokens = [token for window in calibration.windows for token in window.input_ids]
    record = calibration.to_json()
    assert record.pop("windows") == [{"file": w.file, "row": w.row, "offset": w.offset} for w in calibration.windows]
    assert record == {
        "dataset": "letters",
        "seed": 5,
        "tokens_in_a_window": 10,
        "sha256_of_tokens": hashlib.sha256(np.array(tokens, dtype="<i8").tobytes()).hexdigest(),
    }


def test_long_corpora_are_not_read_to_their_end():
    seen = []

    def counted(text):
        seen.append(text)
        return encode(text)

    draw("letters", rows(*[20] * 50), counted, 4, 10, 0)
    assert len(seen) == 4


@pytest.mark.parametrize(
    ("lengths", "told"),
    [
        ([9, 9, 9], "has no rows of at least 10 tokens (export_quantization_maxlen), enough for 0 windows of that length, and 4"),
        ([9, 35], "has 1 row of at least 10 tokens (export_quantization_maxlen), enough for 3 windows of that length, and 4"),
        ([10, 10, 10], "has 3 rows of at least 10 tokens"),
    ],
)
def test_too_few_long_rows_are_an_error_that_says_what_there_is_and_what_to_do(lengths, told):
    with pytest.raises(JobFailure) as caught:
        drawn(lengths, 4, 10)
    assert caught.value.reason is Reason.BAD_DATA
    assert told in caught.value.sentence
    assert caught.value.sentence.endswith("Lower one of the two, or name a data set with longer texts.")
    assert "'letters'" in caught.value.sentence


def test_just_enough_is_enough():
    assert len(drawn([10, 35], 4, 10).windows) == 4


@pytest.mark.parametrize(
    ("values", "entry", "text"),
    [
        ({"text": "a line"}, TEXT, "a line"),
        ({"instruction": "add", "input": "1 1", "output": "2"}, DatasetEntry(file_name="a.json"), "add\n1 1\n2"),
        (
            {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}], "system": "be kind"},
            DatasetEntry(file_name="a.json", formatting="sharegpt", columns=Columns(messages="conversations", system="system")),
            "be kind\nhi\nho",
        ),
        ({"instruction": "add", "output": ["2", "3"]}, DatasetEntry(file_name="a.json", ranking=True), "add\n2"),
        ({"instruction": "add", "output": "2", "good": False}, DatasetEntry(file_name="a.json"), "add\n2"),
    ],
)
def test_rows_of_every_kind_have_a_text(values, entry, text):
    assert corpus_text(Row(values, "a.json", 1, entry)) == text
