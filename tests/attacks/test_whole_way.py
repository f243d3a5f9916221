"""Hostile files on their whole way: named by a job over HTTP, taken by a real service, and opened by a real worker.

The worker is told to rest, every job is sent while what it names is good, the files are exchanged, and the worker is told to go
on: so nothing that the service looks at stands between an attack and the process that opens the file.
"""

import json
import os
import pickle
import shutil
import stat
import struct
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pyarrow
import pyarrow.parquet
import pytest
from pydantic import SecretStr

from service.embedded import running
from service.settings import Settings
from tests.attacks.family import Family, record
from tests.attacks.house import KEY, SECRET
from tests.attacks.test_pickles import FILES, PICKLES, SAFETENSORS, _saved, lying, zipped
from tests.fake_hub import fake_hub
from worker import checkpoints

pytestmark = [pytest.mark.slow, pytest.mark.long]

FAMILY = Family(
    name="Hostile files, their whole way",
    tried="jobs over HTTP, done by a real worker, whose model, adapter, value head, data set, upload, archive of a benchmark, "
    "checkpoint or hub became, once they were taken: pickles of six kinds, safetensors that lie about lengths and offsets, links "
    "to elsewhere, code that a model names, a template that reaches for the interpreter, archives that climb, hold links, lie or "
    "are bombs, rows too deep, a repository whose files lie on this host; the state of a paused job, with a manifest to fit",
    promise="no canary is there and nothing outside is read; the job fails with a reason and a sentence; the worker goes on",
    found=(
        "A data set of a hub could name files anywhere in the worker's network, and pictures and sounds by address, which were "
        "asked for before they were refused, or opened: its files are its own, and no column is decoded.",
        "A paused job whose optimizer's state had become a pickle failed with internal_error and the advice to run it: it fails "
        "with bad_model.",
    ),
)

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
API_KEY = "an-operators-key-of-some-length"
ENDS = ("succeeded", "failed", "cancelled")
ROWS = [{"instruction": f"Add {n} and 1.", "input": "", "output": str(n + 1)} for n in range(12)]


class Payload:
    """Touches the canary when it is unpickled."""

    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.canary}",)


@dataclass
class World:
    """The operator's folders, and what an attacker has put into them. `outside` is what no job may read."""

    root: Path
    http: httpx2.Client = field(default_factory=httpx2.Client)
    fates: dict[str, Any] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def datasets(self) -> Path:
        return self.root / "datasets"

    @property
    def outside(self) -> Path:
        return self.root / "outside"

    @property
    def canary(self) -> Path:
        return self.root / "canary"

    def ask(self, method: str, path: str, **options: Any) -> Any:
        response = self.http.request(method, path, **options)
        record(FAMILY).note(response.status_code)
        assert response.is_success, (path, response.text)
        return response.json()

    def model(self, name: str) -> Path:
        return Path(shutil.copytree(EXAMPLES / "models" / "tiny-llama", self.models / name))


Job = dict[str, Any]


@dataclass(frozen=True)
class Attack:
    """`prepare` makes what is named, while it is good, and gives the job; `strike` exchanges it. `reasons`: how the job may fail;
    None where what was done has no effect, and it succeeds.
    """

    prepare: Callable[[World, str], Job]
    strike: Callable[[World, str], object]
    reasons: tuple[str, ...] | None


def a_job(named: str = "tiny-llama", **groups: Any) -> Job:
    document: Job = {
        "model": {"model_name_or_path": named},
        "data": {"dataset": "sums", "template": "alpaca", "cutoff_len": 64, "val_size": 0},
        "finetuning": {"lora_rank": 2},
        "training": {"per_device_train_batch_size": 2, "max_steps": 1, "save_steps": 1},
        "measures": {"names": ""},
        "resources": {"gpus": 0},
    }
    return {**document, **{name: {**document.get(name, {}), **values} for name, values in groups.items()}}


def hostile(world: World, kind: str) -> bytes:
    """A pickle of that kind, whose canary is this world's."""
    payload = Payload(world.canary)
    made: dict[str, Callable[[], bytes]] = {
        "plain": lambda: pickle.dumps(payload),
        "torch's": lambda: _saved({"weight": payload}),
        "torch's old": lambda: _saved({"weight": payload}, old=True),
        "in a zip": lambda: zipped("archive/data.pkl", pickle.dumps(payload)),
        "behind a module": lambda: b"cposix\nsystem\n(S'touch %b'\ntR." % str(world.canary).encode(),
        "behind a global that is allowed": PICKLES["behind a global that is allowed"],
    }
    assert made.keys() == PICKLES.keys()
    return made[kind]()


