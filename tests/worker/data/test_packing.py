import random

import pytest
import torch

from worker.data.collate import Collator, features
from worker.data.packing import PackedCollator, block_features, pack
from worker.data.tokenize import MASKED, Example

LENGTHS = random.Random(1).choices(range(1, 65), k=500)


def test_every_example_is_in_one_block_whole_and_no_block_is_longer_than_cutoff_len():
    packed = pack(LENGTHS, 64)
    assert sorted(index for block in packed.blocks for index in block) == list(range(500))
    assert max(sum(LENGTHS[index] for index in block) for block in packed.blocks) <= 64
    assert packed.padding_share == pytest.approx(1 - sum(LENGTHS) / (64 * len(packed.blocks)))


def test_blocks_are_few():
    fewest = -(-sum(LENGTHS) // 64)
    assert len(pack(LENGTHS, 64).blocks) <= 1.03 * fewest


@pytest.mark.parametrize(
    ("lengths", "blocks"),
    [
        ([], []),
        ([10], [[0]]),
        ([10, 10, 10], [[0], [1], [2]]),
        ([4, 6, 3, 7], [[2, 3], [0, 1]]),
        ([7, 6, 3, 4], [[0, 2], [1, 3]]),  # 3 goes where least is left
        ([5, 5, 5, 5], [[0, 1], [2, 3]]),
    ],
)
def test_the_longest_goes_first_and_into_the_fullest_block_with_room(lengths, blocks):
    assert pack(lengths, 10).blocks == blocks


def test_the_event_s_words():
    assert pack([6, 4, 5, 3], 10).sentence(10) == (
        "4 examples are packed into 2 blocks of 10 tokens, of which 10.0 % are padding"
    )


EXAMPLES = [
    Example([5, 6, 7, 1], [5, 6, 7, 1]),
    Example([8, 9, 1], [MASKED, 9, 1]),
    Example([3, 4, 5, 6, 7], [MASKED, MASKED, 5, 6, 7]),
]


def test_positions_restart_and_no_example_is_trained_to_follow_another():
    batch = PackedCollator(pad_id=2, cutoff_len=8)(block_features(EXAMPLES, pack([4, 3, 5], 8)))
    assert batch["input_ids"].tolist() == [[8, 9, 1, 3, 4, 5, 6, 7], [5, 6, 7, 1, 2, 2, 2, 2]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 2, 3, 4], [0, 1, 2, 3, 0, 1, 2, 3]]
    none = MASKED
    assert batch["labels"].tolist() == [[none, 9, 1, none, none, 5, 6, 7], [none, 6, 7, 1, none, none, none, none]]
    assert batch["attention_mask"].sum(dim=1).tolist() == [8, 4]


def test_padding_is_learned_where_its_loss_is_not_ignored_but_for_its_first_token():
    batch = PackedCollator(pad_id=2, cutoff_len=8, label_pad_id=2)(block_features(EXAMPLES, pack([4, 3, 5], 8)))
    assert batch["labels"][1].tolist() == [MASKED, 6, 7, 1, MASKED, 2, 2, 2]


def test_flash_attention_is_given_one_row_without_padding():
    batch = PackedCollator(pad_id=2, cutoff_len=8, flat=True)(block_features(EXAMPLES, pack([4, 3, 5], 8)))
    assert batch["input_ids"].tolist() == [[8, 9, 1, 3, 4, 5, 6, 7, 5, 6, 7, 1]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 2, 3, 4, 0, 1, 2, 3]]


def long_examples(n: int) -> list[Example]:
    draw = random.Random(2)
    examples = []
    for _ in range(n):
        ids = [draw.randint(3, 299) for _ in range(draw.randint(2, 30))]
        examples.append(Example(ids, [MASKED, *ids[1:]]))
    return examples


def without_mask(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in batch.items() if name != "attention_mask"}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("flat", [False, True])
def test_the_logits_of_an_example_in_a_block_are_those_of_it_alone(make_llama, attention, flat):
    model = make_llama().eval()
    model.set_attn_implementation(attention)
    examples = long_examples(12)
    packed = pack([len(example.input_ids) for example in examples], 32)
    assert max(map(len, packed.blocks)) > 2
    batch = PackedCollator(pad_id=1, cutoff_len=32, flat=flat)(block_features(examples, packed))
    with torch.no_grad():
        logits = model(**without_mask(batch), use_cache=False).logits
    row, position = 0, 0
    for block in packed.blocks:
        for index in block:
            ids = torch.tensor([examples[index].input_ids])
            with torch.no_grad():
                alone = model(input_ids=ids, use_cache=False).logits[0]
            assert torch.allclose(logits[row, position : position + ids.shape[1]], alone, atol=1e-5), index
            position += ids.shape[1]
        if not flat:
            row, position = row + 1, 0


def test_loss_and_gradients_are_those_of_the_same_examples_unpacked(make_llama):
    examples = long_examples(12)
    packed = pack([len(example.input_ids) for example in examples], 32)
    together = PackedCollator(pad_id=1, cutoff_len=32)(block_features(examples, packed))
    apart = Collator(pad_id=1)(features(examples))
    gradients = []
    for batch in (without_mask(together), apart):
        model = make_llama()
        loss = model(**batch, use_cache=False).loss
        loss.backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()} | {"loss": loss.detach()})
    for name, gradient in gradients[1].items():
        assert torch.allclose(gradients[0][name], gradient, atol=1e-6), name
