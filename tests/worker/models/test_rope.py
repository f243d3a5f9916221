import pytest
import torch
from transformers import GPT2Config, LlamaConfig, LlamaForCausalLM

from service.specs.reasons import Reason
from worker.failures import JobFailure
from worker.models.rope import scale, training_factor


@pytest.mark.parametrize(
    ("cutoff", "longest", "factor"), [(8192, 4096, 2), (9000, 4096, 3), (4096, 4096, 1), (4097, 4096, 2), (10, 4096, 1)]
)
def test_the_factor_is_the_cutoff_over_the_models_longest_text_rounded_up(cutoff, longest, factor):
    assert training_factor(cutoff, longest) == factor
    config = LlamaConfig(max_position_embeddings=longest, rope_theta=5e5)
    assert scale(config, "linear", cutoff) == factor
    assert config.rope_parameters == {"rope_theta": 5e5, "rope_type": "linear", "factor": factor}


def test_without_a_cutoff_a_model_is_stretched_to_twice_its_length():
    config = LlamaConfig(max_position_embeddings=4096)
    assert scale(config, "dynamic") == 2.0
    assert config.rope_parameters["rope_type"] == "dynamic"


def test_linear_scaling_divides_the_frequencies():
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 50}
    config = LlamaConfig(max_position_embeddings=64, **shape)
    plain = LlamaForCausalLM(LlamaConfig(max_position_embeddings=64, **shape)).model.rotary_emb.inv_freq
    scale(config, "linear", 128)
    assert torch.allclose(LlamaForCausalLM(config).model.rotary_emb.inv_freq, plain / 2)


def test_a_model_that_was_stretched_so_keeps_the_greater_factor():
    for before, expected in ((4.0, 4.0), (1.5, 2.0)):
        config = LlamaConfig(max_position_embeddings=64)
        config.rope_parameters = {"rope_theta": 1e4, "rope_type": "linear", "factor": before}
        assert scale(config, "linear", 128) == expected


def refused(config, rope_type="linear"):
    with pytest.raises(JobFailure) as caught:
        scale(config, rope_type, 128)
    assert caught.value.reason == Reason.BAD_MODEL
    return caught.value.sentence


def test_a_model_that_is_stretched_in_another_way_is_refused():
    config = LlamaConfig(max_position_embeddings=64)
    config.rope_parameters = {"rope_theta": 1e4, "rope_type": "yarn", "factor": 4.0}
    assert "scaled already (yarn)" in refused(config)


def test_a_model_without_rotary_positions_is_refused():
    assert refused(GPT2Config()) == "A gpt2 model has no rotary positions that rope_scaling could stretch."
