import json
from collections import Counter
from itertools import islice

import pytest

from service.specs.data import DataArguments
from service.specs.measures import MeasureArguments
from service.specs.reasons import Reason
from worker.data import files
from worker.data.load import Places, Wanted, load_pairs, load_pretraining, load_supervised
from worker.data.prepared import Streamed
from worker.data.streaming import stream_blocks
from worker.data.tokenize import pack_blocks
from worker.failures import JobFailure

ROWS = {"numbers": 300, "letters": 30}


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    info = {name: {"file_name": f"{name}.jsonl"} for name in ROWS}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    for name, size in ROWS.items():
        rows = [json.dumps({"instruction": f"{name} {number}", "output": f"{number}"}) for number in range(size)]
        (folder / f"{name}.jsonl").write_text("\n".join(rows))
    return tmp_path


@pytest.fixture
def read(monkeypatch):
    """How many rows each file has given so far."""
    counted = Counter()

    def reader(path, file):
        for number, values in files._jsonl(path, file):
            counted[file] += 1
            yield number, values

    monkeypatch.setitem(files.READERS, ".jsonl", reader)
    return counted


def streamed(root, tokenizer, dataset="numbers", seed=1, data_seed=None, measures=None, load=load_supervised, **data):
    arguments = {"template": "default", "streaming": True, "buffer_size": 8} | data
    measures = MeasureArguments(**measures or {"train_documents": 1})
    stage = "sft" if load is load_supervised else "pt"
    wanted = Wanted(stage, DataArguments(dataset=dataset, **arguments), measures, seed, data_seed)
    loaded = load(Places(root, root / "cache"), wanted, tokenizer)
    assert isinstance(loaded, Streamed)
    return loaded


def prompt(tokenizer, ids) -> str:
    return tokenizer.decode(ids).split("\n")[0].removeprefix("<s>Human: ")


def taken(loaded, tokenizer, n_rows) -> list[str]:
    return [prompt(tokenizer, features["input_ids"]) for features in islice(loaded.train, n_rows)]


def measured(loaded, tokenizer) -> list[str]:
    return [prompt(tokenizer, example.input_ids) for example in loaded.evaluation]


def test_no_more_rows_are_read_than_are_trained_and_wait_in_the_buffer(root, tokenizer, read):
    loaded = streamed(root, tokenizer, buffer_size=16)
    before = read["numbers.jsonl"]
    assert before <= 2
    assert len(taken(loaded, tokenizer, 10)) == 10
    assert read["numbers.jsonl"] - before == 10 + 16


def test_rows_come_in_an_order_that_the_buffer_and_the_seed_decide(root, tokenizer):
    def first(**arguments):
        return taken(streamed(root, tokenizer, **arguments), tokenizer, 20)

    assert first(buffer_size=1) == [f"numbers {number}" for number in range(20)]
    assert first() == first() != first(seed=2)
    assert first(seed=1, data_seed=2) == first(seed=2)
    assert sorted(first()) != sorted(first(buffer_size=1))
    assert {int(row.split()[1]) for row in first(buffer_size=16)} <= set(range(20 + 16))


def test_rows_come_round_again_in_another_order(root, tokenizer):
    rows = taken(streamed(root, tokenizer, "letters"), tokenizer, 90)
    rounds = [rows[:30], rows[30:60], rows[60:]]
    assert all(sorted(one) == sorted(rounds[0]) for one in rounds)
    assert rounds[0] != rounds[1] != rounds[2]


def test_the_first_rows_are_held_out_and_the_rest_is_shuffled(root, tokenizer):
    loaded = streamed(root, tokenizer, "letters", val_size=5)
    assert (loaded.split, measured(loaded, tokenizer)) == ("validation", [f"letters {number}" for number in range(5)])
    trained = taken(loaded, tokenizer, 75)
    assert Counter(trained) == Counter({f"letters {number}": 3 for number in range(5, 30)})
    assert trained[:25] != sorted(trained[:25], key=lambda row: int(row.split()[1]))


@pytest.mark.parametrize("n_rows", [30, 31])
def test_a_validation_part_that_leaves_nothing_is_refused(root, tokenizer, n_rows):
    with pytest.raises(JobFailure) as caught:
        streamed(root, tokenizer, "letters", val_size=n_rows)
    assert (
        caught.value.sentence == f"val_size {n_rows} holds out {n_rows} rows, and there are 30: none would be left to train on."
    )


@pytest.mark.parametrize("probs", [None, "0.5,0.5"])
@pytest.mark.parametrize("strategy", ["concat", "interleave_under", "interleave_over"])
def test_what_is_held_out_never_comes_however_rows_are_mixed(root, tokenizer, strategy, probs):
    probabilities = {} if strategy == "concat" else {"interleave_probs": probs}
    loaded = streamed(root, tokenizer, "letters,numbers", mix_strategy=strategy, val_size=12, **probabilities)
    held_out = measured(loaded, tokenizer)
    assert len(set(held_out)) == 12
    trained = taken(loaded, tokenizer, 1500)
    assert not set(held_out) & set(trained)
    assert {row.split()[0] for row in trained} == {"letters", "numbers"}


