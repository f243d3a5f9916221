"""A hub on loopback: what is asked of it, and what is made of its answers."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from service.specs.reasons import Reason
from tests.worker.stages.attempts import Host, a_job
from worker.failures import JobFailure
from worker.models.hub import fetched

TOKEN = "hf_secret"


class FakeHub:
    """Repositories by name: {revision: (commit, {file: bytes})}. `asked` holds (path, token) of every request."""

    def __init__(self):
        self.repositories = {}
        self.private = set()
        self.asked = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self):
                self.answer(with_body=False)

            def do_GET(self):
                self.answer(with_body=True)

            def answer(self, with_body):
                token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
                hub.asked.append((self.path, token))
                status, headers, body = hub.reply(self.path.split("?")[0], token)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if with_body:
                    self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def add(self, name, revision, commit, files):
        self.repositories.setdefault(name, {})[revision] = (commit, files)
        self.repositories[name][commit] = (commit, files)

    def reply(self, path, token):
        api = path.startswith("/api/models/")
        name = next((name for name in self.repositories if path.removeprefix("/api/models").startswith(f"/{name}/")), None)
        if name is None or (name in self.private and token != TOKEN):
            return 401, {"X-Error-Code": "RepoNotFound"}, b""
        rest = path.removeprefix("/api/models").removeprefix(f"/{name}/")
        kind, _, rest = rest.partition("/")
        revision, _, file = rest.partition("/")
        found = self.repositories[name].get(revision)
        if found is None:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        commit, files = found
        if api and kind == "tree":
            return 200, JSON, json.dumps([entry(name, body) for name, body in files.items()]).encode()
        if api:
            siblings = [{"rfilename": name} for name in files]
            return 200, JSON, json.dumps({"id": name, "sha": commit, "siblings": siblings, "private": False}).encode()
        if file not in files:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, b""
        body = files[file]
        return 200, {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha1(body).hexdigest()}"'}, body


JSON = {"Content-Type": "application/json"}


def entry(name, body):
    return {"type": "file", "path": name, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}


@pytest.fixture
def hub(monkeypatch):
    hub = FakeHub()
    threading.Thread(target=hub.server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    yield hub
    hub.server.shutdown()
    hub.server.server_close()


COMMITS = ("a" * 40, "b" * 40)


@pytest.fixture
def host(tmp_path, make_llama, tokenizer_folder):
    return Host(tmp_path, make_llama, tokenizer_folder)


def files_of(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def stocked(hub, host):
    """The tiny model on the hub as org/tiny, with code beside it that nobody wants."""
    hub.add("org/tiny", "main", COMMITS[0], files_of(host.models / "tiny") | {"modeling.py": b"raise SystemExit"})
    return hub


def names(folder):
    return {file.name for file in folder.iterdir()}


def test_a_model_is_fetched_under_its_name_and_commit_without_its_code(stocked, host):
    folder = fetched("org/tiny", "main", host.root / "cache", None)
    assert folder.name == "tiny@aaaaaaaa"
    assert folder.is_relative_to(host.root / "cache")
    assert names(folder) == names(host.models / "tiny")
    assert (folder / "model.safetensors").read_bytes() == (host.models / "tiny" / "model.safetensors").read_bytes()
    assert {token for _, token in stocked.asked} == {""}, "the worker's own token is not lent"


def test_bin_weights_are_fetched_only_where_there_are_no_safetensors(stocked, host):
    config = {"config.json": b"{}"}
    stocked.add("old", "main", COMMITS[0], config | {"pytorch_model.bin": b"old"})
    stocked.add("both", "main", COMMITS[0], config | {"pytorch_model.bin": b"old", "model.safetensors": b"new"})
    assert names(fetched("old", "main", host.root / "cache", None)) == {"config.json", "pytorch_model.bin"}
    assert names(fetched("both", "main", host.root / "cache", None)) == {"config.json", "model.safetensors"}


def test_the_revision_is_the_one_asked_for(stocked, host):
    stocked.add("org/tiny", "v2", COMMITS[1], {"config.json": b"{}", "model.safetensors": b"2"})
    folder = fetched("org/tiny", "v2", host.root / "cache", None)
    assert (folder.name, (folder / "model.safetensors").read_bytes()) == ("tiny@bbbbbbbb", b"2")


def test_a_later_attempt_stays_with_the_commit_of_the_first(stocked, host):
    first = fetched("org/tiny", "main", host.root / "cache", None)
    stocked.add("org/tiny", "main", COMMITS[1], {"config.json": b"{}", "model.safetensors": b"2"})
    assert fetched("org/tiny", "main", host.root / "cache", None, pinned=True) == first
    assert fetched("org/tiny", "main", host.root / "cache", None).name == "tiny@bbbbbbbb"


def test_a_private_model_needs_the_jobs_token(stocked, host):
    stocked.private.add("org/tiny")
    assert refusal("org/tiny", host).endswith("or it is private and hf_hub_token does not open it.")
    assert fetched("org/tiny", "main", host.root / "cache", TOKEN).name == "tiny@aaaaaaaa"


def refusal(name, host, revision="main"):
    with pytest.raises(JobFailure) as caught:
        fetched(name, revision, host.root / "cache", None)
    assert caught.value.reason == Reason.UNREACHABLE_HUB
    assert "http" not in caught.value.sentence
    return caught.value.sentence


def test_what_is_not_there_is_refused_by_name(stocked, host):
    assert refusal("org/nobody", host).startswith("There is no model 'org/nobody' on the hub")
    assert refusal("org/tiny", host, "v9") == "The model 'org/tiny' has no revision 'v9' on the hub."


@pytest.mark.filterwarnings("ignore")
def test_a_hub_that_does_not_answer_is_a_refusal(stocked, host):
    stocked.server.shutdown()
    stocked.server.server_close()
    assert "could not be fetched from the hub" in refusal("org/tiny", host)


def at_hub(host, monkeypatch, tokens=None):
    """Work whose worker may reach hubs, and is given these tokens."""
    plain = host.work

    def work(*arguments):
        made = plain(*arguments)
        object.__setattr__(made, "hub", True)
        object.__setattr__(made, "tokens", tokens or {})
        return made

    monkeypatch.setattr(host, "work", work)


def test_a_job_trains_a_model_of_the_hub_with_its_cache_dir_and_hf_hub_token(stocked, host, monkeypatch):
    stocked.private.add("org/tiny")
    stocked.add("org/tiny", "v2", COMMITS[1], files_of(host.models / "tiny"))
    at_hub(host, monkeypatch, {"sft": TOKEN})
    job = a_job(model={"model_name_or_path": "org/tiny", "model_revision": "v2", "cache_dir": "mine"}, training={"max_steps": 1})
    attempt = host.done(job)
    assert {token for _, token in stocked.asked} == {TOKEN}
    assert (host.root / "cache" / "mine" / "named" / "org" / "tiny@bbbbbbbb").is_dir()
    config = json.loads((host.folder(attempt) / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "org/tiny"
    assert attempt.losses() == host.done(a_job(training={"max_steps": 1})).losses()


def test_what_lies_in_the_models_folder_is_not_asked_for(stocked, host, monkeypatch):
    at_hub(host, monkeypatch)
    host.done(a_job(training={"max_steps": 1}, measures={"names": ""}))
    assert stocked.asked == []


def test_without_the_operators_word_no_hub_is_reached(stocked, host):
    error = host.attempt(a_job(model={"model_name_or_path": "org/tiny"})).error
    assert error.reason == Reason.MISSING_MODEL
    assert stocked.asked == []
