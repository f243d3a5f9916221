"""Models of ModelScope, through a library that remembers what it was asked."""

import sys
import types
from pathlib import Path

import pytest

from service.specs.reasons import Reason
from tests.worker.stages.attempts import Host, a_job
from worker.failures import JobFailure
from worker.models.modelscope import fetched

TOKEN = "ms_verysecret"


class Refuses(Exception):
    """As its own errors: with the answer's status, and a text that has the address."""

    def __init__(self, status):
        super().__init__(f"{status} at https://modelscope.cn/api?token={TOKEN}")
        self.status_code = status


class FakeLibrary(types.ModuleType):
    """`repositories` are folders by name; `asked` holds the arguments of every call."""

    def __init__(self):
        super().__init__("modelscope")
        self.repositories = {}
        self.asked = []
        self.error = None

    def snapshot_download(self, name, **arguments):
        self.asked.append((name, arguments))
        if self.error is not None:
            raise self.error
        if name not in self.repositories:
            raise Refuses(404)
        snapshot = Path(arguments["cache_dir"]) / name / arguments["revision"]
        snapshot.mkdir(parents=True, exist_ok=True)
        for file in self.repositories[name].iterdir():
            if any(file.match(pattern) for pattern in arguments["allow_patterns"]):
                (snapshot / file.name).write_bytes(file.read_bytes())
        return str(snapshot)


@pytest.fixture
def host(tmp_path, make_llama, tokenizer_folder):
    return Host(tmp_path, make_llama, tokenizer_folder)


@pytest.fixture
def library(monkeypatch, host):
    library = FakeLibrary()
    library.repositories["org/tiny"] = host.models / "tiny"
    monkeypatch.setitem(sys.modules, "modelscope", library)
    return library


@pytest.fixture
def at_modelscope(library, host, monkeypatch):
    """A host whose operator has set FINEBITS_HUB and USE_MODELSCOPE_HUB, and whose jobs bring a token."""
    plain = host.work

    def work(*arguments):
        made = plain(*arguments)
        for name, value in {"hub": True, "modelscope": True, "tokens": {"sft": "hf_other", "sft/ms_hub_token": TOKEN}}.items():
            object.__setattr__(made, name, value)
        return made

    monkeypatch.setattr(host, "work", work)
    return host


def test_a_job_trains_a_model_of_modelscope_with_its_ms_hub_token(at_modelscope, library):
    groups = {"training": {"max_steps": 1}, "measures": {"names": ""}}
    job = a_job(model={"model_name_or_path": "org/tiny", "cache_dir": "mine", "model_revision": "v2"}, **groups)
    losses = at_modelscope.done(job).losses()
    assert {(name, asked["token"], asked["revision"]) for name, asked in library.asked} == {("org/tiny", TOKEN, "v2")}
    assert (at_modelscope.root / "cache" / "mine" / "named" / "org" / "tiny@v2" / "model.safetensors").is_file()
    assert losses == at_modelscope.done(a_job(**groups)).losses()
    assert len({name for name, _ in library.asked}) == 1, "what lies in the models folder is not asked for"


def test_main_is_master_there_and_the_worker_s_own_token_is_not_lent(library, tmp_path):
    folder = fetched("org/tiny", "main", tmp_path, None)
    ((_, asked),) = library.asked
    assert (folder.name, asked["revision"], asked["token"]) == ("tiny@master", "master", "")


def test_code_stays_there_and_bin_weights_come_only_where_there_are_no_safetensors(library, tmp_path):
    old = tmp_path / "old"
    old.mkdir()
    for name in ("config.json", "pytorch_model.bin", "modeling.py"):
        (old / name).write_text("{}")
    library.repositories["org/old"] = old
    assert {file.name for file in fetched("org/old", "main", tmp_path / "cache", None).iterdir()} == {
        "config.json",
        "pytorch_model.bin",
    }
    fetched("org/tiny", "main", tmp_path / "cache", None)
    assert not any("*.bin" in asked["allow_patterns"] for name, asked in library.asked if name == "org/tiny")


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (Refuses(404), "there is none of that name and revision, or it is private and ms_hub_token does not open it"),
        (Refuses(401), "ms_hub_token does not open it"),
        (Refuses(500), "could not be fetched from ModelScope: Refuses."),
        (OSError("no way there"), "could not be fetched from ModelScope: OSError."),
    ],
)
def test_what_cannot_be_fetched_is_said_without_token_or_address(library, tmp_path, error, part):
    library.error = error
    with pytest.raises(JobFailure) as caught:
        fetched("org/tiny", "main", tmp_path, TOKEN)
    assert caught.value.reason == Reason.UNREACHABLE_HUB
    assert part in caught.value.sentence
    assert TOKEN not in caught.value.sentence
    assert "http" not in caught.value.sentence


def test_a_full_disk_is_the_disk_s(library, tmp_path):
    library.error = OSError(28, "No space left on device")
    with pytest.raises(OSError, match="No space left"):
        fetched("org/tiny", "main", tmp_path, None)


def test_without_its_library_a_job_fails_with_what_brings_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "modelscope", None)
    with pytest.raises(JobFailure, match=r"pip install 'finebits\[modelscope\]'") as caught:
        fetched("org/tiny", "main", tmp_path, None)
    assert caught.value.reason == Reason.MISSING_LIBRARY
