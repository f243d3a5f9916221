"""Pages whose commands need what is not here: LLaMA-Factory, Amazon's command line, vLLM, Ollama, a package index.

Each is run as it stands, with a stand-in for that one program: a few lines that take the very words of the page and no others.
The stand-in for LLaMA-Factory tells the losses that the page says it told, and our side trains: so its claim is held, too.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from service.embedded import running
from service.settings import Settings
from tests.containers import ROOT
from tests.docs.blocks import blocks, pages
from tests.servers import S3

NOTING = """#!{python}
import json, pathlib, sys
with open({notes!r}, "a") as notes:
    notes.write(json.dumps(sys.argv[1:]) + "\\n")
"""


def program(folder: Path, name: str, text: str) -> Path:
    """An executable of that name: what stands in for the real one."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(0o755)
    return file


def bash(script: str, folder: Path, programs: Path, timeout: float = 280, **variables: str) -> "subprocess.CompletedProcess[str]":
    path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)} | variables
    command = ["bash", "-uo", "pipefail", "-c", script]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout)


# -- packages ---------------------------------------------------------------------------------------------------------------


def test_extras_that_pages_install_are_there() -> None:
    """Also in the blocks of quantize.md and artifact-store.md, whose pip would need a package index."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    found = [
        name
        for text in pages().values()
        for names in re.findall(r"(?:finebits|'\.)\[([\w,]+)\]", text)
        for name in names.split(",")
    ]
    assert {"worker", "gptq", "s3", "eval", "trackers"} <= set(found) <= extras.keys()


# -- Amazon's command line ------------------------------------------------------------------------------------------------------

AWS = """#!{python}
import json, pathlib, sys
import boto3
client = boto3.client("s3", endpoint_url={endpoint!r})
match sys.argv[1:]:
    case ["s3api", "put-bucket-lifecycle-configuration", "--bucket", bucket, "--lifecycle-configuration", file]:
        document = json.loads(pathlib.Path(file.removeprefix("file://")).read_text())
        client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=document)
    case ["s3", "cp", "--recursive", folder, url]:
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        for file in (one for one in pathlib.Path(folder).rglob("*") if one.is_file()):
            client.upload_file(str(file), bucket, f"{{prefix}}/{{file.relative_to(folder)}}")
    case words:
        sys.exit(f"not on the page: {{words}}")
"""


def test_the_page_on_the_artifact_store(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies in the folder is found by a service whose artifacts are in the bucket."""
    page = "docs/how-to/artifact-store.md"
    install, ready, lifecycle, move = (block.text for block in blocks(page, "sh"))
    notes = tmp_path / "notes"
    program(tmp_path / ".venv" / "bin", "pip", NOTING.format(python=sys.executable, notes=str(notes)))
    programs = program(tmp_path / "bin", "aws", AWS.format(python=sys.executable, endpoint=s3.endpoint)).parent
    (tmp_path / "lifecycle.json").write_text(blocks(page, "json")[1].text)
    (tmp_path / "finebits-data" / "artifacts" / "job-1").mkdir(parents=True)
    (tmp_path / "finebits-data" / "artifacts" / "job-1" / "weights").write_bytes(b"0123")
    keys = {name: value for name, value in s3.environment.items() if name.startswith("AWS")}
    bucket = "moved-here"
    for name, value in keys.items():
        monkeypatch.setenv(name, value)

    import boto3

    client = boto3.client("s3", endpoint_url=s3.endpoint)
    client.create_bucket(Bucket=bucket)
    done = bash((install + lifecycle + move).replace("my-bucket", bucket), tmp_path, programs, **keys)
    assert done.returncode == 0, done.stderr
    assert json.loads(notes.read_text()) == ["install", "-e", ".[s3]"]
    (rule,) = client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert rule["ID"] == "end-interrupted-uploads"
    [moved] = client.list_objects_v2(Bucket=bucket)["Contents"]
    assert moved["Key"] == "finebits/job-1/weights"
    assert ready.strip() == "curl http://127.0.0.1:8765/readyz"  # which other pages' tests ask


