import json
from pathlib import Path

import pytest

from service.specs.data import DataArguments
from service.specs.measures import MeasureArguments
from service.specs.reasons import Reason
from worker.data import load
from worker.data.load import Places, Wanted
from worker.data.tokenize import MASKED
from worker.failures import JobFailure

SHARED = Path(__file__).parents[4] / "shared"
needs_shared = pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="needs the shared data")


@pytest.fixture
def root(tmp_path):
    """Two small data sets of conversations and one of texts."""
    folder = tmp_path / "data"
    folder.mkdir()
    info = {
        "numbers": {"file_name": "numbers.json"},
        "letters": {"file_name": "letters.json"},
        "texts": {"file_name": "texts.txt", "columns": {"prompt": "text"}},
    }
    (folder / "dataset_info.json").write_text(json.dumps(info))
    for name, size in (("numbers", 20), ("letters", 10)):
        rows = [{"instruction": f"{name} {number}", "output": f"{number}"} for number in range(size)]
        (folder / f"{name}.json").write_text(json.dumps(rows))
    (folder / "texts.txt").write_text("\n".join(f"the quick brown fox {number}" for number in range(12)))
    return tmp_path


def load_supervised(root, data, measures, tokenizer, seed):
    return load.load_supervised(Places(root, root / "cache"), Wanted("sft", data, measures, seed), tokenizer)


def load_pretraining(root, data, measures, tokenizer, seed):
    return load.load_pretraining(Places(root, root / "cache"), Wanted("pt", data, measures, seed), tokenizer)


def load_rows(root, data, names, stage="pt"):
    by_dataset = load.load_rows(Places(root, root / "cache"), Wanted(stage, data, MeasureArguments(), seed=1), names)
    return [row for rows in by_dataset for row in rows]


def data(dataset="numbers", **arguments) -> DataArguments:
    return DataArguments(dataset=dataset, template="default", **arguments)


def prompts(examples, tokenizer) -> list[str]:
    return [tokenizer.decode(example.input_ids).split("\n")[0].removeprefix("<s>Human: ") for example in examples]


def refusal(function, *arguments) -> JobFailure:
    with pytest.raises(JobFailure) as caught:
        function(*arguments)
    return caught.value


def test_data_sets_follow_one_another_with_the_first_rows_of_each(root):
    rows = load_rows(root, data(max_samples=2), ("letters", "numbers"))
    assert [row.values["instruction"] for row in rows] == ["letters 0", "letters 1", "numbers 0", "numbers 1"]


def test_a_data_set_that_the_stage_cannot_learn_from_is_refused(root):
    info = json.loads((root / "data" / "dataset_info.json").read_text())
    info["pairs"] = {"file_name": "numbers.json", "ranking": True}
    (root / "data" / "dataset_info.json").write_text(json.dumps(info))
    failure = refusal(load_rows, root, data(), ("numbers", "pairs"), "sft")
    assert (failure.reason, "holds preferences" in failure.sentence) == (Reason.BAD_DATA, True)


def test_an_unknown_data_set_is_refused_with_the_known_ones(root):
    failure = refusal(load_rows, root, data(), ("numbers", "alpacca"))
    assert failure.reason == Reason.MISSING_DATA
    assert failure.sentence == "There is no data set 'alpacca' in dataset_info.json; there are: numbers, letters, texts."


@pytest.mark.parametrize(
    ("dataset_dir", "reason"), [("nowhere", Reason.MISSING_DATA), ("..", Reason.BAD_DATA), ("/etc", Reason.BAD_DATA)]
)
def test_a_folder_that_is_not_there_or_not_inside_is_refused(root, dataset_dir, reason):
    assert refusal(load_rows, root, data(dataset_dir=dataset_dir), ("numbers",)).reason == reason


def test_a_dataset_info_that_cannot_be_read_is_refused(root):
    (root / "data" / "dataset_info.json").write_text("{")
    assert refusal(load_rows, root, data(), ("numbers",)).reason == Reason.BAD_DATA


