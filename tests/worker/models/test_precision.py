import pytest
import torch

from service.specs.finetuning import FinetuningArguments
from worker.models.adapters import prepare
from worker.models.precision import upcast_head, upcast_layernorms

TOKENS = torch.arange(2, 22).reshape(2, 10)
NORMS = {
    "model.norm.weight",
    *(f"model.layers.{layer}.{name}.weight" for layer in range(2) for name in ("input_layernorm", "post_attention_layernorm")),
}


@pytest.fixture
def half(make_llama):
    return make_llama().to(torch.bfloat16)


def test_upcast_layernorm_holds_the_norms_in_fp32_and_nothing_else(half):
    assert upcast_layernorms(half) == len(NORMS)
    assert {name for name, parameter in half.named_parameters() if parameter.dtype == torch.float32} == NORMS
    assert {parameter.dtype for name, parameter in half.named_parameters() if name not in NORMS} == {torch.bfloat16}


def test_an_upcast_norm_answers_in_the_models_own_type(half):
    upcast_layernorms(half)
    output = half(input_ids=TOKENS, output_hidden_states=True)
    assert {state.dtype for state in output.hidden_states} == {torch.bfloat16}
    output.logits.sum().backward()


def test_a_layer_norm_of_torch_is_upcast_too():
    model = torch.nn.ModuleDict({"ln_1": torch.nn.LayerNorm(8), "linear": torch.nn.Linear(8, 8)}).to(torch.bfloat16)
    assert upcast_layernorms(model) == 1
    assert model["ln_1"](torch.ones(2, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert (model["ln_1"].weight.dtype, model["linear"].weight.dtype) == (torch.float32, torch.bfloat16)


def test_upcast_lmhead_output_answers_logits_in_fp32(half):
    assert half(input_ids=TOKENS).logits.dtype == torch.bfloat16
    upcast_head(half.get_output_embeddings())
    assert half(input_ids=TOKENS).logits.dtype == torch.float32
    assert half.get_output_embeddings().weight.dtype == torch.bfloat16


def lora(model, **arguments):
    return prepare(model, FinetuningArguments(lora_rank=2, **arguments), gradient_checkpointing=False)


def trained_types(model):
    return {parameter.dtype for parameter in model.parameters() if parameter.requires_grad}


@pytest.mark.parametrize(("lora_bf16_mode", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_lora_bf16_mode_decides_in_what_an_adapter_trains(half, lora_bf16_mode, dtype):
    model = lora(half, lora_bf16_mode=lora_bf16_mode)
    assert trained_types(model) == {dtype}
    model(input_ids=TOKENS, labels=TOKENS).loss.backward()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("lora_bf16_mode", [True, False])
@pytest.mark.parametrize("base", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("target", ["embed_tokens", "lm_head", "norm"])
def test_modules_that_train_whole_take_and_give_what_the_model_around_them_computes_in(make_llama, base, lora_bf16_mode, target):
    model = lora(make_llama().to(base), additional_target=target, lora_bf16_mode=lora_bf16_mode)
    assert trained_types(model) == {torch.bfloat16 if lora_bf16_mode else torch.float32}
    output = model(input_ids=TOKENS, labels=TOKENS, output_hidden_states=True)
    assert {state.dtype for state in output.hidden_states} == {base}
    output.loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)