# -- LLaMA-Factory --------------------------------------------------------------------------------------------------------------

VENV = """#!{python}
import pathlib, sys
assert sys.argv[1:] == ["-m", "venv", "peer"], sys.argv
for name in ("pip", "python", "llamafactory-cli"):
    file = pathlib.Path("peer/bin", name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(pathlib.Path({folder!r}, "peer-" + name).read_text() if name != "llamafactory-cli" else "")
    file.chmod(0o755)
"""

# What the page says that the peer told, to the arguments that it would have trained with.
PEER = """#!{python}
import json, pathlib, sys
_, side, asked, told = sys.argv
assert side.endswith("theirs.py") and pathlib.Path(side).is_file()
asked = json.loads(pathlib.Path(asked).read_text())
losses = json.loads({losses!r})[asked["stage"] + " " + asked["finetuning_type"]]
n = asked["max_steps"]
first, last = losses["update 1"], losses.get(f"update {{n}}", 0.0)
part = (asked["cutoff_len"] - 1) / asked["cutoff_len"] if asked["stage"] == "pt" else 1.0
updates = []
for i in range(n):
    clocks = {{"cpu_seconds": 2.0 * i, "wall_seconds": 2.0 * i, "tokens": 2000.0 * (i + 1)}}
    updates.append({{"update": i + 1, "loss": (last if i else first) * part}} | clocks)
if "mean score, update 1" in losses:
    updates[0]["score"] = losses["mean score, update 1"]
held = {{"0": losses["held out, before"], "45": losses["held out, after 45"]}} if "eval_dataset" in asked else {{}}
memory = {{"libraries_bytes": 500 * 2**20, "peak_bytes": 1000 * 2**20}}
pathlib.Path(told).write_text(json.dumps({{"updates": updates, "held_out": held}} | memory))
"""


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_page_on_the_peer(tmp_path: Path) -> None:
    page = "docs/explanation/peer.md"
    losses: dict[str, dict[str, float]] = {}
    for name, what, theirs in re.findall(r"^\| (\w+ \w+): ([^|]+) \| [\d.]+ \| ([\d.]+) \|", pages()[page], re.MULTILINE):
        losses.setdefault(name, {})[what] = float(theirs)
    assert losses.keys() == {"sft lora", "pt full", "rm lora", "dpo lora", "ppo lora"}
    notes = tmp_path / "notes"
    programs = program(tmp_path / "bin", "python3", VENV.format(python=sys.executable, folder=str(tmp_path))).parent
    trl = 'import os\nif "--target" in sys.argv:\n    os.mkdir(sys.argv[sys.argv.index("--target") + 1])\n'
    (tmp_path / "peer-pip").write_text(NOTING.format(python=sys.executable, notes=str(notes)) + trl)
    (tmp_path / "peer-python").write_text(PEER.format(python=sys.executable, losses=json.dumps(losses)))
    (tmp_path / "benchmarks").symlink_to(ROOT / "benchmarks")
    [block] = blocks(page, "sh")
    done = bash(block.text.strip() + " --repeats 1", tmp_path, programs, timeout=1700)
    assert done.returncode == 0, done.stdout + done.stderr
    asked = [json.loads(line) for line in notes.read_text().splitlines()]
    assert asked[0] == ["install", "torch==2.13.0", "llamafactory==0.9.5"]
    assert asked[1] == ["install", "--no-deps", "--target", "trl-0.9.6", "trl==0.9.6"]
    rows = re.findall(r"^\| (\w+ lora|pt full): [^|]+\| [\d.]+ \| [\d.]+ \|", done.stdout, re.MULTILINE)
    assert len(rows) == sum(map(len, losses.values()))
    assert "DIFFERS" not in done.stdout
    assert len(re.findall(r"= \d\.\d\d \|", done.stdout)) >= 2


