"""dataset_info.json as LLaMA-Factory writes it: its entries read, its mistakes named."""

import json
from pathlib import Path
from typing import Any

import pytest

from service.specs.dataset_info import Columns, DatasetEntry, DatasetInfoError, Tags, files_of, read_dataset_info, why_not_for

SHARED_GPT: dict[str, Any] = {
    "file_name": "talks.json",
    "file_sha1": "0123456789abcdef0123456789abcdef01234567",
    "formatting": "sharegpt",
    "columns": {"messages": "conversations", "system": "system", "tools": "tools"},
    "tags": {
        "role_tag": "role",
        "content_tag": "content",
        "user_tag": "user",
        "assistant_tag": "assistant",
        "observation_tag": "tool",
        "function_tag": "call",
        "system_tag": "sys",
    },
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def write(folder: Path, document: Any) -> Path:
    (folder / "dataset_info.json").write_text(json.dumps(document), encoding="utf-8")
    return folder


def an_info(folder: Path, **entry: Any) -> Path:
    return write(folder, {"letters": {"file_name": "letters.jsonl", **entry}})


def test_the_shortest_entry_is_an_alpaca_file_with_the_usual_columns(folder: Path) -> None:
    assert read_dataset_info(an_info(folder)) == {"letters": DatasetEntry(file_name="letters.jsonl")}
    entry = read_dataset_info(folder)["letters"]
    assert (entry.formatting, entry.ranking, entry.columns, entry.tags) == ("alpaca", False, Columns(), Tags())


def test_a_sharegpt_entry_keeps_its_columns_and_tags(folder: Path) -> None:
    entry = read_dataset_info(write(folder, {"talks": SHARED_GPT}))["talks"]
    assert entry.model_dump(exclude_unset=True) == SHARED_GPT


def test_the_usual_tags_are_llama_factorys() -> None:
    assert Tags().model_dump() == {
        "role_tag": "from",
        "content_tag": "value",
        "user_tag": "human",
        "assistant_tag": "gpt",
        "observation_tag": "observation",
        "function_tag": "function_call",
        "system_tag": "system",
    }


def test_preference_columns_are_read(folder: Path) -> None:
    columns = {"prompt": "q", "query": "x", "response": "a", "history": "h", "chosen": "good", "rejected": "bad", "kto_tag": "t"}
    entry = read_dataset_info(an_info(folder, ranking=True, columns=columns))["letters"]
    assert entry.ranking is True
    assert entry.columns.model_dump(exclude_none=True) == columns


def test_entries_keep_the_files_order(folder: Path) -> None:
    names = ["b", "a", "c"]
    assert list(read_dataset_info(write(folder, {name: {"file_name": f"{name}.json"} for name in names}))) == names


def test_sources_that_are_not_read_yet_are_still_understood(folder: Path) -> None:
    entry = {"hf_hub_url": "some/where", "ms_hub_url": "else/where", "script_url": "script", "subset": "s", "folder": "f"}
    assert read_dataset_info(write(folder, {"remote": entry}))["remote"].model_dump(exclude_unset=True) == entry


@pytest.mark.parametrize(
    ("entry", "place"),
    [
        ({"file": "x.json"}, "file"),
        ({"columns": {"promt": "instruction"}}, "columns.promt"),
        ({"tags": {"role": "from"}}, "tags.role"),
        ({"formatting": "openia"}, "formatting"),
        ({"ranking": "maybe"}, "ranking"),
        ({"hf_hub_url": "../secret"}, "hf_hub_url"),
        ({"ms_hub_url": "/etc/passwd"}, "ms_hub_url"),
        ({"hf_hub_url": "https://huggingface.co/a/b"}, "hf_hub_url"),
        ({"file_name": 3}, "file_name"),
        ({"columns": ["prompt"]}, "columns"),
        ({"tags": {"role_tag": None}}, "tags.role_tag"),
    ],
)
def test_a_bad_entry_is_named_with_its_data_set_and_its_key(folder: Path, entry: dict[str, Any], place: str) -> None:
    info = read_dataset_info(write(folder, {"numbers": {"file_name": "n.json", **entry}}))
    with pytest.raises(DatasetInfoError, match=rf"'data' has a bad entry: numbers\.{place}: "):
        info["numbers"]


def test_a_bad_entry_spoils_no_other(folder: Path) -> None:
    document = {"pictures": {"file_name": "p.json", "columns": {"images": "images"}}, "letters": {"file_name": "letters.jsonl"}}
    info = read_dataset_info(write(folder, document))
    assert list(info) == ["pictures", "letters"]
    assert "pictures" in info
    assert info["letters"] == DatasetEntry(file_name="letters.jsonl")


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        # as LLaMA-Factory's own file has them today
        (
            {"file_name": "mllm_demo.json", "formatting": "sharegpt", "columns": {"messages": "messages", "images": "images"}},
            r"it\.columns\.images: there is no such key here: only text is learned\.",
        ),
        ({"hf_hub_url": "a/b", "split": "train_sft"}, r"it\.split: there is no such key here: the job names the split"),
        ({"file_name": "c.json", "num_samples": 100}, r"it\.num_samples: .*the job takes the first rows"),
        ({"cloud_file_name": "s3://b/c.json"}, r"it\.cloud_file_name: .*put the file into this folder"),
        ({"hf_hub_url": "https://huggingface.co/a/b"}, r"it\.hf_hub_url: this must be the name of a repository, owner/name\."),
        ({"formatting": "openia"}, r"it\.formatting: Input should be 'alpaca', 'sharegpt' or 'openai'\."),
    ],
)
def test_what_is_not_read_of_newer_files_is_said_with_what_to_do(folder: Path, entry: dict[str, Any], says: str) -> None:
    with pytest.raises(DatasetInfoError, match=says):
        read_dataset_info(write(folder, {"it": entry}))["it"]