# -- models --------------------------------------------------------------------------------------------------------------


def own_model(world: World, name: str) -> Job:
    world.model(name)
    return a_job(name)


def weights_become(kind: str) -> Callable[[World, str], object]:
    def strike(world: World, name: str) -> None:
        (world.models / name / "model.safetensors").unlink()
        (world.models / name / "pytorch_model.bin").write_bytes(hostile(world, kind))

    return strike


def safetensors_become(kind: str) -> Callable[[World, str], object]:
    return lambda world, name: (world.models / name / "model.safetensors").write_bytes(lying(kind))


def code_is_named(world: World, name: str) -> None:
    folder = world.models / name
    (folder / "evil.py").write_text(f"open({str(world.canary)!r}, 'w')")
    for file, named in (
        (
            "config.json",
            {"auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}, "attn_implementation": "x/kernel"},
        ),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.T", None]}}),
    ):
        (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | named))


def shards_are_elsewhere(world: World, name: str) -> None:
    file = world.models / name / "model.safetensors"
    file.rename(world.outside / f"{name}.safetensors")
    index = {"metadata": {}, "weight_map": {"model.embed_tokens.weight": f"../../outside/{name}.safetensors"}}
    (world.models / name / "model.safetensors.index.json").write_text(json.dumps(index))


def folder_becomes_a_link(world: World, name: str) -> None:
    (world.models / name).rename(world.outside / name)
    (world.models / name).symlink_to(world.outside / name)


def template_reaches(world: World, name: str) -> None:
    file = world.models / name / "tokenizer_config.json"
    reaching = f"cycler.__init__.__globals__.os.system('touch {world.canary}')"
    template = "{{ " + reaching + " }}{{ messages[0].content }}"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"chat_template": template}))


def with_its_own_template(world: World, name: str) -> Job:
    world.model(name)
    file = world.models / name / "tokenizer_config.json"
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"chat_template": template}))
    return a_job(name, data={"template": "tokenizer"})


def own_adapter(world: World, name: str) -> Job:
    folder = world.models / name
    shutil.copytree(world.outside / "an-adapter", folder)
    return a_job(model={"adapter_name_or_path": name}) | {"finetuning": {}}


def adapter_becomes(kind: str) -> Callable[[World, str], object]:
    def strike(world: World, name: str) -> None:
        (world.models / name / "adapter_model.safetensors").unlink()
        (world.models / name / "adapter_model.bin").write_bytes(hostile(world, kind))

    return strike


def own_head(world: World, name: str) -> Job:
    (world.model(name) / "value_head.bin").write_bytes(_saved({"v_head.summary.weight": 0}))
    ppo = {"stage": "ppo", "reward_model": name, "reward_model_type": "full", "ppo_buffer_size": 1}
    return a_job(finetuning=ppo, generating={"max_new_tokens": 4})


def head_becomes(kind: str) -> Callable[[World, str], object]:
    return lambda world, name: (world.models / name / "value_head.bin").write_bytes(hostile(world, kind))


# -- data ----------------------------------------------------------------------------------------------------------------


def own_data(suffix: str) -> Callable[[World, str], Job]:
    def prepare(world: World, name: str) -> Job:
        file = world.datasets / "data" / f"{name}.{suffix}"
        if suffix == "parquet":
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), file)
        else:
            file.write_text(json.dumps(ROWS) if suffix == "json" else "\n".join(map(json.dumps, ROWS)))
        listed = world.datasets / "data" / "dataset_info.json"
        listed.write_text(json.dumps(json.loads(listed.read_text()) | {name: {"file_name": file.name}}))
        return a_job(data={"dataset": name})

    return prepare


def data_becomes(suffix: str, kind: str) -> Callable[[World, str], object]:
    return lambda world, name: (world.datasets / "data" / f"{name}.{suffix}").write_bytes(
        pickle.dumps(Payload(world.canary)) if kind == "a pickle" else FILES[kind]
    )


def rows_become_a_link(world: World, name: str) -> None:
    file = world.datasets / "data" / f"{name}.json"
    file.unlink()
    file.symlink_to(world.outside / "rows.json")


def type_calls(world: World, name: str) -> None:
    """A Parquet whose metadata hold a pickle, which pyarrow once opened."""
    pickled = pickle.dumps(Payload(world.canary))
    metadata = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": pickled}
    text = pyarrow.string()
    schema = pyarrow.schema([pyarrow.field("instruction", text, metadata=metadata), ("input", text), ("output", text)])
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS, schema), world.datasets / "data" / f"{name}.parquet")