# -- everything that dies -------------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_page_on_survival(tmp_path: Path) -> None:
    """`make chaos` is the tests of tests/chaos themselves; the two runs by hand are done as they stand."""
    [block] = blocks("docs/explanation/survival.md", "sh")
    chaos, *by_hand = block.text.strip().splitlines()
    assert chaos.startswith("make chaos ")
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    with_fence, without = (bash(line, ROOT, tmp_path, timeout=800) for line in by_hand)
    assert with_fence.returncode == 0, with_fence.stdout + with_fence.stderr
    assert "0 violations" in with_fence.stdout
    assert "WITHOUT the fence" in without.stdout, without.stdout + without.stderr
    assert without.returncode == int("\n0 violations" not in without.stdout)  # few faults need not wake a worker too late


# -- what serves an export ------------------------------------------------------------------------------------------------------

VLLM = """#!{python}
import json, pathlib, sys
match sys.argv[1:]:
    case ["serve", folder]:
        import transformers
        model = transformers.AutoModelForCausalLM.from_pretrained(folder)
        assert transformers.AutoTokenizer.from_pretrained(folder).chat_template and model.config.vocab_size
    case ["serve", base, "--enable-lora", "--max-lora-rank", most, "--lora-modules", named]:
        name, _, folder = named.partition("=")
        rank = json.loads(pathlib.Path(folder, "adapter_config.json").read_text())["r"]
        assert base == "tiny-llama" and rank <= int(most), named
    case words:
        sys.exit(f"not on the page: {{words}}")
"""
OLLAMA = """#!/bin/sh
[ "$*" = "create letters -f Modelfile" ] && grep -q "^TEMPLATE" Modelfile && ls *.safetensors || exit 1
from=$(sed -n 's/^FROM //p' Modelfile)
[ "$from" = . ] || [ "$from" = "./letters.gguf" -a -s "$from" ]
"""
LLAMA_CPP = """import pathlib, sys
folder, option, file = sys.argv[1:]
assert option == "--outfile" and all(pathlib.Path(folder, name).is_file() for name in ("config.json", "tokenizer.json"))
pathlib.Path(file).write_bytes(b"GGUF")
"""


@pytest.mark.long
def test_the_page_on_exporting(tmp_path: Path) -> None:
    whole, adapter, ollama, gguf = (block.text for block in blocks("docs/how-to/export.md", "sh"))
    programs = program(tmp_path / "bin", "vllm", VLLM.format(python=sys.executable)).parent
    program(programs, "ollama", OLLAMA)
    program(tmp_path / "llama.cpp", "convert_hf_to_gguf.py", LLAMA_CPP)
    settings = Settings(home=tmp_path / "h", port=0, models_root=ROOT / "examples" / "models", datasets_root=ROOT / "examples")
    training = {"max_steps": 2, "save_steps": 2, "per_device_train_batch_size": 4}
    data = {"dataset": "instructions", "template": "alpaca", "cutoff_len": 64, "max_samples": 40, "val_size": 8}
    job: dict[str, Any] = {"model": {"model_name_or_path": "tiny-llama"}, "data": data, "training": training}
    with running(settings) as service, service.client() as client:
        trained = client.submit(job)["id"]
        assert client.wait(trained)["state"] == "succeeded"
        here = str(service.settings.exports_root)
        for commands, export in (([whole, ollama, gguf], {}), ([adapter], {"adapter_only": True, "overwrite": True})):
            model = {"model_name_or_path": f"{trained}/sft/2", "export_dir": "letters-1"}
            exported = client.submit({"do": "export", "model": model, "data": data, "export": export})["id"]
            assert client.wait(exported)["state"] == "succeeded"
            for command in commands:
                there = command.replace("/srv/finebits/exports", here).replace("/opt/llama.cpp", str(tmp_path / "llama.cpp"))
                done = bash(there, tmp_path, programs)
                assert done.returncode == 0, done.stdout + done.stderr


