import json
import sys
import threading
import types
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import datasets
import huggingface_hub
import pytest
from huggingface_hub import constants

from service.specs.data import DataArguments
from service.specs.dataset_info import DatasetEntry
from service.specs.measures import MeasureArguments
from service.specs.reasons import Reason
from tests.fake_hub import COMMIT, fake_hub
from worker.data import load
from worker.data.hub import Hub, commit, hub_rows
from worker.data.load import Places, Wanted
from worker.failures import JobFailure

QUESTIONS = "\n".join(json.dumps({"instruction": f"question {n}", "output": f"{n}"}) for n in range(6))


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The libraries read where the hub is when they are imported; a worker has it in its environment (HF_ENDPOINT)."""
    with fake_hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", "hf_operators")
        huggingface_hub.HfFileSystem.clear_instance_cache()
        hub.add("org/questions", train__jsonl=QUESTIONS, test__jsonl=QUESTIONS.splitlines()[0])
        yield hub
        huggingface_hub.HfFileSystem.clear_instance_cache()


@pytest.fixture
def cache(tmp_path):
    return Hub(tmp_path / "cache" / "hub")


def rows_of(cache, split="train", streaming=False, **entry):
    return list(hub_rows(cache, "it", DatasetEntry(**({"hf_hub_url": "org/questions"} | entry)), split, streaming))


def refusal(*arguments, **entry) -> JobFailure:
    with pytest.raises(JobFailure) as caught:
        rows_of(*arguments, **entry)
    return caught.value


@pytest.mark.parametrize("streaming", [False, True])
def test_a_data_set_on_the_hub_is_read_split_by_split(hub, cache, streaming):
    rows = rows_of(cache, streaming=streaming)
    assert [(row.values, row.file, row.number) for row in rows] == [
        ({"instruction": f"question {n}", "output": f"{n}"}, "org/questions", n + 1) for n in range(6)
    ]
    assert len(rows_of(cache, "test", streaming)) == 1
    assert "Bearer hf_operators" in {token for _, _, token in hub.asked}


@pytest.mark.parametrize("streaming", [False, True])
def test_a_job_s_own_token_goes_before_the_operators(hub, cache, streaming):
    own = replace(cache, token="hf_jobs")
    assert len(rows_of(own, streaming=streaming)) == 6
    commit(own, "it", DatasetEntry(hf_hub_url="org/questions"))
    told = {token for _, _, token in hub.asked}
    assert "Bearer hf_jobs" in told
    assert "Bearer hf_operators" not in told


def test_a_subset_and_a_folder_are_those_of_the_entry(hub, cache):
    configs = "---\nconfigs:\n- config_name: easy\n  data_files: a.jsonl\n- config_name: hard\n  data_files: b.jsonl\n---\n"
    hub.add("org/levels", README__md=configs, a__jsonl='{"text": "easy"}', b__jsonl='{"text": "hard"}')
    assert [row.values["text"] for row in rows_of(cache, hf_hub_url="org/levels", subset="hard")] == ["hard"]
    hub.repositories["org/folders"] = {"en/train.jsonl": b'{"text": "en"}', "de/train.jsonl": b'{"text": "de"}'}
    assert [row.values["text"] for row in rows_of(cache, hf_hub_url="org/folders", folder="de")] == ["de"]


def test_what_was_fetched_is_not_fetched_again(hub, cache):
    def fetched():
        return sum(method == "GET" and "/resolve/" in path for method, path, _ in hub.asked)

    first = rows_of(cache)
    once = fetched()
    assert once
    assert rows_of(cache) == first
    assert fetched() == once
    assert cache.cache.is_dir()


def test_a_stream_fetches_as_it_is_read(hub, cache):
    rows = hub_rows(cache, "it", DatasetEntry(hf_hub_url="org/questions"), "train", streaming=True)
    assert hub.asked == []
    assert next(rows).number == 1
    assert not cache.cache.exists() or not any(cache.cache.rglob("*.arrow"))


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("entry", "split", "reason", "says"),
    [
        (
            {"hf_hub_url": "org/nothing"},
            "train",
            Reason.MISSING_DATA,
            "(org/nothing) is not on the hub, or is not open to this worker",
        ),
        ({"hf_hub_url": "org/code"}, "train", Reason.BAD_DATA, "org/code is a script, which would run its code"),
        ({}, "validation", Reason.BAD_DATA, "org/questions cannot be read: "),
        ({"subset": "hard"}, "train", Reason.BAD_DATA, "org/questions cannot be read: "),
        ({"hf_hub_url": "org/broken"}, "train", Reason.BAD_DATA, "org/broken cannot be read: "),
        ({"hf_hub_url": None, "script_url": "x"}, "train", Reason.BAD_DATA, "scripts are not run"),
        ({"hf_hub_url": None, "ms_hub_url": "ms/set"}, "train", Reason.BAD_DATA, "where USE_MODELSCOPE_HUB=1"),
    ],
)
def test_what_cannot_be_fetched_is_said_in_a_sentence(hub, cache, entry, split, reason, says, streaming):
    hub.add("org/code", code__py="raise SystemExit('this ran')")
    hub.add("org/broken", train__jsonl="not json")
    failure = refusal(cache, split, streaming, **entry)
    assert failure.reason == reason
    assert says in failure.sentence
    assert "\n" not in failure.sentence


def test_a_hub_that_does_not_answer_is_said_to_be_out_of_reach(hub, cache, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", "http://127.0.0.1:9")
    failure = refusal(cache)
    assert failure.reason == Reason.MISSING_DATA
    assert "org/questions could not be fetched from the hub: " in failure.sentence


def test_no_hub_is_asked_where_the_operator_does_not_let_it(hub):
    failure = refusal(None)
    assert (failure.reason, "FINEBITS_HUB=1" in failure.sentence) == (Reason.BAD_DATA, True)
    assert hub.asked == []


def test_modelscope_is_asked_where_the_operator_says_so(hub, tmp_path, monkeypatch):
    asked = []

    class MsDataset:
        @staticmethod
        def load(name, **arguments):
            asked.append((name, arguments))
            return datasets.Dataset.from_list([{"text": "from modelscope"}])

    entry = {"ms_hub_url": "ms/set", "subset": "easy"}
    there = Hub(tmp_path / "cache", modelscope=True)
    assert "does not have modelscope installed" in refusal(there, **entry).sentence
    monkeypatch.setitem(sys.modules, "modelscope", types.SimpleNamespace(MsDataset=MsDataset))
    assert [(row.values, row.file) for row in rows_of(there, **entry)] == [({"text": "from modelscope"}, "ms/set")]
    ((name, arguments),) = asked
    assert (name, arguments["subset_name"], arguments["split"], arguments["trust_remote_code"]) == (
        "ms/set",
        "easy",
        "train",
        False,
    )
    assert len(rows_of(there)) == 6, "what is on the other hub only is taken from there"


def test_a_data_set_on_the_hub_is_trained_and_kept_by_its_commit(hub, cache, tmp_path, tokenizer):
    (tmp_path / "data").mkdir()
    info = {"questions": {"hf_hub_url": "org/questions"}}
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps(info))
    arguments = DataArguments(dataset="questions", template="default", cache_path="mine", val_size=1)
    wanted = Wanted("sft", arguments, MeasureArguments(), seed=1)
    places = Places(tmp_path, tmp_path / "cache", cache)
    prepared = load.load_supervised(places, wanted, tokenizer)
    assert (len(prepared.train), len(prepared.evaluation)) == (5, 1)
    assert commit(cache, "questions", DatasetEntry(hf_hub_url="org/questions")) == COMMIT
    again = load.load_supervised(places, wanted, tokenizer)
    assert again.train == prepared.train
    assert "are taken" in again.notices[-1]


# -- what a repository says of itself ------------------------------------------------------------------------------------


@pytest.fixture
def trap():
    """The address of something in this host's own network. Fails the test when it was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
    assert asked == []


