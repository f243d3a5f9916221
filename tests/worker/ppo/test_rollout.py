import pytest
import torch

from service.specs.generating import GeneratingArguments
from service.specs.reasons import Reason
from worker.failures import JobFailure
from worker.ppo.rollout import respond
from worker.writing.batch import Manner

EOS, PAD = 1, 1
PROMPTS = [[5, 6, 7, 8, 9], [20, 21], [40]]


@pytest.fixture
def model(make_llama):
    return make_llama()


def responses(model, prompts=PROMPTS, stop_ids=(EOS,), seed=0, first=0, **given):
    manner = Manner(GeneratingArguments(**{"max_new_tokens": 8} | given), list(stop_ids), PAD)
    return respond(model, prompts, [(seed, first + number) for number in range(len(prompts))], manner)


def likeliest(model, prompt, n):
    """By one forward pass a token, without padding or cache."""
    ids = list(prompt)
    for _ in range(n):
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def test_prompts_of_unlike_lengths_are_answered_as_each_would_be_alone(model):
    greedy = responses(model, do_sample=False, stop_ids=())
    assert greedy == [likeliest(model, prompt, 8) for prompt in PROMPTS]


def test_do_sample_draws_and_the_seed_repeats_what_was_drawn(model):
    drawn = responses(model, temperature=1.0, top_p=1.0, top_k=0)
    assert drawn == responses(model, temperature=1.0, top_p=1.0, top_k=0)
    assert drawn != responses(model, do_sample=False)
    assert drawn != responses(model, temperature=1.0, top_p=1.0, top_k=0, seed=1)


def test_what_is_drawn_depends_on_the_prompts_number_and_not_on_its_batch(model):
    wide = {"temperature": 1.0, "top_p": 1.0, "top_k": 0}
    together = responses(model, **wide)
    assert together == [*responses(model, PROMPTS[:1], **wide), *responses(model, PROMPTS[1:], first=1, **wide)]
    assert together[1:] != responses(model, PROMPTS[1:], first=2, **wide)


@pytest.mark.parametrize("narrow", [{"temperature": 1e-4}, {"top_k": 1}, {"top_p": 1e-6}], ids=str)
def test_a_narrow_temperature_top_k_or_top_p_leaves_the_likeliest_token_alone(model, narrow):
    wide = {"temperature": 1.0, "top_p": 1.0, "top_k": 0}
    assert responses(model, **wide | narrow) == responses(model, do_sample=False) != responses(model, **wide)


def test_repetition_penalty_keeps_tokens_from_coming_again(model):
    (again, *_) = responses(model, do_sample=False, repetition_penalty=1e-3, stop_ids=())
    assert set(again) <= set(PROMPTS[0])
    (never, *_) = responses(model, do_sample=False, repetition_penalty=1e3, stop_ids=())
    assert len(set(never)) == 8


def test_a_response_ends_with_the_first_stop_token_and_keeps_it(model):
    without = responses(model, do_sample=False, stop_ids=())
    stop = without[0][2]
    ended = responses(model, do_sample=False, stop_ids=(EOS, stop))
    assert ended[0] == without[0][: without[0].index(stop) + 1]


def test_a_response_may_be_nothing_but_its_end(model):
    first = likeliest(model, PROMPTS[0], 1)
    assert responses(model, [PROMPTS[0]], stop_ids=first, do_sample=False) == [first]


def test_max_new_tokens_wins_over_max_length_which_counts_the_prompt(model):
    assert [len(r) for r in responses(model, max_new_tokens=3, max_length=2, stop_ids=())] == [3, 3, 3]
    assert [len(r) for r in responses(model, max_new_tokens=0, max_length=7, stop_ids=())] == [2, 5, 6]


def test_what_the_models_own_files_say_of_sampling_does_not_count(model):
    expected = responses(model, do_sample=False)
    model.generation_config.update(repetition_penalty=9.0, min_length=30, num_beams=3, eos_token_id=40)
    assert responses(model, do_sample=False) == expected


def test_dropout_is_off_while_it_writes_and_each_module_is_as_it_was_afterwards(model):
    model.train()
    model.model.layers[0].eval()
    model.config.use_cache = False  # as gradient checkpointing leaves it
    responses(model)
    assert model.training
    assert not model.model.layers[0].training


def test_probabilities_that_are_no_numbers_end_the_job_with_a_sentence(model):
    model.lm_head.weight.data.fill_(float("inf"))
    with pytest.raises(JobFailure) as raised:
        responses(model)
    assert raised.value.reason == Reason.DIVERGED