def own_upload(world: World, name: str) -> Job:
    rows = "\n".join(map(json.dumps, ROWS))
    made = world.ask("PUT", f"/datasets/{name}", params={"file_name": f"{name}.jsonl"}, content=rows)
    return a_job(data={"dataset": f"{name}@{made['version']}"})


def kept(world: World, name: str) -> Path:
    [file] = [path for path in (world.root / "artifacts").rglob(f"{name}.jsonl")]
    return file


def upload_becomes_a_link(world: World, name: str) -> None:
    file = kept(world, name)
    file.unlink()
    file.symlink_to(world.outside / "rows.jsonl")


def upload_becomes_a_pickle(world: World, name: str) -> None:
    kept(world, name).write_bytes(pickle.dumps(Payload(world.canary)))


def own_benchmark(world: World, name: str) -> Job:
    folder = world.datasets / "evaluation" / name
    folder.mkdir(parents=True)
    shutil.copy(EXAMPLES / "evaluation" / "primer" / "mapping.json", folder)
    with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
        for file in sorted((EXAMPLES / "evaluation" / "primer").rglob("*.csv")):
            archive.write(file, str(file.relative_to(EXAMPLES / "evaluation" / "primer")))
    job = a_job() | {"do": "evaluate", "evaluation": {"task": name, "n_shot": 0, "batch_size": 8}, "data": {"cutoff_len": 1024}}
    return {name: job[name] for name in ("do", "model", "data", "evaluation", "resources")}


def archive_gets(member: str, content: bytes = b"q,a,b,c,d,A\n", attributes: int = 0) -> Callable[[World, str], object]:
    def strike(world: World, name: str) -> None:
        entry = zipfile.ZipInfo(member)
        entry.external_attr = attributes << 16
        entry.compress_type = zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(world.datasets / "evaluation" / name / f"{name}.zip", "a") as archive:
            archive.writestr(entry, content)

    return strike


def archive_lies(world: World, name: str) -> None:
    """A member that says it is small, and is 200 MB."""
    file = world.datasets / "evaluation" / name / f"{name}.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("test/arguments_test.csv", b"0" * 200_000_000)
    content, true = file.read_bytes(), struct.pack("<I", 200_000_000)
    assert content.count(true) == 2
    file.write_bytes(content.replace(true, struct.pack("<I", 1000)))


def hub_data(world: World, name: str) -> Job:
    listed = world.datasets / "data" / "dataset_info.json"
    listed.write_text(json.dumps(json.loads(listed.read_text()) | {name: {"hf_hub_url": f"someone/{name}"}}))
    return a_job(data={"dataset": name})


def nothing(world: World, name: str) -> None:
    """It was so from the beginning."""


# -- checkpoints ---------------------------------------------------------------------------------------------------------


def of_an_earlier_job(world: World, name: str) -> Job:
    """Each attack has an earlier job of its own, which is done before the worker rests."""
    job_id = world.fates[f"earlier {name}"]["id"]
    return a_job(model={"adapter_name_or_path": f"{job_id}/sft/1"}) | {"finetuning": {}}


def folder_of(world: World, name: str) -> Path:
    job_id = world.fates[f"earlier {name}"]["id"]
    [manifest] = (world.root / "artifacts" / job_id).rglob("checkpoint-1/manifest.json")
    return manifest.parent


def checkpoint_becomes(kind: str) -> Callable[[World, str], object]:
    """With a manifest that says it was so, as whoever can write there would make it."""

    def strike(world: World, name: str) -> None:
        folder = folder_of(world, name)
        (folder / "adapter_model.safetensors").unlink()
        (folder / "adapter_model.bin").write_bytes(hostile(world, kind))
        checkpoints.seal(folder)

    return strike


def checkpoint_becomes_a_link(world: World, name: str) -> None:
    folder = folder_of(world, name)
    (folder / "adapter_model.safetensors").rename(world.outside / f"{name}.safetensors")
    (folder / "adapter_model.safetensors").symlink_to(world.outside / "rows.json")


def paused_job(world: World, name: str) -> Job:
    raise NotImplementedError(name)


