"""Files that would run something, or fill the host, when they are opened: uploads, models, adapters, checkpoints."""

import ast
import gzip
import io
import json
import pickle
import shutil
import struct
import tarfile
import zipfile
from contextlib import suppress
from pathlib import Path

import pyarrow
import pyarrow.ipc
import pyarrow.parquet
import pytest
import torch
from jinja2 import TemplateError

from service.specs.dataset_info import DatasetEntry
from tests.attacks.family import Family, each, record
from tests.attacks.house import opened
from worker import checkpoints
from worker.data.files import read_rows
from worker.failures import JobFailure
from worker.models import value_head
from worker.models.loading import load_config, load_model, load_tokenizer
from worker.models.saved_adapters import SavedAdapter, _shapes

FAMILY = Family(
    name="Pickles, archives, code",
    tried="pickles in the place of weights, adapters, value heads, tokenizers, data sets and a checkpoint's files; archives that "
    "climb, links in archives, bombs of zip and gzip; Arrow and Parquet with types that call; code, kernels and shards elsewhere "
    "that a model names; templates that reach for the interpreter",
    promise="nothing is unpickled, unpacked, imported or run; the upload is refused, or the job fails with bad_model or bad_data",
    found=(
        "A model's index of shards could name files outside of its folder, which were read as its weights: a shard is a file "
        "beside the index.",
        "A model's config.json could name an attention kernel of a hub's, which is code: what a file says of that is not heeded.",
    ),
)

RAN = []


class Payload:
    def __reduce__(self):
        return RAN.append, ("it ran",)


@pytest.fixture(autouse=True)
def nothing_ran():
    RAN.clear()
    yield
    assert RAN == []


