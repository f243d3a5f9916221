"""An export in fewer bits: made as it was asked for, told against what it was rounded from, and nothing else left behind.

The library's part is played by rounding to a grid of our own, in files that plain loading reads; the real one is tested where
it is installed, by `make long`.
"""

import json
import threading
import time
from importlib.util import find_spec

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from service.specs.reasons import Reason
from tests.worker.stages.attempts import a_job
from worker import checkpoints
from worker.export import gptq
from worker.export import weights as export_weights
from worker.failures import JobFailure
from worker.models.loading import load_model
from worker.run import Stopped
from worker.stages import quantizing

CORPUS = [f"line {n}: " + "the cat sat on the mat and the dog lay in the fog " * (1 + n % 4) for n in range(12)]


@pytest.fixture
def corpus(host):
    host.add_dataset("corpus", CORPUS)
    return host


class Grid:
    """Rounds to 2**bits steps over a layer's range. Keeps what it was told."""

    def __init__(self):
        self.told = []

    def __call__(self, source, target, bits, group, windows, shard_bytes, device):
        self.told.append({"bits": bits, "windows": windows, "shard_bytes": shard_bytes, "whole": set(source.iterdir())})
        target.mkdir()
        tensors = load_file(source / "model.safetensors")
        for name, tensor in tensors.items():
            if name.endswith("_proj.weight"):
                step = (tensor.max() - tensor.min()) / 2**bits
                tensors[name] = (tensor / step).round() * step
        save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
        (target / "config.json").write_bytes((source / "config.json").read_bytes())


def packed(folder, device):
    """As the library's layers are known: they have a qweight, and scales."""
    model = load_model(folder, torch.float32)
    for name, module in model.named_modules():
        if name.endswith("_proj"):
            module.register_buffer("qweight", torch.zeros(1))
            module.register_buffer("scales", torch.ones(1))
    return model


@pytest.fixture
def grid(monkeypatch):
    grid = Grid()
    monkeypatch.setattr("worker.models.quantization.find_spec", lambda library: True)
    monkeypatch.setattr(gptq, "gptqmodel", grid)
    monkeypatch.setattr(quantizing, "_loaded", packed)
    return grid


def an_export(bits=4, n=5, length=16, export=None, **model):
    quantized = {
        "export_quantization_bit": bits,
        "export_quantization_dataset": "corpus",
        "export_quantization_nsamples": n,
        "export_quantization_maxlen": length,
    }
    data = {"template": "default", "dataset": "pets", "val_size": 2, "cutoff_len": 64}
    document = {"do": "export", "model": {"model_name_or_path": "tiny", **quantized, **model}, "data": data}
    return document | ({"export": export} if export else {})


def failure(host, document) -> JobFailure:
    error = host.attempt(document).error
    assert isinstance(error, JobFailure), error
    return error


def certificate_of(host, attempt):
    return json.loads((host.folder(attempt) / "certificate.json").read_text())


def test_a_quantized_export_is_made_as_it_was_asked_for(corpus, grid):
    """export_quantization_bit, export_quantization_dataset, export_quantization_nsamples and export_quantization_maxlen."""
    attempt = corpus.done(an_export(bits=3, n=5, length=16, export_size=2))
    (told,) = grid.told
    assert (told["bits"], [len(window) for window in told["windows"]], told["shard_bytes"]) == (3, [16] * 5, 2 * 10**9)
    record = json.loads((corpus.folder(attempt) / gptq.CALIBRATION).read_text())
    assert (record["dataset"], record["seed"], record["bits"], record["tokens_in_a_window"]) == ("corpus", 42, 3, 16)
    assert len(record["windows"]) == 5
    assert {window["file"] for window in record["windows"]} == {"corpus.txt"}
    assert checkpoints.is_complete(corpus.folder(attempt)), "the hashes are of the rounded files, not of those before"


def test_the_same_job_draws_the_same_calibration_and_another_seed_another(corpus, grid):
    hashes = []
    for document in (an_export(), an_export(), an_export() | {"training": {"seed": 7}}):
        folder = corpus.folder(corpus.done(document))
        hashes.append(json.loads((folder / gptq.CALIBRATION).read_text())["sha256_of_tokens"])
    assert hashes[0] == hashes[1] != hashes[2]


def test_what_was_lost_is_told_against_bits_and_bound(corpus, grid):
    attempt = corpus.done(an_export(bits=2))
    found = certificate_of(corpus, attempt)
    row = found["rate_distortion"]
    assert row["bits"] == 2
    assert row["bits_per_weight"] == 32, "the files of this test's grid hold fp32"
    assert 0 < row["gaussian_bound"] < row["weight_distortion"] < row["weight_variance"]
    assert found["kl_from_reference"]["mean"]["value"] > 1e-6, "the certificate is of what was rounded"
    assert found["limits"] == {"mean_kl": None, "max_kl": None}
    (event,) = attempt.events("exported")
    (step,) = attempt.of("step")
    assert event["data"]["certificate"] == step["summary"]["certificate"] == found
    assert not (corpus.folder(attempt) / "Modelfile").exists(), "Ollama reads no rounded weights"
    card = (corpus.folder(attempt) / "README.md").read_text()
    assert "in 2 bits (GPTQ)" in card
    assert f"| bits a weight, as stored | {row['bits_per_weight']:.4g} |" in card