def state_becomes(kind: str) -> Callable[[World, str], object]:
    """Of a job that was paused: what its optimizer, its scheduler and its random numbers go on from."""

    def strike(world: World, name: str) -> None:
        job_id = world.fates[f"paused {name}"]["id"]
        found = sorted((world.root / "artifacts" / job_id).rglob("manifest.json"))
        assert found
        for manifest in found:
            for file in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
                if (manifest.parent / file).exists():
                    (manifest.parent / file).write_bytes(hostile(world, kind))
            checkpoints.seal(manifest.parent)
        world.ask("POST", f"/jobs/{job_id}/resume")

    return strike


BAD_MODEL = ("bad_model", "missing_model")
BAD_DATA = ("bad_data", "bad_row", "missing_data")
A_FILE_OF_LINKS = stat.S_IFLNK | 0o777

ATTACKS: dict[str, Attack] = {
    **{f"weights: {kind}": Attack(own_model, weights_become(kind), BAD_MODEL) for kind in PICKLES},
    **{f"safetensors: {kind}": Attack(own_model, safetensors_become(kind), BAD_MODEL) for kind in SAFETENSORS},
    **{f"an adapter: {kind}": Attack(own_adapter, adapter_becomes(kind), BAD_MODEL) for kind in ("plain", "torch's")},
    **{f"a value head: {kind}": Attack(own_head, head_becomes(kind), BAD_MODEL) for kind in ("plain", "torch's")},
    "shards elsewhere": Attack(own_model, shards_are_elsewhere, BAD_MODEL),
    "a model that became a link": Attack(own_model, folder_becomes_a_link, BAD_MODEL),
    "code that a model names": Attack(own_model, code_is_named, None),
    "a chat template": Attack(with_its_own_template, template_reaches, (*BAD_MODEL, *BAD_DATA)),
    **{f"rows of JSON: {kind}": Attack(own_data("json"), data_becomes("json", kind), BAD_DATA)
       for kind in ("a pickle", "deep JSON", "a bomb of gzip", "numpy's pickle", "torch's pickle")},
    **{f"rows of Parquet: {kind}": Attack(own_data("parquet"), data_becomes("parquet", kind), BAD_DATA)
       for kind in ("a pickle", "half of a Parquet")},
    "rows that became a link": Attack(own_data("json"), rows_become_a_link, BAD_DATA),
    "a type of Parquet that calls": Attack(own_data("parquet"), type_calls, None),
    "an upload that became a link": Attack(own_upload, upload_becomes_a_link, BAD_DATA),
    "an upload that became a pickle": Attack(own_upload, upload_becomes_a_pickle, BAD_DATA),
    "an archive that climbs": Attack(own_benchmark, archive_gets("../../../../canary"), BAD_DATA),
    "an archive with a link": Attack(own_benchmark, archive_gets("test/a_test.csv", b"/etc/passwd", A_FILE_OF_LINKS), BAD_DATA),
    "an archive that is a bomb": Attack(own_benchmark, archive_gets("test/a_test.csv", b"0" * 200_000_000), BAD_DATA),
    "an archive that lies about its length": Attack(own_benchmark, archive_lies, BAD_DATA),
    "a repository of files elsewhere": Attack(hub_data, nothing, BAD_DATA),
    **{f"a checkpoint: {kind}": Attack(of_an_earlier_job, checkpoint_becomes(kind), BAD_MODEL) for kind in ("plain", "torch's")},
    "a checkpoint that became a link": Attack(of_an_earlier_job, checkpoint_becomes_a_link, BAD_MODEL),
    **{f"a paused job's state: {kind}": Attack(paused_job, state_becomes(kind), BAD_MODEL) for kind in ("plain", "torch's")},
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """After everything: each attack has its fate."""
    made = World(tmp_path_factory.mktemp("whole-way"))
    _furnish(made)
    with pytest.MonkeyPatch.context() as environment, fake_hub() as hub:
        environment.setenv("HF_ENDPOINT", hub.url)
        readme = f"---\nconfigs:\n- config_name: default\n  data_files: {made.outside}/rows.jsonl\n---\n"
        hub.add(f"someone/{slug('a repository of files elsewhere')}", README__md=readme, a__jsonl="{}")
        settings = Settings(
            home=made.root,
            port=0,
            models_root=made.models,
            datasets_root=made.datasets,
            secret_key=KEY,
            api_key=SecretStr(API_KEY),
            hub=True,
            rate_limit=0,
        )
        with running(settings) as service, httpx2.Client(base_url=service.url, timeout=120) as made.http:
            made.http.headers["authorization"] = f"Bearer {API_KEY}"
            _play(made)
            service.check()
    return made


def slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name).strip("-")


