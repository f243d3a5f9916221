import math

import numpy as np
import pytest
import torch

from service.specs.generating import GeneratingArguments
from service.specs.reasons import Reason
from worker.failures import JobFailure
from worker.probes.token import Document, measure
from worker.writing.answers import answer
from worker.writing.batch import Manner

EOS = 1
PROMPTS = [[5, 6, 7, 8, 9], [20, 21], [40]]
WIDE = {"temperature": 1.0, "top_p": 1.0, "top_k": 0}


@pytest.fixture
def model(make_llama):
    return make_llama(initializer_range=0.3)


def answered(model, prompts=PROMPTS, rooms=None, seeds=None, stop_ids=(EOS,), num_beams=1, vocabulary=None, **given):
    settings = GeneratingArguments(**WIDE | {"max_new_tokens": 8} | given)
    manner = Manner(settings, list(stop_ids), EOS, num_beams, vocabulary)
    rooms = rooms or [settings.max_new_tokens] * len(prompts)
    return answer(model, prompts, rooms, seeds or [(0, row) for row in range(len(prompts))], manner)


def tokens(answers):
    return [one.tokens for one in answers]


def next_probabilities(model, ids):
    with torch.no_grad():
        return torch.softmax(model.eval()(torch.tensor([ids])).logits[0, -1].double(), dim=-1)


def test_a_row_is_drawn_by_its_own_seed_in_whatever_batch_it_stands(model):
    together = tokens(answered(model))
    alone = [tokens(answered(model, [prompt], seeds=[(0, row)]))[0] for row, prompt in enumerate(PROMPTS)]
    assert together == alone
    assert tokens(answered(model, PROMPTS[::-1], seeds=[(0, 2), (0, 1), (0, 0)])) == together[::-1]
    assert tokens(answered(model, seeds=[(1, 0), (1, 1), (1, 2)])) != together


def test_a_penalty_for_repetition_is_of_the_row_and_not_of_its_padding(model):
    """The padding is the token that ends an answer: penalised for it, a short prompt's answer would not end."""
    given = {"repetition_penalty": 1.4}
    together = tokens(answered(model, **given))
    assert together == [tokens(answered(model, [prompt], seeds=[(0, row)], **given))[0] for row, prompt in enumerate(PROMPTS)]
    never = tokens(answered(model, repetition_penalty=1e3, do_sample=False, stop_ids=()))
    assert all(len({*prompt, *text}) == len(prompt) + len(text) for prompt, text in zip(PROMPTS, never, strict=True))


def test_what_is_drawn_is_distributed_as_the_model_says(model):
    """The first tokens of 4000 rows against p, by Pearson's statistic over the likeliest tokens and the rest."""
    n = 4000
    drawn = answered(model, [[5, 6]] * n, [1] * n, [(3, row) for row in range(n)], stop_ids=())
    p_V = next_probabilities(model, [5, 6]).numpy()
    top = np.argsort(-p_V)[:9]
    counts = np.bincount([one.tokens[0] for one in drawn], minlength=len(p_V))
    observed = np.append(counts[top], n - counts[top].sum())
    expected = n * np.append(p_V[top], 1 - p_V[top].sum())
    assert ((observed - expected) ** 2 / expected).sum() < 33.7  # the 0.9999 quantile of χ² with 9 degrees of freedom


@pytest.mark.parametrize("narrow", [{"temperature": 1e-4}, {"top_k": 1}, {"top_p": 1e-6}, {"do_sample": False}], ids=str)
def test_a_narrow_temperature_top_k_or_top_p_or_no_sampling_takes_the_likeliest_token(model, narrow):
    for prompt, text in zip(PROMPTS, tokens(answered(model, stop_ids=(), **narrow)), strict=True):
        ids = list(prompt)
        for token in text:
            assert int(next_probabilities(model, ids).argmax()) == token
            ids.append(token)
    assert tokens(answered(model, **narrow)) != tokens(answered(model))


@pytest.mark.parametrize("given", [{}, {"temperature": 0.5, "top_k": 5, "repetition_penalty": 1.3}, {"num_beams": 3}], ids=str)
def test_log_probability_and_entropy_are_the_models_own_in_bits(model, given):
    """As one more pass over prompt and answer measures them, whatever narrowed the choice."""
    for prompt, one in zip(PROMPTS, answered(model, **given), strict=True):
        (nll,), (entropy,) = _measured(model, prompt, one.tokens)
        assert one.log_probability == pytest.approx(-nll, rel=1e-4)
        assert one.entropy == pytest.approx(entropy / len(one.tokens), rel=1e-4)


def _measured(model, prompt, text):
    sums = measure(model, [Document([*prompt, *text], [*[-100] * len(prompt), *text], 0)], 300)
    return sums.nll, sums.entropy


def test_an_answer_ends_with_its_stop_token_or_with_its_room(model):
    free = tokens(answered(model, do_sample=False, stop_ids=()))
    stop = free[0][2]
    ended = answered(model, do_sample=False, stop_ids=(stop,))
    assert ended[0].tokens == free[0][: free[0].index(stop) + 1]
    assert ended[0].finish_reason == "stop"
    short = answered(model, rooms=[2, 5, 1], do_sample=False, stop_ids=())
    assert [(one.tokens, one.finish_reason) for one in short] == [
        (text[:room], "length") for text, room in zip(free, (2, 5, 1), strict=True)
    ]


def test_beams_find_what_is_likelier_and_a_length_penalty_decides_between_short_and_long(model):
    given = {"do_sample": False, "max_new_tokens": 4}
    greedy = answered(model, stop_ids=(), **given)
    beams = answered(model, stop_ids=(), num_beams=8, **given)
    assert sum(one.log_probability for one in beams) > sum(one.log_probability for one in greedy)
    ends = tuple(range(0, 300, 3))
    short = answered(model, stop_ids=ends, num_beams=4, length_penalty=-9.0, **given)
    long = answered(model, stop_ids=ends, num_beams=4, length_penalty=9.0, **given)
    assert sum(map(len, tokens(short))) < sum(map(len, tokens(long)))


def test_beams_that_are_drawn_are_the_same_again_and_leave_the_others_draws_alone(model):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first = tokens(answered(model, num_beams=2))
    assert torch.equal(torch.rand(3), expected)
    assert first == tokens(answered(model, num_beams=2))


def test_rows_of_the_vocabulary_that_the_tokenizer_does_not_know_are_never_written(model):
    last = int(next_probabilities(model, PROMPTS[0]).argmax())
    (one,) = answered(model, PROMPTS[:1], vocabulary=last, do_sample=False, stop_ids=())
    assert max(one.tokens) < last
    kept = next_probabilities(model, PROMPTS[0])[:last]
    first = answered(model, PROMPTS[:1], [1], vocabulary=last, do_sample=False, stop_ids=())[0]
    assert first.log_probability == pytest.approx(math.log2(float(kept.max() / kept.sum())), rel=1e-4)


@pytest.mark.parametrize("num_beams", [1, 2])
def test_probabilities_that_are_no_numbers_end_the_job_with_a_sentence(model, num_beams):
    model.lm_head.weight.data.fill_(float("inf"))
    with pytest.raises(JobFailure, match="no numbers") as raised:
        answered(model, num_beams=num_beams)
    assert raised.value.reason == Reason.DIVERGED