def archive_of_links():
    """A tar whose first member is a link, and whose second is written through it."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as tar:
        link = tarfile.TarInfo("a")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(link)
        tar.addfile(tarfile.TarInfo("a/passwd"), io.BytesIO(b""))
    return written.getvalue()


def zipped(name, content):
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return written.getvalue()


def numpys_pickle():
    head = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + pickle.dumps([Payload()])


ROW = b'{"instruction": "a", "output": "b"}\n'

FILES = {
    "a pickle": pickle.dumps([Payload()]),
    "a zip that climbs": zipped("../../../../tmp/pwned.jsonl", ROW),
    "a bomb of zip": zipped("a.jsonl", b"0" * 50_000_000),
    "a bomb of gzip": gzip.compress(b"0" * 50_000_000),
    "a tar with links": archive_of_links(),
    "numpy's pickle": numpys_pickle(),
    "torch's pickle": zipped("archive/data.pkl", pickle.dumps(Payload())),
    "half of a Parquet": b"PAR1" + b"\xff" * 100 + struct.pack("<I", 2**31 - 1) + b"PAR1",
    "an Arrow of no length": b"ARROW1\x00\x00" + b"\xff\xff\xff\xff" + struct.pack("<i", 2**31 - 1),
    "deep JSON": b"[" * 100_000,
    "a script": b"#!/bin/sh\ntouch /tmp/pwned\n",
}  # fmt: skip


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with opened(tmp_path_factory.mktemp("files"), FAMILY) as house:
        house.door.headers = house.bob
        yield house


@pytest.mark.parametrize("name", each(FILES, short=3))
def test_an_upload_is_opened_as_rows_of_text_or_not_at_all(house, name):
    before = house.outside()
    for suffix in ("jsonl", "json", "csv", "txt", "parquet", "arrow", "pkl", "npy", "zip", "tar.gz", "py", "pt", "jsonl.gz"):
        answer = house.door.put("/datasets/sent", params={"file_name": f"a.{suffix}"}, content=FILES[name])
        if suffix not in ("jsonl", "json", "csv", "txt", "parquet", "arrow"):
            assert answer.status_code == 422, (suffix, answer.text)
        if answer.is_success:  # what is wrong behind the first row is said by who looks at all
            looked = house.door.post(f"/datasets/sent@{answer.json()['version']}/validate")
            assert looked.status_code == 422 or looked.json()["faults"] or suffix in ("csv", "txt"), (suffix, looked.text)
        answer = house.door.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": (f"a.{suffix}", FILES[name])})
        assert answer.status_code == 422 or suffix == "txt", (suffix, answer.text)
    assert house.outside() == before
    assert not Path("/tmp/pwned").exists()
    assert not Path("/tmp/pwned.jsonl").exists()


def rows_of(folder, file):
    record(FAMILY).note("read by a worker")
    return list(read_rows(folder, "attack", DatasetEntry.model_validate({"file_name": file})))


@pytest.mark.parametrize("name", each(FILES, short=3))
@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet", "arrow"])
def test_a_worker_reads_rows_and_nothing_else(tmp_path, name, suffix):
    (tmp_path / f"a.{suffix}").write_bytes(FILES[name])
    with pytest.raises(JobFailure):
        rows_of(tmp_path, f"a.{suffix}")


def test_an_arrow_type_that_pickles_itself_is_plain_values(tmp_path):
    """pyarrow once unpickled what the metadata of such a type holds."""
    metadata = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": pickle.dumps(Payload())}
    schema = pyarrow.schema([pyarrow.field("text", pyarrow.string(), metadata=metadata)])
    table = pyarrow.table({"text": ["a"]}, schema=schema)
    with pyarrow.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, pyarrow.ipc.new_file(sink, schema) as writer:
        writer.write_table(table)
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    for file in ("a.arrow", "a.parquet"):
        assert [row.values for row in rows_of(tmp_path, file)] == [{"text": "a"}]


def test_a_feature_that_names_a_file_is_plain_values(tmp_path):
    """`datasets` would open the path of an image, or fetch its URL, when the row is read."""
    features = {"info": {"features": {"text": {"_type": "Image", "decode": True}}}}
    struct_type = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    schema = pyarrow.schema([("text", struct_type)], metadata={b"huggingface": json.dumps(features).encode()})
    table = pyarrow.table({"text": [{"bytes": None, "path": "/etc/passwd"}]}, schema=schema)
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert [row.values for row in rows_of(tmp_path, "a.parquet")] == [{"text": {"bytes": None, "path": "/etc/passwd"}}]


# -- models --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path, make_llama, tokenizer_folder):
    folder = tmp_path / "tiny"
    shutil.copytree(tokenizer_folder, folder)
    make_llama().save_pretrained(folder)
    return folder


PICKLES = {
    "plain": lambda: pickle.dumps(Payload()),
    "torch's": lambda: _saved({"weight": Payload()}),
    "torch's old": lambda: _saved({"weight": Payload()}, old=True),
    "in a zip": lambda: zipped("archive/data.pkl", pickle.dumps(Payload())),
    "behind a module": lambda: b"cposix\nsystem\n(S'touch /tmp/pwned'\ntR.",
    "behind a global that is allowed": lambda: b"ctorch._utils\n_rebuild_tensor_v2\n(cbuiltins\nexec\n(S'1/0'\ntRtR.",
}


def _saved(value, old=False):
    written = io.BytesIO()
    torch.save(value, written, _use_new_zipfile_serialization=not old)
    return written.getvalue()


@pytest.mark.parametrize("name", PICKLES)
def test_weights_are_tensors_and_nothing_else(model, tmp_path, name):
    content = PICKLES[name]()
    (model / "model.safetensors").unlink()
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    for file in (model / "pytorch_model.bin", adapter / "adapter_model.bin", adapter / "value_head.bin"):
        file.write_bytes(content)
    for load in (
        lambda: load_model(model, torch.float32),
        lambda: _shapes(SavedAdapter("adapter", adapter)),
        lambda: value_head.load(adapter, 8),
    ):
        record(FAMILY).note("loaded by a worker")
        with pytest.raises(JobFailure) as refused:
            load()
        assert refused.value.reason == "bad_model"
    assert not Path("/tmp/pwned").exists()


SAFETENSORS = {
    "a header beyond the file": struct.pack("<Q", 2**62) + b"{}",
    "a header of a gigabyte": struct.pack("<Q", 2**30) + b"{" + b" " * 100,
    "tensors beyond the file": None,
    "tensors that overlap": None,
    "no JSON": struct.pack("<Q", 4) + b"oops",
}


def lying(name):
    content = SAFETENSORS[name]
    if content is not None:
        return content
    offsets = {"tensors beyond the file": ([0, 2**40], [0, 4]), "tensors that overlap": ([0, 4], [0, 4])}[name]
    header = {f"t{n}": {"dtype": "F32", "shape": [1], "data_offsets": list(span)} for n, span in enumerate(offsets)}
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + b"\0" * 4


@pytest.mark.parametrize("name", SAFETENSORS)
def test_a_safetensors_file_that_lies_is_refused(model, name):
    (model / "model.safetensors").write_bytes(lying(name))
    record(FAMILY).note("loaded by a worker")
    with pytest.raises(JobFailure, match=r"model\.safetensors"):
        load_model(model, torch.float32)


def edit(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


NAMED = {
    "code for a known type": {"auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}},
    "code of another repository": {"auto_map": {"AutoModelForCausalLM": "someone/evil--evil.Model"}},
    "a kernel": {"attn_implementation": "someone/kernel"},
    "a kernel, as it is held": {"_attn_implementation": "someone/kernel@main:run"},
    "a kernel of experts": {"experts_implementation": "someone/kernel"},
}


@pytest.mark.parametrize("name", NAMED)
def test_code_that_a_model_names_is_not_run(model, name):
    (model / "evil.py").write_text(f"open({str(model / 'ran')!r}, 'w')")
    edit(model / "config.json", **NAMED[name])
    edit(model / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Tokenizer", None]}, tokenizer_class="EvilTokenizer")
    record(FAMILY).note("loaded by a worker")
    with suppress(JobFailure):
        load_tokenizer(model)
    assert type(load_model(model, torch.float32, load_config(model))).__name__ == "LlamaForCausalLM"
    assert not (model / "ran").exists()


TEMPLATES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__class__.__base__.__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.system('touch /tmp/pwned') }}",
    "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{% set x = messages.append(1) %}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{{ raise_exception.__globals__ }}",
]


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_model_s_chat_template_reaches_for_nothing(model, template):
    tokenizer = load_tokenizer(model)
    tokenizer.chat_template = template
    record(FAMILY).note("rendered by a worker")
    said = ""
    with suppress(TemplateError, TypeError):  # SecurityError is one
        said = tokenizer.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False)
    assert "root:" not in said
    assert "<class" not in said
    assert not Path("/tmp/pwned").exists()


def test_a_checkpoint_whose_file_was_exchanged_is_no_checkpoint(tmp_path):
    """What a job goes on from is what its manifest says, to the byte."""
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin", "trainer_state.json"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_bytes(b"as it was")
        (folder / "weights").write_bytes(b"weights")
        checkpoints.seal(folder)
        assert checkpoints.is_complete(folder)
        (folder / name).write_bytes(pickle.dumps(Payload()))
        record(FAMILY).note("passed over")
        assert not checkpoints.is_complete(folder)


# -- the code itself -------------------------------------------------------------------------------------------------------

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*(ROOT / "service").rglob("*.py"), *(ROOT / "worker").rglob("*.py")])

# Rows that a process packs for its own shuffle buffer, and reads again itself.
PICKLES_ITS_OWN = {"worker/data/streaming.py"}


def calls():
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield file.relative_to(ROOT).as_posix(), ast.unparse(node.func), node


def test_nothing_is_loaded_in_a_way_that_runs_it():
    """Of the service's and the worker's own code, every call."""
    for file, name, call in calls():
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        where = f"{file}:{call.lineno}"
        if name == "torch.load":
            assert given.get("weights_only") == "True", where
        if name.endswith("from_pretrained") and "Auto" in name:
            assert given.get("trust_remote_code", "False") == "False", where
        assert given.get("trust_remote_code", "False") == "False", where
        assert given.get("allow_pickle", "False") == "False", where
        assert given.get("shell", "False") == "False", where
        assert name not in ("eval", "exec", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "yaml.full_load"), where
        assert not name.endswith(("extractall", "unpack_archive")), where
        assert not name.startswith(("pickle.", "marshal.", "shelve.", "dill.", "joblib.")) or file in PICKLES_ITS_OWN, where
        assert name != "create_default_context" or "ssl" not in name or not given.get("check_hostname"), where
        assert "verify" not in given or given["verify"] != "False", where
