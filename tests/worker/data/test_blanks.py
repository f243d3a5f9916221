"""Blanks: every rank has a whole batch, every row comes once, and nothing is learned of what is none."""

import pytest
import torch
from torch.utils.data import BatchSampler, SequentialSampler

from worker.data.blanks import BLANK, Fillable, WholeBatches, blank_like, is_blank
from worker.data.collate import Collator, PairCollator
from worker.data.packing import PackedCollator
from worker.data.tokenize import MASKED

ROW = {"input_ids": [5, 6, 7], "labels": [MASKED, 6, 7]}
BLOCK = ROW | {"position_ids": [0, 1, 2]}
PAIR = {"input_ids": [5, 6, 5, 8], "labels": [MASKED, 6, MASKED, 8], "chosen_len": 2}


def batches_of(n_rows, size, n_ranks):
    return list(WholeBatches(BatchSampler(SequentialSampler(range(n_rows)), size, drop_last=False), n_ranks))


@pytest.mark.parametrize("n_rows", range(1, 13))
@pytest.mark.parametrize("n_ranks", [2, 3])
def test_all_ranks_have_as_many_batches_of_one_size_and_every_row_once(n_rows, n_ranks):
    batches = batches_of(n_rows, 2, n_ranks)
    assert len(batches) % n_ranks == 0
    assert {len(batch) for batch in batches} == {2}
    assert [index for batch in batches for index in batch if index != BLANK] == list(range(n_rows))
    assert len(batches) - n_ranks < -(-n_rows // 2), "no update is of blanks alone"


def test_rows_that_come_out_even_have_none():
    assert batches_of(8, 2, 2) == [[0, 1], [2, 3], [4, 5], [6, 7]]


@pytest.mark.parametrize("row", [ROW, PAIR, BLOCK, ROW | {"desirable": True}])
def test_a_blank_is_of_the_rows_kind_and_known_for_one(row):
    blank = blank_like(row)
    assert blank.keys() == row.keys()
    assert is_blank(blank)
    assert not is_blank(row)


def test_a_blank_stands_beside_the_rows_and_is_none_of_them():
    rows = Fillable([ROW, ROW])
    assert len(rows) == 2
    assert len(list(rows)) == 2
    assert is_blank(rows[BLANK])


def test_nothing_of_a_blank_is_trained():
    batch = Collator(pad_id=0)([ROW, blank_like(ROW)])
    assert (batch["labels"][1] == MASKED).all()
    padded = Collator(pad_id=0, label_pad_id=0)([ROW, blank_like(ROW), {"input_ids": [5, 6], "labels": [MASKED, 6]}])
    assert padded["labels"].tolist() == [[MASKED, 6, 7], [MASKED] * 3, [MASKED, 6, 0]]
    block = PackedCollator(pad_id=0, cutoff_len=4, label_pad_id=0)([BLOCK, blank_like(BLOCK)])
    assert block["labels"].tolist() == [[MASKED, 6, 7, MASKED], [MASKED] * 4]
    both = PairCollator(Collator(pad_id=0))([PAIR, blank_like(PAIR)])
    assert torch.equal((both["labels"] != MASKED).any(1), torch.tensor([True, False, True, False]))