def _furnish(world: World) -> None:
    for folder in (world.models, world.datasets / "data", world.outside):
        folder.mkdir(parents=True)
    world.model("tiny-llama")
    secret = [{"instruction": SECRET, "output": SECRET}] * 10
    (world.outside / "rows.json").write_text(json.dumps(secret))
    (world.outside / "rows.jsonl").write_text("\n".join(map(json.dumps, secret)))
    (world.datasets / "data" / "sums.json").write_text(json.dumps(ROWS))
    (world.datasets / "data" / "dataset_info.json").write_text(json.dumps({"sums": {"file_name": "sums.json"}}))


def _play(world: World) -> None:
    _live_before(world)
    [worker] = [one["name"] for one in world.ask("GET", "/workers")["data"]]
    world.ask("POST", f"/workers/{worker}/drain")
    for name, attack in ATTACKS.items():
        world.fates[name] = (
            world.fates[f"paused {slug(name)}"]
            if attack.prepare is paused_job
            else world.ask("POST", "/jobs", json=attack.prepare(world, slug(name)) | {"name": slug(name)})
        )
    for name, attack in ATTACKS.items():
        attack.strike(world, slug(name))
    last = world.ask("POST", "/jobs", json=a_job())
    world.ask("POST", f"/workers/{worker}/undrain")
    for name in ATTACKS:
        world.fates[name] = _ended(world, world.fates[name]["id"])
        world.logs[name] = world.http.get(f"/jobs/{world.fates[name]['id']}/logs").text
    world.fates["the next job"] = _ended(world, last["id"])
    [same] = world.ask("GET", "/workers")["data"]
    assert same["name"] == worker


def _live_before(world: World) -> None:
    """Jobs that are over, or paused, before there is an attack; and an adapter that is good."""
    paused = [slug(name) for name, attack in ATTACKS.items() if attack.prepare is paused_job]
    earlier = [slug(name) for name, attack in ATTACKS.items() if attack.prepare is of_an_earlier_job]
    for name in paused:
        long = a_job(training={"max_steps": 5000, "save_steps": 1, "save_total_limit": 1})
        job = world.fates[f"paused {name}"] = world.ask("POST", "/jobs", json=long)
        _wait(world, job["id"], lambda job: job["state"] == "running" and ((job["progress"] or {}).get("global_step") or 0) > 1)
        world.ask("POST", f"/jobs/{job['id']}/pause")
        _wait(world, job["id"], lambda job: job["state"] == "paused")
    for name in earlier:
        world.fates[f"earlier {name}"] = _ended(world, world.ask("POST", "/jobs", json=a_job())["id"])
        assert world.fates[f"earlier {name}"]["state"] == "succeeded"
    shutil.copytree(folder_of(world, earlier[0]), world.outside / "an-adapter")


def _ended(world: World, job_id: str) -> Any:
    return _wait(world, job_id, lambda job: job["state"] in ENDS)


def _wait(world: World, job_id: str, holds: Callable[[Any], bool], seconds: float = 600) -> Any:
    ends_at = time.monotonic() + seconds
    while not holds(job := world.http.get(f"/jobs/{job_id}").json()):
        assert time.monotonic() < ends_at, job
        time.sleep(0.2)
    return job


# -- what came of it -----------------------------------------------------------------------------------------------------


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ATTACKS)
def test_the_job_ends_as_it_should_and_says_why(world: World, name: str) -> None:
    job, reasons = world.fates[name], ATTACKS[name].reasons
    record(FAMILY).note(job["reason"] or job["state"])
    if reasons is None:
        assert job["state"] == "succeeded", job["sentence"]
        return
    assert job["state"] == "failed", job
    assert job["reason"] in reasons, job["sentence"]
    assert job["sentence"].endswith((".", "?"))
    assert "Traceback" not in job["sentence"]
    if name != "a repository of files elsewhere":  # which says such a path itself
        assert str(world.root) not in job["sentence"], "a path of this host's"


@pytest.mark.timeout(1800)
def test_nothing_was_run_and_nothing_outside_was_read(world: World) -> None:
    assert not world.canary.exists()
    assert not (world.datasets / "canary").exists()
    assert SECRET not in json.dumps(world.fates)
    assert not [name for name, log in world.logs.items() if SECRET in log]
    files = [path for path in (world.root / "artifacts").rglob("*") if path.is_file() and not path.is_symlink()]
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


@pytest.mark.timeout(1800)
def test_the_worker_goes_on_with_the_next_job(world: World) -> None:
    assert world.fates["the next job"]["state"] == "succeeded", world.fates["the next job"]["sentence"]
