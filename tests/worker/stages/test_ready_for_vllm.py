"""An export is what vLLM looks for in a folder.

vLLM is not installed here: what its 0.33.0 checks is written down, with the file of it that each check stands in.
"""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

from tests.worker.stages.attempts import Host, a_job
from worker.export import weights as export_weights

STEPS = {
    "whole": {},
    "shards": {"model": {"export_size": 1}},
    "legacy": {"model": {"export_legacy_format": True, "export_size": 1}},
    "alone": {"export": {"adapter_only": True}},
}


@pytest.fixture(scope="module")
def exports(tmp_path_factory, tokenizer_folder):
    """The folder that each step wrote, and the adapter that was trained."""
    host = Host(tmp_path_factory.mktemp("host"), a_llama, tokenizer_folder)
    steps = [
        {"name": name, "do": "export"} | groups | {"model": {"model_name_or_path": "@sft"} | groups.get("model", {})}
        for name, groups in STEPS.items()
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_weights, "GB", 30_000)
        patch.setitem(steps[0]["model"], "export_size", 100)
        attempt = host.done(a_job(measures={"names": ""}, training={"max_steps": 1}, steps=[{"name": "sft"}, *steps]))
    return {name: host.folder(attempt, name) for name in STEPS}


def a_llama():
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return LlamaForCausalLM(LlamaConfig(vocab_size=300, max_position_embeddings=256, **shape))


@pytest.mark.parametrize(("name", "n_files"), [("whole", 1), ("shards", None), ("legacy", None)])
def test_the_files_that_it_reads_hold_the_model_and_nothing_else(exports, name, n_files):
    """model_loader/default_loader.py: the first pattern that is there; of safetensors, those that the index names."""
    folder = exports[name]
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    assert {file.suffix for file in files} == {".bin" if name == "legacy" else ".safetensors"}
    assert len(files) == n_files or len(files) > 1
    index = folder / "model.safetensors.index.json"
    if index.exists():
        assert set(json.loads(index.read_text())["weight_map"].values()) == {file.name for file in files}
    read = load_file if name != "legacy" else lambda file: torch.load(file, weights_only=True)
    named = [tensor for file in files for tensor in read(file)]
    assert sorted(named) == sorted(a_llama().state_dict()), "each once: a name that it has no place for is an error"
    assert not list(folder.glob("consolidated*")), "or it would be read as Mistral's own format"


@pytest.mark.parametrize("name", ["whole", "shards", "legacy"])
def test_the_config_names_an_architecture_and_needs_no_code_of_the_folder(exports, name):
    """config/model.py"""
    document = json.loads((exports[name] / "config.json").read_text())
    assert document["architectures"] == ["LlamaForCausalLM"]
    assert (document["model_type"], document["dtype"]) == ("llama", "float32")
    assert not {"auto_map", "quantization_config", "_name_or_path"} & set(document)
    assert AutoConfig.from_pretrained(exports[name]).max_position_embeddings == 256


@pytest.mark.parametrize("name", ["whole", "shards", "legacy"])
def test_the_tokenizer_writes_prompts_and_what_ends_an_answer_is_known(exports, name):
    """renderers/hf.py asks the tokenizer for its template; sampling_params.py stops at the tokenizer's EOS and at those of
    generation_config.json.
    """
    tokenizer = AutoTokenizer.from_pretrained(exports[name], trust_remote_code=False)
    said = [{"role": "user", "content": "what says the cat"}]
    text = tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
    assert text == "<s>Human: what says the cat\nAssistant:"
    assert tokenizer.is_fast
    assert len(tokenizer) <= AutoConfig.from_pretrained(exports[name]).vocab_size
    ends = GenerationConfig.from_pretrained(exports[name]).eos_token_id
    assert ends == [tokenizer.eos_token_id, 2], "what it was trained to end with, and then what the base names"


def test_transformers_ends_an_answer_where_it_was_trained_to(exports):
    model = AutoModelForCausalLM.from_pretrained(exports["whole"])
    torch.nn.init.zeros_(model.lm_head.weight)
    model.lm_head.weight.data[1] = 1.0
    model.model.norm.weight.data.fill_(1.0)
    model.model.embed_tokens.weight.data.abs_().add_(1.0)
    for layer in model.model.layers:
        torch.nn.init.zeros_(layer.self_attn.o_proj.weight)
        torch.nn.init.zeros_(layer.mlp.down_proj.weight)
    asked = torch.tensor([[5, 6, 7]])
    written = model.generate(asked, attention_mask=torch.ones_like(asked), do_sample=False, max_new_tokens=5, pad_token_id=1)
    assert written[0, 3:].tolist() == [1]


def test_an_adapter_is_one_that_it_lays_on(exports):
    """lora/peft_helper.py: no bias, no DoRA, no modules that are saved whole, nothing that changes the base at loading."""
    document = json.loads((exports["alone"] / "adapter_config.json").read_text())
    assert (document["peft_type"], document["bias"], document["r"]) == ("LORA", "none", 2)
    assert not any(document.get(name) for name in ("use_dora", "lora_bias", "modules_to_save", "layer_replication"))
    assert document["init_lora_weights"] in (True, False)
    held = load_file(exports["alone"] / "adapter_model.safetensors")
    assert all(name.startswith("base_model.model.model.layers.") for name in held)
    assert {name.rpartition(".lora_")[2] for name in held} == {"A.weight", "B.weight"}