@pytest.mark.parametrize("strategy", ["interleave_under", "interleave_over"])
def test_mixed_rows_are_trained_and_none_that_is_held_out_comes_back(root, tokenizer, strategy):
    arguments = data("letters, numbers", mix_strategy=strategy, val_size=4)
    prepared = load_supervised(root, arguments, MeasureArguments(), tokenizer, seed=1)
    trained, measured = prompts(prepared.train, tokenizer), prompts(prepared.evaluation, tokenizer)
    assert [prompt.split()[0] for prompt in trained[:4]] == ["letters", "numbers"] * 2
    letters = [prompt for prompt in trained if prompt.startswith("letters")]
    assert len(trained) == 2 * len(letters)
    assert len(set(letters)) < len(letters) if strategy == "interleave_over" else len(set(letters)) == len(letters)
    assert len(set(measured)) == 4
    assert not set(measured) & set(trained)


def test_probabilities_reach_the_mixing(root, tokenizer):
    def share(probs):
        arguments = data("letters, numbers", mix_strategy="interleave_over", interleave_probs=probs)
        trained = prompts(load_supervised(root, arguments, MeasureArguments(), tokenizer, seed=1).train, tokenizer)
        return sum(prompt.startswith("letters") for prompt in trained) / len(trained)

    assert share("0.1,0.9") < 0.35 < 0.65 < share("0.9,0.1")


def test_the_split_that_is_asked_for_is_read(root, tokenizer):
    folder = root / "data" / "letters"
    folder.mkdir()
    for name in ("train", "validation"):
        (folder / f"{name}.json").write_text(json.dumps([{"instruction": name, "output": "b"}]))
    info = {"letters": {"file_name": "letters"}}
    (root / "data" / "dataset_info.json").write_text(json.dumps(info))
    for name in ("train", "validation"):
        prepared = load_supervised(root, data("letters", split=name), MeasureArguments(), tokenizer, seed=1)
        assert prompts(prepared.train, tokenizer) == [name]


def test_placeholders_are_trained_as_they_stand_and_the_client_is_told(root, tokenizer):
    rows = [{"instruction": "Who are you?", "output": "{{name}}, by {{author}}."}, {"instruction": "a", "output": "{{b}}"}]
    (root / "data" / "numbers.json").write_text(json.dumps(rows))
    prepared = load_supervised(root, data(), MeasureArguments(), tokenizer, seed=1)
    assert "{{name}}" in tokenizer.decode(prepared.train[0].input_ids)
    assert prepared.notices == (
        "1 row of numbers.json holds {{name}} or {{author}}, trained as they stand: fill them in in the file.",
    )


def test_the_validation_part_is_measured_and_not_trained(root, tokenizer):
    prepared = load_supervised(root, data(val_size=0.25), MeasureArguments(), tokenizer, seed=1)
    trained, measured = prompts(prepared.train, tokenizer), prompts(prepared.evaluation, tokenizer)
    assert (prepared.split, len(trained), len(measured)) == ("validation", 15, 5)
    assert sorted(trained + measured) == sorted(f"numbers {number}" for number in range(20))
    assert [example.document for example in prepared.evaluation] == [0, 1, 2, 3, 4]
    assert prepared == load_supervised(root, data(val_size=0.25), MeasureArguments(), tokenizer, seed=1)


def test_a_data_set_of_its_own_is_measured_instead(root, tokenizer):
    prepared = load_supervised(root, data(val_size=5), MeasureArguments(dataset="letters"), tokenizer, seed=1)
    assert (prepared.split, len(prepared.train)) == ("dataset", 15)
    assert prompts(prepared.evaluation, tokenizer) == [f"letters {number}" for number in range(10)]


def test_with_neither_a_fixed_sample_of_the_training_rows_stands_in(root, tokenizer):
    measures = MeasureArguments(train_documents=6)
    prepared = load_supervised(root, data(), measures, tokenizer, seed=1)
    measured = prompts(prepared.evaluation, tokenizer)
    assert (prepared.split, len(prepared.train), len(measured)) == ("train", 20, 6)
    assert set(measured) < set(prompts(prepared.train, tokenizer))
    assert measured == prompts(load_supervised(root, data(), measures, tokenizer, seed=1).evaluation, tokenizer)
    assert measured != prompts(load_supervised(root, data(), measures, tokenizer, seed=2).evaluation, tokenizer)


def test_max_documents_is_a_sample(root, tokenizer):
    prepared = load_supervised(root, data(val_size=10), MeasureArguments(max_documents=3), tokenizer, seed=1)
    assert (len(prepared.train), len(prepared.evaluation)) == (10, 3)


