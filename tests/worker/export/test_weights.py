"""Files of weights: those that transformers would have written, and hashed while they were."""

import hashlib
import json

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    MixtralConfig,
    MixtralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from worker import checkpoints
from worker.export import weights

SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 300}


def of_two_types():
    model = Qwen2ForCausalLM(Qwen2Config(**SHAPE, num_key_value_heads=2)).to(torch.bfloat16)
    model.model.norm.float()
    return model


FAMILIES = {
    "a head that is the embeddings": lambda: Qwen2ForCausalLM(
        Qwen2Config(**SHAPE, num_key_value_heads=2, tie_word_embeddings=True)
    ),
    "two types of numbers": of_two_types,
    "weights the other way around": lambda: GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=300)),
    "experts, which are files of their own names": lambda: MixtralForCausalLM(
        MixtralConfig(**SHAPE, num_key_value_heads=2, num_local_experts=4)
    ),
}


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("shard_bytes", [30_000, 10**9])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_files_are_those_of_save_pretrained_byte_for_byte(tmp_path, monkeypatch, family, shard_bytes):
    monkeypatch.setattr(weights, "GB", shard_bytes)
    torch.manual_seed(0)
    model = FAMILIES[family]()
    hashed = weights.write(model, tmp_path, 1, is_legacy=False)
    model.save_pretrained(tmp_path / "plain", max_shard_size=shard_bytes)
    expected = contents(tmp_path / "plain")
    assert (len([name for name in expected if name.endswith(".safetensors")]) > 1) == (shard_bytes == 30_000)
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert written == expected
    assert hashed == {
        name: hashlib.sha256(content).hexdigest() for name, content in expected.items() if name.endswith(".safetensors")
    }


@pytest.mark.parametrize("shard_bytes", [30_000, 10**9])
def test_torchs_own_files_hold_the_same_and_are_hashed_too(tmp_path, monkeypatch, shard_bytes):
    monkeypatch.setattr(weights, "GB", shard_bytes)
    torch.manual_seed(0)
    model = FAMILIES["a head that is the embeddings"]().eval()
    hashed = weights.write(model, tmp_path, 1, is_legacy=True)
    bins = sorted(tmp_path.glob("*.bin"))
    assert (len(bins) > 1) == (shard_bytes == 30_000)
    assert hashed == {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in bins}
    held = {name: tensor for file in bins for name, tensor in torch.load(file, weights_only=True).items()}
    assert held.keys() == model.state_dict().keys() - {"lm_head.weight"}
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in held.items())
    if len(bins) > 1:
        index = json.loads((tmp_path / "pytorch_model.bin.index.json").read_text())
        assert index["weight_map"].keys() == held.keys()
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    ids = torch.arange(2, 22).reshape(2, 10)
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=ids).logits, model(input_ids=ids).logits)


def test_what_is_sealed_with_these_hashes_is_complete(tmp_path):
    hashed = weights.write(FAMILIES["two types of numbers"](), tmp_path, 1, is_legacy=False)
    checkpoints.seal(tmp_path, hashed)
    assert checkpoints.is_complete(tmp_path)
