import shutil

import pytest
import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from transformers import LlamaConfig

from service.specs.model import ModelArguments
from service.specs.reasons import Reason
from worker.failures import JobFailure
from worker.models.loading import load_model
from worker.models.quantization import LIBRARIES, quantization, quantized_with, refuse_unreadable
from worker.probes.token import Document, measure

TOKENS = torch.arange(2, 22).reshape(2, 10)


@pytest.fixture
def folder(tmp_path, make_llama, tokenizer_folder):
    """Wide enough that the weights outweigh what quantizing adds to them."""
    folder = tmp_path / "tiny"
    shutil.copytree(tokenizer_folder, folder)
    make_llama(hidden_size=128, intermediate_size=512, num_attention_heads=4).save_pretrained(folder)
    return folder


def arguments(**values):
    return ModelArguments(model_name_or_path="tiny", **values)


def quantized(folder, **values):
    return load_model(folder, torch.float32, quantization=quantization(arguments(**values), torch.float32))


def linears(model):
    return {name: module for name, module in model.named_modules() if name.endswith("_proj")}


@pytest.mark.parametrize(("bits", "kind"), [(4, Linear4bit), (8, Linear8bitLt)])
def test_every_linear_layer_but_the_head_is_quantized(folder, bits, kind):
    model = quantized(folder, quantization_bit=bits)
    assert {type(module) for module in linears(model).values()} == {kind}
    assert type(model.lm_head) is torch.nn.Linear
    assert model.lm_head.weight.dtype == torch.float32
    assert not any(module.weight.requires_grad for module in linears(model).values())


def test_fewer_bits_take_less_memory(folder):
    sizes = [
        sum(module.weight.numel() * module.weight.element_size() for module in linears(model).values())
        for model in (
            load_model(folder, torch.float32),
            quantized(folder, quantization_bit=8),
            quantized(folder, quantization_bit=4),
        )
    ]
    assert sizes == [sizes[0], sizes[0] / 4, sizes[0] / 8]


@pytest.mark.parametrize("quantization_type", ["nf4", "fp4"])
@pytest.mark.parametrize("double_quantization", [True, False])
def test_the_type_and_the_second_quantization_are_those_asked_for(folder, quantization_type, double_quantization):
    values = {"quantization_type": quantization_type, "double_quantization": double_quantization}
    model = quantized(folder, quantization_bit=4, **values)
    states = [module.weight.quant_state for module in linears(model).values()]
    assert {state.quant_type for state in states} == {quantization_type}
    assert {state.nested for state in states} == {double_quantization}


def test_measuring_leaves_a_four_bit_model_as_it_was(folder):
    """bitsandbytes would repack it at the first forward pass in evaluation, with scales rounded to bf16."""
    model = quantized(folder, quantization_bit=4)
    before = {name: module.weight.detach().clone() for name, module in linears(model).items()}
    trained = model.train()(input_ids=TOKENS).logits
    measure(model, [Document([5, 6, 7, 8], [5, 6, 7, 8], 4)], 300)
    assert all(torch.equal(module.weight, before[name]) for name, module in linears(model).items())
    assert torch.equal(model.train()(input_ids=TOKENS).logits, trained)


def test_without_bits_nothing_is_quantized():
    assert quantization(arguments(), torch.float32) is None


@pytest.mark.parametrize(
    ("config", "method"),
    [(None, None), ({"quant_method": "gptq", "bits": 4}, "gptq"), ({"quant_method": "bitsandbytes"}, "bitsandbytes")],
)
def test_a_config_says_by_which_method_the_files_are_quantized(config, method):
    assert quantized_with(LlamaConfig(**({"quantization_config": config} if config else {}))) == method


def test_a_method_that_nothing_here_reads_is_refused():
    with pytest.raises(JobFailure) as caught:
        refuse_unreadable("awq")
    assert caught.value.reason == Reason.BAD_MODEL
    assert caught.value.sentence == "The model is quantized with awq; bitsandbytes, gptq are taken."


@pytest.mark.parametrize("method", LIBRARIES)
def test_a_library_that_is_missing_is_named(monkeypatch, method):
    monkeypatch.setattr("worker.models.quantization.find_spec", lambda name: None)
    with pytest.raises(JobFailure) as caught:
        refuse_unreadable(method)
    assert caught.value.reason == Reason.MISSING_LIBRARY
    assert ", ".join(LIBRARIES[method]) in caught.value.sentence