ELSEWHERE = {
    "a file of this host": "  data_files: {here}/secret.jsonl",
    "its URL": "  data_files: file://{here}/secret.jsonl",
    "a folder of this host": "  data_dir: {here}",
    "an address in its network": "  data_files: {trap}/latest/meta-data.jsonl",
    "a file in an archive there": "  data_files: zip://a.jsonl::{trap}/a.zip",
    "another repository": "  data_files: hf://datasets/org/private/train.jsonl",
    "another repository, from its own": "  data_files: ../private@main/train.jsonl",
    "one of several files": "  data_files:\n  - a.jsonl\n  - {here}/secret.jsonl",
    "a split's": "  data_files:\n  - split: train\n    path: {trap}/a.jsonl",
}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_repository_s_files_are_its_own_whatever_its_readme_says(hub, cache, trap, tmp_path, name, streaming):
    (tmp_path / "secret.jsonl").write_text('{"text": "the operator\'s own words"}')
    hub.add("org/private", train__jsonl='{"text": "of those who have a token"}')
    config = ELSEWHERE[name].format(here=tmp_path, trap=trap)
    hub.add("org/evil", README__md=f"---\nconfigs:\n- config_name: default\n{config}\n---\n", a__jsonl='{"text": "a"}')
    failure = refusal(cache, "train", streaming, hf_hub_url="org/evil")
    assert (failure.reason, "no file of its own" in failure.sentence) == (Reason.BAD_DATA, True)


