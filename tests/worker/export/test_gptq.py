"""A quantized folder has all that lay beside the weights, says how it was made, and nothing of this host."""

import json
import shutil
import sys

import pytest
import torch
from transformers import GPT2Config, LlamaConfig

from service.specs.reasons import Reason
from worker.export import gptq
from worker.export.calibration import Calibration, Window
from worker.failures import JobFailure

CPU = torch.device("cpu")


def calibration(n_tokens=8):
    return Calibration("letters", 42, [Window("text.txt", n + 1, n, list(range(n, n + n_tokens))) for n in range(3)])


@pytest.fixture
def source(tmp_path, make_llama, tokenizer_folder):
    folder = tmp_path / "whole"
    shutil.copytree(tokenizer_folder, folder)
    make_llama().save_pretrained(folder)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    return folder


class Noted:
    """In the library's place: writes what it writes, and keeps what it was told."""

    def __call__(self, source, target, bits, group, windows, shard_bytes, device):
        self.told = (source, target, bits, group, windows, shard_bytes, device)
        target.mkdir()
        made = {"offload_to_disk_path": "/tmp/gptqmodel_x", "quantizer": ["it:1"]}
        quantization = {"bits": bits, "group_size": group, "quant_method": "gptq", "meta": made}
        config = json.loads((source / "config.json").read_text())
        (target / "config.json").write_text(
            json.dumps(config | {"_name_or_path": str(source), "quantization_config": quantization})
        )
        (target / "quantize_config.json").write_text(json.dumps(quantization))
        (target / "quant_log.csv").write_text("layer,time\n0,0.003\n")
        (target / "tokenizer_config.json").write_text('{"pad_token": "chosen by the library"}')
        (target / "model.safetensors").write_bytes(b"packed")


@pytest.fixture
def done(source, tmp_path):
    by = Noted()
    target = tmp_path / "packed"
    gptq.quantize(source, target, 3, calibration(), 2 * 10**9, CPU, by)
    return by, source, target


def test_the_library_is_told_everything(done):
    by, source, target = done
    windows = [window.input_ids for window in calibration().windows]
    assert by.told == (source, target, 3, 32, windows, 2 * 10**9, CPU)


def test_everything_but_weights_and_config_is_as_it_was(done):
    _, source, target = done
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        assert (target / name).read_bytes() == (source / name).read_bytes()
    assert (target / "model.safetensors").read_bytes() == b"packed"
    assert not (target / "quant_log.csv").exists()


def test_nothing_says_where_on_this_host_it_was_made(done, tmp_path):
    target = done[2]
    texts = [file.read_text(errors="ignore") for file in target.iterdir()]
    assert not [text for text in texts if "/tmp/gptqmodel_x" in text or str(tmp_path) in text]
    config = json.loads((target / "config.json").read_text())
    assert config["quantization_config"]["meta"] == {"quantizer": ["it:1"]}
    assert config["quantization_config"]["bits"] == 3


def test_the_calibration_lies_in_the_folder_with_what_was_made_of_it(done):
    record = json.loads((done[2] / gptq.CALIBRATION).read_text())
    assert record == calibration().to_json() | {"bits": 3, "group_size": 32}


def test_a_model_that_is_quantized_already_is_refused(done, tmp_path):
    by, _, target = done
    with pytest.raises(JobFailure, match="'packed' is quantized already \\(gptq\\)") as caught:
        gptq.quantize(target, tmp_path / "again", 3, calibration(), 2 * 10**9, CPU, by)
    assert caught.value.reason is Reason.BAD_MODEL
    assert not (tmp_path / "again").exists()


def test_windows_longer_than_the_models_positions_are_refused(source, tmp_path):
    by = Noted()
    with pytest.raises(JobFailure, match="export_quantization_maxlen is 257, and the model has 256 positions"):
        gptq.quantize(source, tmp_path / "packed", 4, calibration(257), 2 * 10**9, CPU, by)
    gptq.quantize(source, tmp_path / "packed", 4, calibration(256), 2 * 10**9, CPU, by)


@pytest.mark.parametrize(("inner", "size"), [(256, 128), (192, 64), (160, 32), (100, -1)])
def test_the_group_is_the_largest_that_divides_the_inputs_of_every_layer(inner, size):
    config = LlamaConfig(hidden_size=128, intermediate_size=inner, num_hidden_layers=1, num_attention_heads=4, vocab_size=300)
    assert gptq.group_size(config) == size


def test_the_layers_of_gpt2_are_seen_too():
    assert gptq.group_size(GPT2Config(n_embd=64, n_inner=192, n_layer=1, n_head=4, vocab_size=300)) == 64


def test_a_worker_without_the_library_says_so(source, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gptqmodel", None)
    monkeypatch.setattr("worker.models.quantization.find_spec", lambda library: None)
    with pytest.raises(JobFailure, match="gptqmodel, optimum") as caught:
        gptq.quantize(source, tmp_path / "packed", 4, calibration(), 2 * 10**9, CPU, gptq.gptqmodel)
    assert caught.value.reason is Reason.MISSING_LIBRARY
    assert not (tmp_path / "packed").exists()
