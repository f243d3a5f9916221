import json
import shutil

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

from service.specs.reasons import Reason
from worker.failures import JobFailure
from worker.models import saved_adapters
from worker.models.saved_adapters import laid_on, merged, merged_as_held
from worker.models.start import SavedAdapter

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft's own call

TOKENS = torch.arange(2, 22).reshape(2, 10)


@torch.no_grad()
def logits(model):
    return model.eval()(input_ids=TOKENS).logits


@pytest.fixture
def make_adapter(tmp_path, make_llama):
    """A trained adapter of the tiny model, in a folder."""

    def make(name, seed=1, base=None, save_embeddings="auto", **config):
        torch.manual_seed(seed)
        arguments = {"task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 6, "target_modules": "all-linear"} | config
        model = get_peft_model(make_llama() if base is None else base, LoraConfig(**arguments))
        torch.manual_seed(seed)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data + 0.1 * torch.randn_like(parameter)
        model.save_pretrained(tmp_path / name, save_embedding_layers=save_embeddings)
        return SavedAdapter(name, tmp_path / name)

    return make


def by_hand(model, adapters):
    """What peft itself makes of them, one after another."""
    for adapter in adapters:
        model = PeftModel.from_pretrained(model, adapter.folder).merge_and_unload()
    return model


@pytest.mark.parametrize("names", ["a", "ab", "ba", "abc"])
def test_adapters_are_merged_one_after_another(make_llama, make_adapter, names):
    known = {name: make_adapter(name, seed) for seed, name in enumerate("abc")}
    adapters = [known[name] for name in names]
    found, expected = merged(make_llama(), adapters), by_hand(make_llama(), adapters)
    assert type(found) is type(make_llama())
    assert all(torch.equal(tensor, expected.state_dict()[name]) for name, tensor in found.state_dict().items())
    assert not torch.allclose(logits(found), logits(make_llama()), atol=1e-2)


def test_a_model_of_half_precision_stays_so_and_each_sum_is_rounded_once(make_llama, make_adapter):
    adapter = make_adapter("a", modules_to_save=["norm"])
    half = make_llama().to(torch.bfloat16)
    exact = by_hand(make_llama().to(torch.bfloat16).float(), [adapter]).state_dict()
    found = merged_as_held(half, [adapter])
    assert type(found) is type(make_llama())
    assert {tensor.dtype for tensor in found.state_dict().values()} == {torch.bfloat16}
    assert all(torch.equal(tensor, exact[name].to(torch.bfloat16)) for name, tensor in found.state_dict().items())


def test_numbers_of_several_types_keep_each_its_own(make_llama, make_adapter):
    mixed = make_llama().to(torch.bfloat16)
    mixed.model.norm.float()
    found = merged_as_held(mixed, [make_adapter("a"), make_adapter("b", 2)])
    dtypes = {name: parameter.dtype for name, parameter in found.named_parameters()}
    assert dtypes.pop("model.norm.weight") == torch.float32
    assert set(dtypes.values()) == {torch.bfloat16}


def test_a_merged_weight_is_the_base_with_the_scaled_product_added(make_llama, make_adapter):
    adapter = make_adapter("a")
    saved = load_file(adapter.folder / "adapter_model.safetensors")
    name = "model.layers.1.mlp.up_proj"
    product = saved[f"base_model.model.{name}.lora_B.weight"] @ saved[f"base_model.model.{name}.lora_A.weight"]
    found = merged(make_llama(), [adapter]).get_submodule(name).weight
    assert torch.allclose(found, make_llama().get_submodule(name).weight + 6 / 2 * product, atol=1e-7)


ADDED = {
    "every layer": {},
    "some layers": {"target_modules": ["q_proj", "down_proj"]},
    "scaled by the root of the rank": {"use_rslora": True},
    "its head": {"target_modules": ["lm_head", "q_proj"], "save_embeddings": False},
    "whole modules": {"modules_to_save": ["norm", "lm_head"]},
}
NOT_ADDED = {
    "whole modules of several layers": {"target_modules": ["q_proj"], "modules_to_save": ["mlp"]},
    "ranks of their own": {"rank_pattern": {"q_proj": 4}},
    "scales of their own": {"alpha_pattern": {"q_proj": 1}},
    "embeddings": {"target_modules": ["embed_tokens", "q_proj"], "save_embeddings": False},
    "biases": {"bias": "lora_only"},
}


@pytest.mark.parametrize("kind", [*ADDED, *NOT_ADDED])
def test_what_is_added_in_place_is_what_peft_merges(make_llama, make_adapter, monkeypatch, kind):
    adapter = make_adapter("a", **(ADDED | NOT_ADDED)[kind])
    by_peft = []
    monkeypatch.setattr(saved_adapters, "merged", lambda model, adapters: by_peft.append(adapters) or merged(model, adapters))
    expected = by_hand(make_llama(), [adapter]).state_dict()
    found = merged_as_held(make_llama(), [adapter]).state_dict()
    assert all(torch.allclose(tensor, expected[name], atol=1e-6, rtol=0) for name, tensor in found.items())
    assert any(not torch.equal(tensor, found[name]) for name, tensor in make_llama().state_dict().items())
    assert bool(by_peft) == (kind in NOT_ADDED)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_sum_in_place_is_made_in_fp32_and_rounded_once(make_llama, make_adapter, dtype):
    adapter = make_adapter("a", lora_alpha=1)
    exact = by_hand(make_llama().to(dtype).float(), [adapter]).state_dict()
    found = merged_as_held(make_llama().to(dtype), [adapter]).state_dict()
    # where the sum lies on the edge between two numbers, its last bit in fp32 decides
    apart = sum(int((tensor != exact[name].to(dtype)).sum()) for name, tensor in found.items())
    assert apart <= 5
    assert {tensor.dtype for tensor in found.values()} == {dtype}


def test_weights_that_lie_the_other_way_around_are_added_to(make_adapter):
    def gpt2():
        torch.manual_seed(0)
        return GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=300))

    adapter = make_adapter("a", base=gpt2(), target_modules=["c_attn", "c_proj"], fan_in_fan_out=True)
    expected = by_hand(gpt2(), [adapter]).state_dict()
    as_bin(adapter)
    found = merged_as_held(gpt2(), [adapter]).state_dict()
    assert all(torch.allclose(tensor, expected[name], atol=1e-6, rtol=0) for name, tensor in found.items())


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings:UserWarning")
def test_a_head_that_is_the_embeddings_is_left_to_peft(make_llama, make_adapter):
    tied = {"tie_word_embeddings": True}
    adapter = make_adapter("a", base=make_llama(**tied), target_modules=["lm_head"], save_embeddings=False)
    assert not saved_adapters._is_added(make_llama(**tied), adapter)