@pytest.mark.parametrize(
    "entry",
    [
        {"hf_hub_url": "llamafactory/alpaca_en", "ms_hub_url": "llamafactory/alpaca_en", "om_hub_url": "HaM/alpaca_en"},
        {"script_url": "belle_multiturn", "formatting": "sharegpt"},
        {"hf_hub_url": "bigcode/starcoderdata", "columns": {"prompt": "content"}, "folder": "python"},
        {"hf_hub_url": "codeparrot/github-code", "columns": {"prompt": "code"}, "subset": "all-all"},
        {"file_name": "c4_demo.jsonl", "columns": {"prompt": "text"}},
        {
            "hf_hub_url": "llamafactory/DPO-En-Zh-20k",
            "subset": "en",
            "ranking": True,
            "formatting": "sharegpt",
            "columns": {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"},
        },
    ],
)
def test_entries_of_llama_factorys_own_file_are_read(folder: Path, entry: dict[str, Any]) -> None:
    assert read_dataset_info(write(folder, {"it": entry}))["it"].model_dump(exclude_unset=True) == entry


@pytest.mark.parametrize("entry", ["letters.jsonl", None, ["x"], 3])
def test_an_entry_that_is_no_object_is_named(folder: Path, entry: Any) -> None:
    with pytest.raises(DatasetInfoError, match="has a bad entry: numbers: "):
        read_dataset_info(write(folder, {"numbers": entry}))["numbers"]


def test_a_folder_without_the_file_is_said_to_have_none(folder: Path) -> None:
    with pytest.raises(DatasetInfoError, match=r"There is no dataset_info\.json in the folder 'data'"):
        read_dataset_info(folder)
    with pytest.raises(DatasetInfoError, match=r"There is no dataset_info\.json in the folder 'nowhere'"):
        read_dataset_info(folder / "nowhere")


@pytest.mark.parametrize("content", [b"", b"{", b"{'a': 1}", b"\xff\xfe", b"[" * 100_000])
def test_a_file_that_is_not_json_is_said_to_be_none(folder: Path, content: bytes) -> None:
    (folder / "dataset_info.json").write_bytes(content)
    with pytest.raises(DatasetInfoError, match="is not valid JSON"):
        read_dataset_info(folder)


def test_a_byte_order_mark_is_read_over(folder: Path) -> None:
    (folder / "dataset_info.json").write_text('{"letters": {"file_name": "letters.jsonl"}}', encoding="utf-8-sig")
    assert list(read_dataset_info(folder)) == ["letters"]


@pytest.mark.parametrize("document", [[], "letters", 3, None])
def test_a_file_that_is_no_object_of_entries_is_refused(folder: Path, document: Any) -> None:
    with pytest.raises(DatasetInfoError, match="must be an object of data sets by name"):
        read_dataset_info(write(folder, document))


def test_a_file_that_cannot_be_opened_is_an_error_of_the_same_kind(folder: Path) -> None:
    (folder / "dataset_info.json").mkdir()
    with pytest.raises(DatasetInfoError, match="cannot be read"):
        read_dataset_info(folder)


def test_the_message_does_not_show_where_the_folder_lies(folder: Path) -> None:
    with pytest.raises(DatasetInfoError) as missing:
        read_dataset_info(folder)
    assert str(folder.parent) not in str(missing.value)


def test_the_files_of_an_entry_are_its_one_file_or_all_of_its_folder_by_name(folder: Path) -> None:
    parts = folder / "parts"
    (parts / "deeper").mkdir(parents=True)
    for name in ("b.jsonl", "a.jsonl", "c.jsonl"):
        (parts / name).touch()
    assert files_of(folder, DatasetEntry(file_name="letters.jsonl")) == [folder / "letters.jsonl"]
    assert files_of(folder, DatasetEntry(file_name="parts")) == [parts / "a.jsonl", parts / "b.jsonl", parts / "c.jsonl"]


@pytest.mark.parametrize(
    ("entry", "learns", "says"),
    [
        ({}, {"pt", "sft", "ppo"}, "single answers"),
        ({"formatting": "sharegpt"}, {"sft", "ppo"}, "holds conversations"),
        ({"formatting": "openai"}, {"sft", "ppo"}, "holds conversations"),
        ({"ranking": True}, {"rm", "dpo"}, "holds preferences"),
        ({"columns": {"chosen": "good", "rejected": "bad"}}, {"rm", "dpo"}, "holds preferences"),
        ({"columns": {"kto_tag": "label"}}, set(), "only the stage dpo with dpo_loss kto learns from that"),
    ],
)
def test_each_stage_learns_from_what_it_can(entry: dict[str, Any], learns: set[str], says: str) -> None:
    why = {stage: why_not_for(stage, "it", DatasetEntry.model_validate(entry)) for stage in ("pt", "sft", "rm", "ppo", "dpo")}
    assert {stage for stage, sentence in why.items() if sentence is None} == learns
    assert any(says in sentence for sentence in why.values() if sentence)
