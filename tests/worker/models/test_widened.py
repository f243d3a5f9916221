"""Models that keep half precision in memory and compute in fp32: the same numbers, and not the same room."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel, MixtralConfig, MixtralForCausalLM, Qwen2Config, Qwen2ForCausalLM

from worker.models import widened
from worker.models.widened import HALF, widen

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft's own call

TOKENS = torch.arange(2, 22).reshape(2, 10)
SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 300}
FAMILIES = {
    "biases, and a head that is the embeddings": lambda: Qwen2ForCausalLM(
        Qwen2Config(**SHAPE, num_key_value_heads=2, tie_word_embeddings=True)
    ),
    "weights the other way around": lambda: GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=300)),
    "experts, several in one parameter": lambda: MixtralForCausalLM(
        MixtralConfig(**SHAPE, num_key_value_heads=2, num_local_experts=4)
    ),
}


@pytest.fixture
def half(make_llama):
    return make_llama(initializer_range=0.3).to(torch.bfloat16).eval()


@torch.no_grad()
def logits(model):
    return model(input_ids=TOKENS).logits


def held_as(model):
    return {name: parameter.dtype for name, parameter in model.named_parameters() if parameter.numel() > widened._SMALL}


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("family", FAMILIES)
def test_it_computes_what_the_wide_model_computes(monkeypatch, family, dtype):
    torch.manual_seed(0)
    model = FAMILIES[family]().to(dtype).eval()
    monkeypatch.setattr(widened, "_SMALL", 100)
    narrow = logits(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    wide = type(model)(model.config).eval()
    wide.load_state_dict({name: tensor.float() for name, tensor in before.items()})
    expected = logits(wide)
    widen(model)
    for _ in range(2):
        found = logits(model)
        assert found.dtype == torch.float32
        assert torch.allclose(found, expected, atol=1e-5)
        assert set(held_as(model).values()) == {dtype}
    assert not torch.allclose(narrow.float(), expected, atol=1e-5), "or this would see no difference"
    assert all(torch.equal(tensor.float(), before[name].float()) for name, tensor in model.state_dict().items())


def test_a_large_layer_is_widened_in_parts(half, make_llama, monkeypatch):
    monkeypatch.setattr(widened, "_AT_ONCE", 100)
    widest = []
    product = widened._product
    monkeypatch.setattr(widened, "_product", lambda x, w, b: widest.append(w.numel()) or product(x, w, b))
    wide = logits(make_llama(initializer_range=0.3).to(torch.bfloat16).float().eval())
    widen(half)
    assert torch.allclose(logits(half), wide, atol=1e-5)
    assert max(widest) <= 100


@pytest.mark.parametrize("has_onednn", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_whoever_multiplies_the_products_are_of_full_precision(monkeypatch, has_onednn, bias):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: has_onednn)
    torch.manual_seed(0)
    states, layer = torch.randn(2, 5, 400), torch.nn.Linear(400, 300, bias=bias)
    expected = torch.nn.functional.linear(states.double(), layer.weight.double(), layer.bias.double() if bias else None)
    with torch.no_grad():
        found = widened._product(states, layer.weight, layer.bias)
    assert found.shape == (2, 5, 300)
    assert torch.allclose(found.double(), expected, atol=1e-5)


def test_an_adapter_acts_on_it_as_on_the_wide_one(make_llama):
    def adapted(model):
        torch.manual_seed(1)
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear"))
        for parameter in model.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.3)
        return model.eval()

    half = adapted(make_llama(initializer_range=0.3).to(torch.bfloat16))
    widen(half)
    wide = adapted(make_llama(initializer_range=0.3).to(torch.bfloat16).float())
    assert torch.allclose(logits(half), logits(wide), atol=1e-5)


def test_a_pass_that_breaks_off_leaves_every_weight_as_it_was(half, monkeypatch):
    monkeypatch.setattr(widened, "_SMALL", 0)
    widen(half)

    def fails(*_):
        raise MemoryError

    half.model.norm.register_forward_pre_hook(fails)
    with pytest.raises(MemoryError):
        logits(half)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