def test_an_adapter_is_laid_on_as_its_file_has_it(make_llama, make_adapter):
    adapter = make_adapter("a")
    saved = load_file(adapter.folder / "adapter_model.safetensors")
    model = laid_on(make_llama(), adapter, is_trainable=True)
    trainable = {name.replace(".default", ""): p for name, p in model.named_parameters() if p.requires_grad}
    assert trainable.keys() == saved.keys()
    assert all(torch.equal(trainable[name], saved[name]) for name in saved)
    frozen = laid_on(make_llama(), adapter, is_trainable=False)
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert torch.equal(logits(frozen), logits(model))


def test_an_adapter_with_a_larger_vocabulary_brings_its_rows(make_llama, make_adapter):
    adapter = make_adapter("a", base=with_rows(make_llama, 320), modules_to_save=["embed_tokens", "lm_head"])
    expected = logits(PeftModel.from_pretrained(with_rows(make_llama, 320), adapter.folder))
    found = merged(make_llama(), [adapter])
    assert found.config.vocab_size == 320
    assert torch.allclose(logits(found), expected, atol=1e-5)


def test_bin_weights_are_laid_on_too(make_llama, make_adapter):
    adapter = make_adapter("a")
    expected = logits(merged(make_llama(), [adapter]))
    as_bin(adapter)
    assert torch.equal(logits(merged(make_llama(), [adapter])), expected)


