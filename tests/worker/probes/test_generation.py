import math

import pytest
import torch

from service.specs.generating import GeneratingArguments
from worker.probes.generation import Generated, cluster_of, generate, generation
from worker.probes.token import DocumentSums

PROMPTS = [[5, 6, 7], [9, 10]]
PLAIN = {"max_new_tokens": 8, "temperature": 1.0, "top_p": 1.0, "top_k": 0}


@pytest.fixture
def model(make_llama):
    return make_llama(initializer_range=0.3)


def written(model, tokenizer, samples=3, seed=0, ends=(1,), **settings):
    settings = GeneratingArguments(**PLAIN | settings)
    return generate(model, tokenizer, PROMPTS, settings, samples, seed, list(ends)).tokens


def test_as_many_texts_are_written_as_were_asked_for_and_no_longer(model, tokenizer):
    tokens = written(model, tokenizer, samples=3, max_new_tokens=5)
    assert [len(of_one) for of_one in tokens] == [3, 3]
    assert max(len(text) for of_one in tokens for text in of_one) == 5


def test_a_seed_decides_the_texts_and_leaves_the_training_s_own_draws_alone(model, tokenizer):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first = written(model, tokenizer, seed=1)
    assert torch.equal(torch.rand(3), expected)
    assert first == written(model, tokenizer, seed=1) != written(model, tokenizer, seed=2)


@pytest.mark.parametrize("greedy", [{"do_sample": False}, {"temperature": 0.0}, {"top_k": 1}, {"top_p": 1e-6}])
def test_each_way_to_take_the_likeliest_token_takes_it(model, tokenizer, greedy):
    (text, *others), _ = written(model, tokenizer, **greedy)
    assert all(other == text for other in others)
    ids = list(PROMPTS[0])
    for token in text:
        with torch.no_grad():
            assert int(model.eval()(torch.tensor([ids])).logits[0, -1].argmax()) == token
        ids.append(token)


def test_sampling_is_not_greedy(model, tokenizer):
    (text, *others), _ = written(model, tokenizer)
    assert any(other != text for other in others)


def test_repetition_penalty_keeps_a_text_from_coming_back(model, tokenizer):
    tokens = written(model, tokenizer, do_sample=False, repetition_penalty=1000.0)
    for prompt, of_one in zip(PROMPTS, tokens, strict=True):
        assert all(len({*prompt, *text}) == len(prompt) + len(text) for text in of_one)


def test_a_text_goes_up_to_its_end_whatever_the_model_s_own_config_says(model, tokenizer):
    ((first, *_), _) = written(model, tokenizer, do_sample=False)
    end = first[2]
    model.generation_config.eos_token_id = first[0]
    ((ended, *_), _) = written(model, tokenizer, do_sample=False, ends=[end])
    assert ended == first[: first.index(end) + 1]
    assert ended[-1] == end


def test_a_text_has_no_more_tokens_than_the_model_has_positions(make_llama, tokenizer):
    tokens = written(make_llama(max_position_embeddings=6), tokenizer, max_new_tokens=50)
    assert max(len(text) for text in tokens[0]) == 3


# -- what is said of them -----------------------------------------------------------------------------------------------


def found(tokens, texts, names, nll=None):
    generated = Generated([[1]] * len(tokens), tokens, texts)
    scored = generated.documents()
    n = [len(document.scored) for _, document in scored]
    sums = DocumentSums(n, [0] * len(n), [float(x) for x in nll or n], [float(x) for x in n])
    return generation(generated, sums, [place for place, _ in scored], set(names))


def test_texts_that_mean_the_same_have_no_semantic_entropy_and_others_lg_of_how_many():
    texts = [["Yes.", " yes", "YES!"], ["no", "maybe", "No"]]
    row = found([[[4], [4], [4]], [[5], [6], [5]]], texts, ["partitioned_entropy"])["partitioned_entropy"]
    h_third = math.log2(3) - 2 / 3
    assert row.estimate.value == pytest.approx((0 + h_third) / 2)
    assert [cluster_of(text) for text in ("A  b.", "a b", "?!")] == ["a b", "a b", "?!"]


def test_texts_that_loop_have_a_topological_entropy_of_zero_and_two_that_mix_one():
    loop, mixed = [[[4, 5] * 6]] * 2, [[[4, 4, 5, 5, 4] * 3]] * 2
    for tokens, value in ((loop, 0.0), (mixed, 1.0)):
        row = found(tokens, [["x"], ["y"]], ["topological_entropy"])["topological_entropy"]
        assert row.estimate.value == pytest.approx(value, abs=1e-12)


def test_texts_in_which_nothing_returns_have_no_rates_and_the_reason_why():
    rows = found([[[4, 5, 6]], [[7, 8, 9]]], [["x"], ["y"]], ["topological_entropy", "renewal_entropy_rate"])
    assert math.isnan(rows["topological_entropy"].estimate.value)
    assert "no cycle" in rows["topological_entropy"].why_no_interval
    assert math.isnan(rows["renewal_entropy_rate"].estimate.value)
    assert rows["renewal_entropy_rate"].why_no_interval


def test_a_token_that_returns_at_every_step_is_certain_to():
    row = found([[[4, 4, 4]], [[5, 5]]], [["x"], ["y"]], ["renewal_entropy_rate"])["renewal_entropy_rate"]
    assert row.estimate.value == 0.0


def test_own_losses_are_per_token_and_clustered_by_prompt():
    row = found([[[4, 5]], [[6, 7, 8, 9]]], [["x"], ["y"]], ["sample_entropy_rate"], nll=[2, 10])["sample_entropy_rate"]
    assert row.estimate.value == 2.0
    assert row.n_documents == 2
    # (S − m n)/Σn: (2 − 4)/6 and (10 − 8)/6
    assert row.estimate.influence_D.tolist() == pytest.approx([-1 / 3, 1 / 3])


def test_prompts_that_got_nothing_but_an_end_leave_their_texts_without_a_ratio():
    rows = found([[[1], [1]], [[4, 1], [1]]], [["", ""], ["abcabc", ""]], ["compression_ratio", "kolmogorov_upper_bound"])
    assert rows["compression_ratio"].n_documents == 1
    assert rows["kolmogorov_upper_bound"].estimate.value <= 8 * 6 + 2
