import json

import pytest

from service.specs.data import DataArguments
from service.specs.measures import MeasureArguments
from service.specs.reasons import Reason
from worker.data import cache, load
from worker.data.load import Places, Wanted
from worker.failures import JobFailure


@pytest.fixture
def places(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "dataset_info.json").write_text(json.dumps({"numbers": {"file_name": "numbers.json"}}))
    write(folder / "numbers.json", 20)
    return Places(tmp_path, tmp_path / "cache")


def write(file, n_rows):
    file.write_text(json.dumps([{"instruction": f"{{{{name}}}} {n}", "output": f"{n}"} for n in range(n_rows)]))


def loaded(places, tokenizer, seed=1, stage="sft", **data):
    arguments = {"dataset": "numbers", "template": "default", "cache_path": "mine", "val_size": 4} | data
    wanted = Wanted(stage, DataArguments(**arguments), MeasureArguments(), seed)
    return (load.load_supervised if stage == "sft" else load.load_pretraining)(places, wanted, tokenizer)


def kept_parts(prepared):
    return prepared.train, prepared.evaluation, prepared.pairs, prepared.coverage, prepared.split, prepared.notices[:-1]


@pytest.fixture
def no_tokenising(monkeypatch):
    def forbid():
        def fail(*arguments, **named):
            raise AssertionError("it tokenises")

        monkeypatch.setattr(load, "map_in_processes", fail)

    return forbid


@pytest.mark.parametrize("stage", ["sft", "pt"])
def test_the_second_run_does_not_tokenise_and_has_the_same(places, tokenizer, no_tokenising, stage):
    first = loaded(places, tokenizer, stage=stage, cutoff_len=16)
    assert first.notices[-1] == "The tokenised examples are kept in the cache 'mine'."
    no_tokenising()
    second = loaded(places, tokenizer, stage=stage, cutoff_len=16)
    assert kept_parts(second) == kept_parts(first)
    assert second.notices[-1] == "The tokenised examples are taken from the cache 'mine'."


def test_pairs_are_kept_as_pairs(places, tokenizer, no_tokenising):
    folder = places.datasets_root / "data"
    (folder / "dataset_info.json").write_text(json.dumps({"numbers": {"file_name": "pairs.json", "ranking": True}}))
    rows = [{"instruction": f"what is {n}", "chosen": f"{n}", "rejected": "no idea"} for n in range(20)]
    (folder / "pairs.json").write_text(json.dumps(rows))
    wanted = Wanted(
        "rm", DataArguments(dataset="numbers", template="default", cache_path="mine", val_size=4), MeasureArguments(), 1
    )
    first = load.load_pairs(places, wanted, tokenizer)
    no_tokenising()
    second = load.load_pairs(places, wanted, tokenizer)
    assert (len(first.train), len(first.pairs)) == (16, 4)
    assert kept_parts(second) == kept_parts(first)


def test_arguments_that_change_no_example_do_not_matter(places, tokenizer, no_tokenising):
    first = loaded(places, tokenizer)
    no_tokenising()
    assert loaded(places, tokenizer, preprocessing_num_workers=2, ignore_pad_token_for_loss=False).train == first.train


def test_another_argument_is_refused_by_name(places, tokenizer):
    loaded(places, tokenizer)
    for other in ({"cutoff_len": 512}, {"template": "alpaca"}, {"max_samples": 5}, {"val_size": 2}, {"train_on_prompt": True}):
        with pytest.raises(JobFailure) as caught:
            loaded(places, tokenizer, **other)
        assert caught.value.reason == Reason.BAD_DATA
        assert caught.value.sentence == (
            f"The cache 'mine' was made with something else: data.{next(iter(other))} differ. Name another cache_path, or set "
            "overwrite_cache to make this one anew."
        )
    with pytest.raises(JobFailure, match=r"training\.seed differ"):
        loaded(places, tokenizer, seed=2)


def test_another_tokenizer_file_or_version_is_refused_by_name(places, tokenizer, tokenizer_without_bos, monkeypatch):
    loaded(places, tokenizer)
    with pytest.raises(JobFailure, match="the tokenizer differ"):
        loaded(places, tokenizer_without_bos)
    tokenizer.split_special_tokens = True
    with pytest.raises(JobFailure, match="the tokenizer differ"):
        loaded(places, tokenizer)
    tokenizer.split_special_tokens = False
    write(places.datasets_root / "data" / "numbers.json", 21)
    with pytest.raises(JobFailure, match="the data set numbers differ"):
        loaded(places, tokenizer)
    monkeypatch.setattr(cache, "code", lambda: "another")
    with pytest.raises(JobFailure, match="the data set numbers, the version of Finebits differ"):
        loaded(places, tokenizer)


def test_overwrite_cache_makes_it_anew(places, tokenizer, no_tokenising):
    loaded(places, tokenizer)
    write(places.datasets_root / "data" / "numbers.json", 30)
    second = loaded(places, tokenizer, overwrite_cache=True)
    assert len(second.train) == 26
    no_tokenising()
    assert kept_parts(loaded(places, tokenizer)) == kept_parts(second)


def test_a_run_that_is_cut_off_while_it_keeps_leaves_nothing_that_looks_whole(places, tokenizer, monkeypatch):
    def cut_off(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cache, "_put", cut_off)
        with pytest.raises(KeyboardInterrupt):
            loaded(places, tokenizer)
    assert list((places.cache_root / "tokenised").iterdir()) == []
    assert "are kept" in loaded(places, tokenizer).notices[-1]


@pytest.mark.parametrize("file", ["made_of.json", "train/data-00000-of-00001.arrow", "dataset_dict.json"])
def test_a_damaged_cache_is_an_error_until_it_is_overwritten(places, tokenizer, file):
    loaded(places, tokenizer)
    (places.cache_root / "tokenised" / "mine" / file).write_bytes(b"not what it was")
    with pytest.raises(JobFailure, match="The cache 'mine' is damaged"):
        loaded(places, tokenizer)
    loaded(places, tokenizer, overwrite_cache=True)
    loaded(places, tokenizer)


def test_nothing_outside_the_folder_is_written(places, tokenizer):
    with pytest.raises(JobFailure, match="cache_path cannot be used"):
        loaded(places, tokenizer, cache_path="../mine", overwrite_cache=True)