def test_fewer_bits_lose_more(corpus, grid):
    found = [certificate_of(corpus, corpus.done(an_export(bits=bits))) for bits in (2, 4, 8)]
    lost = [one["kl_from_reference"]["mean"]["value"] for one in found]
    distortion = [one["rate_distortion"]["weight_distortion"] for one in found]
    assert lost == sorted(lost, reverse=True)
    assert distortion == sorted(distortion, reverse=True)


def test_adapters_are_merged_first_and_nothing_of_the_whole_model_stays(corpus, grid):
    steps = [
        {"name": "sft", "do": "train"},
        {"name": "export", "do": "export", "model": {"model_name_or_path": "@sft"}},
    ]
    attempt = corpus.done(a_job(model=an_export()["model"], measures={"names": ""}, steps=steps))
    (told,) = grid.told
    assert "adapter_model.safetensors" not in {path.name for path in told["whole"]}
    folder = corpus.folder(attempt, "export")
    assert {path.name for path in folder.parent.iterdir()} == {folder.name}
    base, written = (AutoModelForCausalLM.from_pretrained(path).state_dict() for path in (corpus.models / "tiny", folder))
    assert any(not torch.equal(base[name], written[name]) for name in base)


def test_the_model_that_is_rounded_is_certified_before(corpus, grid, monkeypatch):
    """A merge gone wrong is not to be taken for what rounding costs."""

    write = export_weights.write

    def spoiled(model, folder, *rest):
        with torch.no_grad():
            model.get_output_embeddings().weight.normal_()
        return write(model, folder, *rest)

    monkeypatch.setattr("worker.stages.exporting.weights.write", spoiled)
    found = failure(corpus, an_export())
    assert found.reason is Reason.CERTIFICATE_FAILED
    assert grid.told == []


def test_quantized_mean_kl_fails_an_export_that_lost_more(corpus, grid):
    found = failure(corpus, an_export(bits=2, export={"quantized_mean_kl": 1e-9}))
    assert found.reason is Reason.CERTIFICATE_FAILED
    assert "and 1e-09 are allowed" in found.sentence
    assert not list((corpus.artifacts / "job-1" / "1").rglob("*.safetensors"))
    corpus.done(an_export(bits=2, export={"quantized_mean_kl": 100.0}))


def test_too_few_long_rows_end_the_job_before_anything_is_written(corpus, grid):
    found = failure(corpus, an_export(n=100, length=50))
    assert found.reason is Reason.BAD_DATA
    assert "The data set 'corpus' has" in found.sentence
    assert "100 are wanted" in found.sentence
    assert not list(corpus.artifacts.rglob("*.safetensors"))


def test_windows_beyond_the_models_positions_end_it_too(corpus, grid):
    corpus.add_dataset("corpus", ["the cat sat on the mat " * 200] * 3)
    assert "export_quantization_maxlen is 300, and the model has 256 positions" in failure(corpus, an_export(length=300)).sentence


def test_a_data_set_that_is_gone_is_named(corpus, grid):
    found = failure(corpus, an_export(export_quantization_dataset="books"))
    assert (found.reason, "no data set 'books'" in found.sentence) == (Reason.MISSING_DATA, True)


def test_conversations_are_a_corpus_too(corpus, grid):
    corpus.done(an_export(n=2, length=4, export_quantization_dataset="pets"))


@pytest.mark.skipif(find_spec("gptqmodel") is not None, reason="here it is installed")
def test_a_worker_without_the_library_ends_the_job_before_anything_is_loaded(corpus):
    found = failure(corpus, an_export())
    assert found.reason is Reason.MISSING_LIBRARY
    assert "does not have gptqmodel" in found.sentence


def test_a_wish_is_heard_in_the_midst_of_the_library(corpus, grid, monkeypatch):
    def for_ever(source, target, *how):
        target.mkdir()
        (target / "model.safetensors").write_bytes(b"half")
        while True:
            time.sleep(0.01)

    monkeypatch.setattr(gptq, "gptqmodel", for_ever)

    def cancel(message, run):
        if message["message"] == "progress" and message["progress"].get("phase") == "quantizing":
            threading.Timer(0.1, setattr, (run, "wish", "cancel")).start()

    assert isinstance(corpus.attempt(an_export(), when=cancel).error, Stopped)
    assert not list(corpus.artifacts.rglob("*.safetensors"))


def test_a_stop_leaves_nothing_and_the_next_attempt_makes_it_whole(corpus, grid):
    def stop(message, run):
        if message["message"] == "progress" and message["progress"].get("phase") == "quantizing":
            run.wish = "stop"

    first = corpus.attempt(an_export(), when=stop)
    assert isinstance(first.error, Stopped)
    assert not list(corpus.artifacts.rglob("*.safetensors"))
    corpus.done(an_export(), [first])