def as_bin(adapter):
    weights = load_file(adapter.folder / "adapter_model.safetensors")
    (adapter.folder / "adapter_model.safetensors").unlink()
    torch.save(weights, adapter.folder / "adapter_model.bin")


def refusal(model, adapter, reason=Reason.BAD_MODEL):
    with pytest.raises(JobFailure) as caught:
        merged(model, [adapter])
    assert caught.value.reason == reason
    assert str(adapter.folder) not in caught.value.sentence, "a path on this host is nobody's business"
    return caught.value


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"hidden_size": 64}, "does not fit the model 'small': model.layers.0.mlp.down_proj has 64 where the adapter has 32."),
        ({"num_hidden_layers": 1}, "does not fit the model 'small': it has no model.layers.1.mlp.down_proj."),
    ],
)
def test_an_adapter_of_another_base_is_refused_with_both_named(make_llama, make_adapter, tmp_path, config, why):
    adapter = make_adapter("a")
    edit(adapter, base_model_name_or_path="/somewhere/big")
    make_llama(**config).save_pretrained(tmp_path / "small")
    other = type(make_llama()).from_pretrained(tmp_path / "small")
    sentence = refusal(other, adapter).sentence
    assert sentence.startswith("The adapter 'a' was made on 'big' and ")
    assert why in sentence


def test_whole_modules_of_another_shape_are_another_base(make_llama, make_adapter):
    adapter = make_adapter("a", modules_to_save=["embed_tokens"])
    sentence = refusal(with_rows(make_llama, 400), adapter).sentence
    assert "model.embed_tokens has 400x32 where the adapter has 300x32" in sentence


def with_rows(make_llama, rows):
    model = make_llama()
    model.resize_token_embeddings(rows, mean_resizing=False)
    return model


def edit(adapter, **changes):
    path = adapter.folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


class Payload:
    def __reduce__(self):
        return pytest.fail, ("the pickle was run",)


def poison(adapter):
    (adapter.folder / "adapter_model.safetensors").unlink()
    torch.save({"weight": Payload()}, adapter.folder / "adapter_model.bin")


def cut(adapter):
    file = adapter.folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:500])


def lose_a_matrix(adapter):
    file = adapter.folder / "adapter_model.safetensors"
    tensors = load_file(file)
    del tensors["base_model.model.model.layers.0.mlp.up_proj.lora_B.weight"]
    save_file(tensors, file)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (poison, "adapter_model.bin: it is damaged, or holds more than tensors"),
        (cut, "has a broken weights file adapter_model.safetensors"),
        (lose_a_matrix, "up_proj.lora_B"),
        (lambda adapter: (adapter.folder / "adapter_model.safetensors").unlink(), "has no weights"),
        (lambda adapter: (adapter.folder / "adapter_config.json").unlink(), "has no adapter_config.json"),
        (lambda adapter: (adapter.folder / "adapter_config.json").write_text("{"), "is not valid JSON"),
        (lambda adapter: (adapter.folder / "adapter_config.json").write_text("[]"), "is not an object"),
        (lambda adapter: edit(adapter, peft_type="IA3"), "is of the kind IA3; LORA is taken"),
        # peft would import a module of that name
        (lambda adapter: edit(adapter, megatron_config={"x": 1}, megatron_core="antigravity"), "uses megatron_config of peft"),
        (lambda adapter: edit(adapter, init_lora_weights="pissa"), "changes the base's own weights"),
        (lambda adapter: edit(adapter, r="two"), "cannot be loaded"),
    ],
)
def test_an_adapter_that_is_damaged_or_does_more_than_add_is_refused(make_llama, make_adapter, spoil, why):
    adapter = make_adapter("a")
    spoil(adapter)
    assert why in refusal(make_llama(), adapter).sentence


def test_an_adapter_that_is_not_there_is_missing(make_llama, make_adapter):
    adapter = make_adapter("a")
    shutil.rmtree(adapter.folder)
    assert refusal(make_llama(), adapter, Reason.MISSING_MODEL).sentence == "There is no adapter 'a' in the models folder."
