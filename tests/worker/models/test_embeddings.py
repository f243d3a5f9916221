import pytest
import torch

from worker.models.embeddings import grow_vocabulary, tokens_of


def with_tokens(tokenizer, count):
    tokenizer.add_tokens([f"<new {number}>" for number in range(count)])
    return tokenizer


def weights(model):
    return {name: module.weight.detach().clone() for name, module in modules(model).items()}


def modules(model):
    return {"embed_tokens": model.get_input_embeddings(), "lm_head": model.get_output_embeddings()}


@pytest.mark.parametrize(("count", "rows"), [(1, 320), (20, 320), (21, 384)])
def test_the_rows_become_a_multiple_of_64_and_the_old_ones_stay(make_llama, tokenizer, count, rows):
    model = make_llama()
    before = weights(model)
    assert grow_vocabulary(model, with_tokens(tokenizer, count), seed=0) == ("embed_tokens", "lm_head")
    after = weights(model)
    assert {len(weight) for weight in after.values()} == {rows}
    assert all(torch.equal(after[name][:300], before[name]) for name in before)
    assert (model.config.vocab_size, modules(model)["lm_head"].out_features) == (rows, rows)
    assert model(input_ids=torch.tensor([[299 + count]])).logits.shape[-1] == rows


def test_new_rows_are_the_old_ones_mean_with_a_spread_of_one_over_root_d(make_llama, tokenizer):
    model = make_llama(hidden_size=256, num_attention_heads=4)
    with torch.no_grad():
        for module in modules(model).values():
            module.weight += 3
    grow_vocabulary(model, with_tokens(tokenizer, 1000), seed=0)
    for weight in weights(model).values():
        noise = weight[300:] - weight[:300].mean(dim=0)
        n = noise.numel()
        assert float(noise.mean()) == pytest.approx(0, abs=4 / 16 / n**0.5)
        assert float(noise.std()) == pytest.approx(1 / 16, rel=0.01)


def test_the_seed_decides_the_new_rows_and_nothing_else_does(make_llama, tokenizer):
    with_tokens(tokenizer, 5)
    models = [make_llama() for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        torch.rand(seed)  # the run's own generator is elsewhere
        grow_vocabulary(model, tokenizer, seed)
    once, again, other = map(weights, models)
    assert all(torch.equal(once[name], again[name]) for name in once)
    assert not any(torch.equal(once[name], other[name]) for name in once)
    assert not torch.equal(once["embed_tokens"][300:], once["lm_head"][300:])


def test_a_tied_head_grows_with_the_embeddings(make_llama, tokenizer):
    model = make_llama(tie_word_embeddings=True)
    assert grow_vocabulary(model, with_tokens(tokenizer, 1), seed=0) == ("embed_tokens",)
    assert modules(model)["lm_head"].weight is modules(model)["embed_tokens"].weight
    assert len(modules(model)["lm_head"].weight) == 320


def test_nothing_grows_where_every_token_has_a_row(make_llama, tokenizer):
    """Not even to a multiple of 64: the rows there are suffice."""
    model = make_llama()
    assert grow_vocabulary(model, tokenizer, seed=0) == ()
    assert len(weights(model)["embed_tokens"]) == 300


def test_ids_with_gaps_need_rows_up_to_the_last(tokenizer):
    assert tokens_of(tokenizer) == 300
    assert tokens_of(with_tokens(tokenizer, 3)) == 303