def test_interleaved_rows_come_from_each_in_turn(root, tokenizer, read):
    loaded = streamed(root, tokenizer, "letters,numbers", mix_strategy="interleave_under", buffer_size=1)
    assert taken(loaded, tokenizer, 4) == ["letters 0", "numbers 0", "letters 1", "numbers 1"]
    assert max(read.values()) < 10


def test_rows_that_are_trained_stand_in_for_a_validation_part(root, tokenizer):
    loaded = streamed(root, tokenizer, measures={"train_documents": 3})
    assert (loaded.split, measured(loaded, tokenizer)) == ("train", [f"numbers {number}" for number in range(3)])
    own = streamed(root, tokenizer, measures={"dataset": "letters", "max_documents": 4})
    assert (own.split, len(own.evaluation)) == ("dataset", 4)


def test_what_was_read_is_counted(root, tokenizer):
    loaded = streamed(root, tokenizer, "letters", buffer_size=1)
    examples = list(islice(loaded.train, 35))
    coverage = loaded.train.coverage
    assert (coverage.rows, coverage.truncated, coverage.dropped) == (35, 0, 0)
    assert coverage.tokens == sum(len(example["input_ids"]) for example in examples)
    assert coverage.trained_tokens == sum(label != -100 for example in examples for label in example["labels"])
    assert next(iter(loaded.train)) == examples[0]
    assert loaded.train.coverage.rows == 1, "a new reading is counted anew"


def test_rows_that_are_too_long_are_left_out_and_counted(root, tokenizer):
    lines = [json.dumps({"instruction": "a" * (200 * (n % 2)), "output": "b"}) for n in range(10)]
    (root / "data" / "letters.jsonl").write_text("\n".join(lines))
    loaded = streamed(root, tokenizer, "letters", cutoff_len=64, overlength="drop", buffer_size=1)
    assert len(list(islice(loaded.train, 5))) == 5
    assert (loaded.train.coverage.rows, loaded.train.coverage.dropped) == (9, 4)


def test_a_stream_of_which_nothing_is_left_is_an_error_and_no_endless_search(root, tokenizer):
    (root / "data" / "letters.jsonl").write_text(json.dumps({"instruction": "a" * 200, "output": "b"}))
    loaded = streamed(root, tokenizer, "letters", cutoff_len=64, overlength="drop", measures={"dataset": "numbers"})
    with pytest.raises(JobFailure, match="No rows are left to train on"):
        next(iter(loaded.train))


def test_a_bad_row_is_named_when_it_is_come_to(root, tokenizer):
    (root / "data" / "letters.jsonl").write_text('{"instruction": "a", "output": "b"}\n{"instruction": "a"}')
    loaded = streamed(root, tokenizer, "letters", buffer_size=1)
    with pytest.raises(JobFailure) as caught:
        list(islice(loaded.train, 2))
    assert (caught.value.reason, caught.value.where) == (
        Reason.BAD_ROW,
        {"file": "letters.jsonl", "row": 2, "column": "output"},
    )


def test_blocks_are_filled_as_texts_come_and_are_those_of_all_at_once(root, tokenizer):
    texts = [[*range(n)] for n in (3, 0, 10, 1, 7, 2)]
    assert list(stream_blocks(iter(texts), 99, 4)) == pack_blocks(texts, 99, 4)
    info = json.loads((root / "data" / "dataset_info.json").read_text())
    info["texts"] = {"file_name": "texts.txt", "columns": {"prompt": "text"}}
    (root / "data" / "dataset_info.json").write_text(json.dumps(info))
    (root / "data" / "texts.txt").write_text("\n".join(f"the quick brown fox {n}" for n in range(40)))
    loaded = streamed(root, tokenizer, "texts", load=load_pretraining, cutoff_len=16, buffer_size=1)
    blocks = list(islice(loaded.train, 5))
    assert all(len(block["input_ids"]) == 16 and block["labels"] == block["input_ids"] for block in blocks)
    text = tokenizer.decode([token for block in blocks for token in block["input_ids"]])
    assert text.startswith("the quick brown fox 0</s>the quick brown fox 1</s>")


def test_pairs_stream_as_rows_of_both_texts(root, tokenizer):
    folder = root / "data"
    (folder / "dataset_info.json").write_text(json.dumps({"pairs": {"file_name": "pairs.jsonl", "ranking": True}}))
    rows = [json.dumps({"instruction": f"what is {n}", "chosen": f"{n}", "rejected": "no idea"}) for n in range(9)]
    (folder / "pairs.jsonl").write_text("\n".join(rows))
    data = DataArguments(dataset="pairs", template="default", streaming=True, val_size=2)
    got = load_pairs(Places(root, root / "cache"), Wanted("rm", data, MeasureArguments(), 1), tokenizer)
    assert len(got.pairs) == 2
    assert [example.input_ids for example in got.evaluation] == [pair.chosen.input_ids for pair in got.pairs]
    for row in islice(got.train, 7):
        assert tokenizer.decode(row["input_ids"][row["chosen_len"] :]).endswith("no idea</s>")