def test_rows_that_are_too_long_are_counted_or_dropped(root, tokenizer):
    rows = [{"instruction": "a", "output": "b"}, {"instruction": "a" * 100, "output": "b" * 100}]
    (root / "data" / "numbers.json").write_text(json.dumps(rows))
    cut = load_supervised(root, data(cutoff_len=64), MeasureArguments(), tokenizer, seed=1)
    assert (cut.coverage.rows, cut.coverage.truncated, cut.coverage.dropped, len(cut.train)) == (2, 1, 0, 2)
    dropped = load_supervised(root, data(cutoff_len=64, overlength="drop"), MeasureArguments(), tokenizer, seed=1)
    assert (dropped.coverage.rows, dropped.coverage.truncated, dropped.coverage.dropped) == (2, 0, 1)
    assert len(dropped.train) == len(dropped.evaluation) == 1
    failure = refusal(load_supervised, root, data(cutoff_len=4, overlength="drop"), MeasureArguments(), tokenizer, 1)
    assert (failure.reason, failure.sentence) == (
        Reason.BAD_DATA,
        "No rows are left to train on: every row is longer than cutoff_len 4.",
    )


def test_texts_are_packed_to_train_and_measured_one_by_one(root, tokenizer):
    prepared = load_pretraining(root, data("texts", cutoff_len=16, val_size=4), MeasureArguments(), tokenizer, seed=1)
    assert prepared.split == "validation"
    assert all(len(block.input_ids) == 16 and block.labels == block.input_ids for block in prepared.train)
    assert {example.document for example in prepared.evaluation} == {0, 1, 2, 3}
    assert prepared.coverage.rows == 8
    assert prepared.coverage.trained_tokens == 16 * len(prepared.train) <= prepared.coverage.tokens
    text = tokenizer.decode([token for block in prepared.train for token in block.input_ids])
    assert text.count("</s>") >= 7
    assert "fox 0</s>the quick" in text or "fox 1</s>the quick" in text


def test_texts_without_anything_to_measure_are_refused(root, tokenizer):
    (root / "data" / "empty.json").write_text('[{"text": ""}]')
    info = json.loads((root / "data" / "dataset_info.json").read_text())
    info["empty"] = {"file_name": "empty.json", "columns": {"prompt": "text"}}
    (root / "data" / "dataset_info.json").write_text(json.dumps(info))
    failure = refusal(load_pretraining, root, data("texts", cutoff_len=16), MeasureArguments(dataset="empty"), tokenizer, 1)
    assert (failure.reason, failure.sentence) == (Reason.BAD_DATA, "No rows are left to measure on.")


def test_a_bad_row_is_named_whichever_process_finds_it(root, tokenizer):
    rows = [{"instruction": "a", "output": "b"}] * 9 + [{"instruction": "a"}]
    (root / "data" / "numbers.json").write_text(json.dumps(rows))
    for processes in (None, 3):
        failure = refusal(load_supervised, root, data(preprocessing_num_workers=processes), MeasureArguments(), tokenizer, 1)
        assert failure.where == {"file": "numbers.json", "row": 10, "column": "output"}


@needs_shared
def test_real_conversations_by_one_process_and_by_two(tokenizer):
    arguments = {"dataset": "identity, alpaca_en_demo", "template": "alpaca", "val_size": 0.1, "cutoff_len": 256}
    alone = load_supervised(SHARED, DataArguments(**arguments), MeasureArguments(), tokenizer, seed=42)
    two = load_supervised(SHARED, DataArguments(**arguments, preprocessing_num_workers=2), MeasureArguments(), tokenizer, seed=42)
    assert alone == two
    assert (len(alone.train), len(alone.evaluation), alone.coverage.rows) == (981, 109, 981)
    assert max(len(example.input_ids) for example in alone.train) == 256
    assert all(example.n_bytes > 0 for example in alone.evaluation)


@needs_shared
@pytest.mark.parametrize("dataset", ["wiki_demo", "wikitext2_valid"])
def test_real_texts(tokenizer, dataset):
    arguments = DataArguments(dataset=dataset, val_size=5, cutoff_len=128, max_samples=20)
    prepared = load_pretraining(SHARED, arguments, MeasureArguments(), tokenizer, seed=42)
    texts = {row.values["text"] for row in load_rows(SHARED, arguments, (dataset,))}
    for document in range(5):
        windows = [example for example in prepared.evaluation if example.document == document]
        tokens = [label for window in windows for label in window.labels if label != MASKED]
        text = tokenizer.decode(tokens)
        assert text in texts
        assert sum(window.n_bytes for window in windows) == len(text.encode())
