import math

import pytest
import torch

from service.specs.reasons import Reason
from worker.failures import JobFailure
from worker.models import attention
from worker.models.attention import SHIFTED, shifted_attention, use_flash, use_shifted


class Attention(torch.nn.Module):
    """What the function reads of a model's own module."""

    def __init__(self, group, n_rep=1):
        super().__init__()
        self.shifted_group = group
        self.num_key_value_groups = n_rep
        self.is_causal = True


def reference(query, key, value, group):
    """The paper's steps, one head and one group at a time: roll half of the heads, attend, roll back.

    In the rolled sequence's last group the first half group of tokens follows the last: neither half sees the other.
    """
    _, H, T, D = query.shape
    output = torch.zeros_like(query)
    for head in range(H):
        shift = group // 2 if head >= H // 2 else 0
        q, k, v = (x[:, head].roll(-shift, dims=1) for x in (query, key, value))
        rolled = torch.zeros_like(q)
        for start in range(0, T, group):
            for i in range(start, start + group):
                first = start
                if shift and start == T - group and i >= T - shift:
                    first = T - shift
                scores = torch.einsum("bd,bnd->bn", q[:, i], k[:, first : i + 1]) / math.sqrt(D)
                rolled[:, i] = torch.einsum("bn,bnd->bd", scores.softmax(dim=-1), v[:, first : i + 1])
        output[:, head] = rolled.roll(shift, dims=1)
    return output.transpose(1, 2)


def states(T=16, heads=4, kv_heads=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, h, T, 8, generator=generator, requires_grad=True) for h in (heads, kv_heads, kv_heads)]


@pytest.mark.parametrize("group", [2, 4, 8, 16])
def test_shifted_attention_is_the_papers_to_a_hundred_thousandth(group):
    query, key, value = states()
    found, _ = shifted_attention(Attention(group).train(), query, key, value, None, scaling=8**-0.5)
    assert torch.allclose(found, reference(query, key, value, group), atol=1e-5)


def test_its_gradients_are_the_papers_too():
    given = states()
    weights = torch.randn(2, 16, 4, 8, generator=torch.Generator().manual_seed(1))
    found, _ = shifted_attention(Attention(4).train(), *given, None, scaling=8**-0.5)
    own = torch.autograd.grad((found * weights).sum(), given)
    expected = torch.autograd.grad((reference(*given, 4) * weights).sum(), given)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(own, expected, strict=True))


def test_keys_that_several_heads_share_are_repeated_for_them():
    query, key, value = states(kv_heads=2)
    found, _ = shifted_attention(Attention(4, n_rep=2).train(), query, key, value, None, scaling=8**-0.5)
    expected = reference(query, key.repeat_interleave(2, dim=1), value.repeat_interleave(2, dim=1), 4)
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("T", [1, 3, 5, 13])
def test_a_sequence_that_fills_no_whole_groups_is_as_if_it_went_on(T):
    """What comes after a token changes nothing for it, so the padding may be anything."""
    longer = states(T=16)
    shorter = [x[:, :, :T] for x in longer]
    found, _ = shifted_attention(Attention(4).train(), *shorter, None, scaling=8**-0.5)
    assert torch.allclose(found, reference(*longer, 4)[:, :T], atol=1e-5)


def test_no_token_sees_a_later_one():
    query, key, value = states()
    module = Attention(4).train()
    found, _ = shifted_attention(module, query, key, value, None, scaling=8**-0.5)
    for t in range(16):
        (gradient,) = torch.autograd.grad(found[:, t].sum(), value, retain_graph=True)
        assert not gradient[:, :, t + 1 :].any()
        assert gradient[:, :, t].any()


def test_it_keeps_examples_of_a_pack_apart():
    """The model's own mask says who may see whom: two examples of six and ten tokens in one row."""
    query, key, value = states()
    example = torch.tensor([0] * 6 + [1] * 10)
    mask = ((example[:, None] == example[None, :]) & torch.ones(16, 16, dtype=torch.bool).tril()).expand(2, 1, 16, 16)
    found, _ = shifted_attention(Attention(4).train(), query, key, value, mask, scaling=8**-0.5)
    (gradient,) = torch.autograd.grad(found[:, 6:].sum(), value, retain_graph=True)
    assert not gradient[:, :, :6].any()
    assert found.isfinite().all()


@pytest.fixture
def shifted(make_llama):
    model = make_llama()
    use_shifted(model, 4)
    return model


TOKENS = torch.arange(2, 34).reshape(2, 16)


def test_a_model_trains_with_it_and_evaluates_as_it_did(make_llama, shifted):
    plain = make_llama()
    assert shifted.config._attn_implementation == SHIFTED
    with torch.no_grad():
        assert torch.equal(shifted.eval()(input_ids=TOKENS).logits, plain.eval()(input_ids=TOKENS).logits)
        trained, full = shifted.train()(input_ids=TOKENS).logits, plain.train()(input_ids=TOKENS).logits
    assert torch.allclose(trained[:, :2], full[:, :2], atol=1e-5), "the first half group sees all that came before it"
    assert not torch.allclose(trained, full, atol=1e-3)


def test_padding_on_the_right_changes_nothing_for_what_it_follows(shifted):
    shifted.train()
    padded = torch.cat([TOKENS[:, :10], torch.zeros(2, 6, dtype=torch.long)], dim=1)
    mask = torch.tensor([[1] * 10 + [0] * 6] * 2)
    with torch.no_grad():
        alone, beside = shifted(input_ids=TOKENS[:, :10]).logits, shifted(input_ids=padded, attention_mask=mask).logits
    assert torch.allclose(beside[:, :10], alone, atol=1e-5)


def test_a_model_of_another_family_is_refused(make_llama):
    model = make_llama()
    model.config.model_type = "mistral"
    with pytest.raises(JobFailure) as caught:
        use_shifted(model, 4)
    assert caught.value.reason == Reason.BAD_MODEL
    assert caught.value.sentence == "shift_attn is for llama models, and this is a mistral one."


CUDA, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.mark.parametrize(
    ("installed", "device", "dtype", "why"),
    [
        (False, CUDA, torch.bfloat16, "flash_attn is not installed on this worker"),
        (True, CPU, torch.bfloat16, "and this is bfloat16 on cpu"),
        (True, CUDA, torch.float32, "and this is float32 on cuda"),
    ],
)
def test_flash_attention_says_why_it_is_not_used(make_llama, monkeypatch, installed, device, dtype, why):
    monkeypatch.setattr(attention, "is_flash_attn_2_available", lambda: installed)
    model = make_llama()
    assert why in use_flash(model, device, dtype)
    assert model.config._attn_implementation == "sdpa"


def test_flash_attention_is_used_where_it_is_there(make_llama, monkeypatch):
    monkeypatch.setattr(attention, "is_flash_attn_2_available", lambda: True)
    model = make_llama()
    asked = []
    monkeypatch.setattr(model, "set_attn_implementation", asked.append)
    assert use_flash(model, CUDA, torch.bfloat16) is None
    assert asked == ["flash_attention_2"]
