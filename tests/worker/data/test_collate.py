import pytest
import torch

from worker.data.collate import Collator, PairCollator, collator_for, features
from worker.data.pairs import PairExample
from worker.data.tokenize import MASKED, Example

EXAMPLES = [Example([5, 6, 7], [MASKED, 6, 7]), Example([8], [8])]


def test_padding_is_on_the_right_and_seen_by_nobody():
    batch = Collator(pad_id=2)(features(EXAMPLES))
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 2, 2]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[MASKED, 6, 7], [8, MASKED, MASKED]]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_a_token_that_pads_is_trained_where_it_stands_in_the_text():
    batch = Collator(pad_id=7)(features(EXAMPLES))
    assert batch["attention_mask"][0].tolist() == [1, 1, 1]
    assert batch["labels"][0].tolist() == [MASKED, 6, 7]


def test_padding_is_learned_where_its_loss_is_not_ignored():
    batch = collator_for(2, ignore_pad_token_for_loss=False, device=torch.device("cpu"))(features(EXAMPLES))
    assert batch["labels"].tolist() == [[MASKED, 6, 7], [8, 2, 2]]


@pytest.mark.parametrize(("device", "width"), [("cpu", 3), ("cuda", 8)])
def test_only_a_gpu_is_given_multiples_of_eight(device, width):
    collator = collator_for(2, ignore_pad_token_for_loss=True, device=torch.device(device))
    assert collator(features(EXAMPLES))["input_ids"].shape == (2, width)


def test_padding_changes_no_loss(make_llama):
    model = make_llama().eval()
    rows = features([Example([5, 6, 7, 9], [MASKED, 6, 7, 9]), Example([8, 3], [MASKED, 3])])
    collate = Collator(pad_id=1)
    with torch.no_grad():
        together = model(**collate(rows)).loss
        alone = [model(**collate([row])).loss for row in rows]
    assert together.item() == pytest.approx((3 * alone[0] + alone[1]).item() / 4, rel=1e-5)


def test_a_batch_of_pairs_is_the_chosen_texts_and_then_the_rejected_ones():
    pairs = [PairExample(*EXAMPLES), PairExample(Example([3, 4], [MASKED, 4]), Example([3, 9, 9], [MASKED, 9, 9]))]
    rows = features(pairs)
    assert [len(row["input_ids"]) for row in rows] == [4, 5], "a sampler that groups by length sees all of a pair"
    batch = PairCollator(Collator(pad_id=2))(rows)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [3, 4, 2], [8, 2, 2], [3, 9, 9]]
    assert batch["labels"].tolist() == [[MASKED, 6, 7], [MASKED, 4, MASKED], [8, MASKED, MASKED], [MASKED, 9, 9]]
    assert batch["attention_mask"].sum(1).tolist() == [3, 2, 1, 3]