def test_a_readme_names_its_own_files_in_every_way_there_is(hub, cache):
    split = "  data_files:\n  - split: train\n    path: [b.jsonl, 'parts/*.jsonl']"
    for n, config in enumerate(("  data_files: b.jsonl", "  data_files: '*.jsonl'", "  data_dir: parts", split)):
        files = {"README.md": f"---\nconfigs:\n- config_name: default\n{config}\n---\n", "b.jsonl": '{"text": "b"}'}
        files["parts/c.jsonl"] = '{"text": "c"}'
        hub.repositories[f"org/own{n}"] = {file: text.encode() for file, text in files.items()}
        assert {row.values["text"] for row in rows_of(cache, hf_hub_url=f"org/own{n}")} <= {"b", "c"}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", ["image", "audio", "video", "pdf"])
def test_a_column_that_says_it_is_pictures_opens_nothing(hub, cache, trap, kind, streaming):
    """The library would fetch the URL, or open the file, that stands there."""
    readme = f"---\ndataset_info:\n  features:\n  - name: text\n    dtype: {kind}\n  - name: note\n    dtype: string\n---\n"
    rows = "\n".join(json.dumps({"text": there, "note": "a"}) for there in (f"{trap}/a.png", "/etc/passwd"))
    hub.add(f"org/{kind}", README__md=readme, a__jsonl=rows)
    found = [row.values for row in rows_of(cache, streaming=streaming, hf_hub_url=f"org/{kind}")]
    assert [values["note"] for values in found] == ["a", "a"]
    assert "root:" not in str(found)


def test_pictures_within_a_column_are_refused(hub, cache, trap):
    readme = "---\ndataset_info:\n  features:\n  - name: text\n    list: image\n---\n"
    hub.add("org/album", README__md=readme, a__jsonl=json.dumps({"text": [f"{trap}/a.png"]}))
    assert "images or sounds within its column 'text'" in refusal(cache, hf_hub_url="org/album").sentence


def test_what_is_said_of_a_repository_that_is_not_there_has_no_folder_of_this_host(hub, cache, monkeypatch):
    def load_dataset(repository, **arguments):
        raise FileNotFoundError(f"Couldn't find any data file at {Path.cwd()}/{repository}.")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    sentence = refusal(cache, hf_hub_url="org/away").sentence
    assert sentence.endswith("Couldn't find any data file at org/away.")