# -- another worker -----------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_the_page_on_adding_a_worker(tmp_path: Path) -> None:
    """Beside the one that the service has, which takes nothing more: so whoever takes the job is the other."""
    install, start, look, drain = (block.text for block in blocks("docs/how-to/add-a-worker.md", "sh"))
    asked = [line.split()[-1] for line in install.splitlines()]
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert (asked[0], asked[1] in constraints, asked[2]) == (".venv", True, "'.[worker]'")
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    programs = program(tmp_path / "bin", "finebits", f'#!/bin/sh\nexec {sys.executable} -m service.cli "$@"\n').parent
    settings = Settings(home=tmp_path / "h", port=0, models_root=ROOT / "examples" / "models", datasets_root=ROOT / "examples")
    with running(settings) as service, service.client() as client:
        its = service.settings
        secret = its.secret_key.get_secret_value() if its.secret_key else ""
        values = {"DATABASE_URL": its.database_url, "BROKER_URL": its.broker_url, "SECRET_KEY": secret, "WORKER_NAME": "host-b"}
        values |= {f"{name.upper()}_ROOT": str(getattr(its, f"{name}_root")) for name in ("artifacts", "models", "datasets")}
        [given] = (block.text for block in blocks("docs/how-to/add-a-worker.md", "ini"))
        lines = [f"{name}={values[name.removeprefix('FINEBITS_')]}" for name in re.findall(r"^(\w+)=", given, re.MULTILINE)]
        (tmp_path / "worker.env").write_text("\n".join(lines) + "\n")
        client.drain(client.workers()[0]["name"])
        here = os.environ | {"PYTHONPATH": str(ROOT), "FINEBITS_URL": service.url, "FINEBITS_HOME": str(its.home)}
        shorter = look.replace("--watch", "--set training.max_steps=4 --watch")
        with subprocess.Popen(["bash", "-euc", start], cwd=tmp_path, env=here) as worker:
            try:
                while "host-b" not in [one["name"] for one in client.workers()]:
                    assert worker.poll() is None, "the worker has ended"
                    time.sleep(0.5)
                done = bash(f"set -e\n{shorter}", tmp_path, programs, FINEBITS_URL=service.url)
                assert done.returncode == 0, done.stdout + done.stderr
                assert "host-b" in done.stdout
                assert "succeeded" in done.stdout
                assert bash(drain, tmp_path, programs, FINEBITS_URL=service.url).returncode == 0
                assert {one["name"]: one["status"] for one in client.workers()}["host-b"] == "draining"
            finally:
                worker.terminate()
    assert worker.returncode == 0


# -- OpenAI's package against us ------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_the_page_on_coming_from_openai(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "examples" / "models" / "tiny-llama", tmp_path / "models" / "Llama-3.2-1B-Instruct")
    row = {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi."}]}
    for name in ("chats", "held-out"):
        Path(f"{name}.jsonl").write_text((json.dumps(row) + "\n") * 16)
    create, more = (block.text for block in blocks("docs/how-to/from-openai.md", "python"))
    made, listed = create.split("for event in")
    with running(Settings(home=tmp_path / "h", port=0, models_root=tmp_path / "models")) as service:
        names: dict[str, Any] = {}
        exec(made.replace("http://127.0.0.1:8765", service.url), names)
        with service.client() as client:
            assert client.wait(names["job"].id.replace("ftjob-", "job-"))["state"] == "succeeded"
            exec(f"for event in{listed}", names)
            exec(more, names)
            assert next(client.jobs())["resolved"]["steps"][0]["finetuning"]["lora_rank"] == 16
        for opened in ("training", "held_out"):
            assert names[opened].id.startswith("file-")
    said = capsys.readouterr().out
    assert len(re.findall(r"^\d+ \d+\.\d+ \d+\.\d+$", said, re.MULTILINE)) >= 2
